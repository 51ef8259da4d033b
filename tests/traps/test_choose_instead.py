"""The behaviour chosen instead of upstream's, point by point (upstream's behaviour, section 11).

What a point has in common with a trap of an earlier section is tested there; here is the rest of it.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

import dragoman
from dragoman import ConfigError, GenerationError, SpeechEncoderDecoderModel, Wav2Vec2FeatureExtractor
from dragoman.testing import tiny_config

Speech = Callable[..., torch.Tensor]
LABELS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])


def test_choose_instead_01_ids_come_from_the_composite_then_the_decoder(build: Any) -> None:
    """A start id, else the id that begins a text; each from the composite first, then the decoder's own."""
    none = {"decoder_start_token_id": None, "pad_token_id": None, "eos_token_id": None}
    model = build(decoder="bart", **none, decoder_bos_token_id=4, decoder_decoder_start_token_id=5)
    assert model.config.special_id("decoder_start_token_id") == 5
    assert model.config.special_id("pad_token_id") == 1
    model.config.decoder.decoder_start_token_id = None
    assert model.config.special_id("decoder_start_token_id") == 4
    model.config.bos_token_id = 6
    assert model.config.special_id("decoder_start_token_id") == 6
    model.config.decoder.decoder_start_token_id = 5
    assert model.config.special_id("decoder_start_token_id") == 5
    model.generation_config.decoder_start_token_id = 7
    assert model.config.special_id("decoder_start_token_id") == 7
    assert model.prepare_decoder_input_ids_from_labels(LABELS)[0, 0] == 7


class Tokens:
    """Any object with ids is a tokenizer to the warm start."""

    def __init__(self, **ids: int) -> None:
        self.__dict__.update(ids)

    def save_pretrained(self, folder: str) -> None:
        Path(folder, "tokens.json").write_text(json.dumps(self.__dict__))


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        ({"cls_token_id": 9, "sep_token_id": 8, "pad_token_id": 7}, (9, 8, 7)),  # BERT
        ({"bos_token_id": 9, "eos_token_id": 9}, (9, 9, 9)),  # GPT-2, which has no padding
        ({"cls_token_id": 4, "bos_token_id": 4, "sep_token_id": 5, "eos_token_id": 5, "pad_token_id": 1}, (4, 5, 1)),
    ],
)
def test_choose_instead_02_ids_are_inferred_from_a_tokenizer(
    build: Any, tmp_path: Path, ids: dict[str, int], wanted: tuple[int, int, int]
) -> None:
    half = build()
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(
        encoder_model=half.encoder, decoder_model=half.decoder, tokenizer=Tokens(**ids)
    )
    config = model.config
    assert (config.decoder_start_token_id, config.eos_token_id, config.pad_token_id) == wanted
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokens.json").read_text()) == ids


def test_choose_instead_03_parts_that_cannot_be_joined_say_so_at_construction(build: Any) -> None:
    half = build()
    with pytest.raises(ConfigError, match="encoder must be a speech encoder"):
        SpeechEncoderDecoderModel(encoder=half.decoder, decoder=half.decoder)
    with pytest.raises(ConfigError, match="decoder must be a text decoder"):
        SpeechEncoderDecoderModel(encoder=half.encoder, decoder=torch.nn.Linear(1, 1))


@pytest.mark.parametrize(
    "fields", [{"encoder_hidden_size": 24}, {"encoder_add_adapter": True, "encoder_output_hidden_size": 24}]
)
def test_choose_instead_03_no_projection_where_the_real_widths_are_equal(
    build: Any, speech: Speech, tmp_path: Path, fields: dict[str, Any]
) -> None:
    model = build(**fields)
    assert list(model.bridge.parameters()) == []
    model.save_pretrained(tmp_path)
    assert not any("enc_to_dec" in name for name in load_file(tmp_path / "model.safetensors"))
    assert model(speech(2), labels=LABELS).loss.isfinite()


@pytest.mark.parametrize("adapter", [False, True])
def test_choose_instead_04_a_clip_of_one_frame_beside_a_long_one(build: Any, speech: Speech, adapter: bool) -> None:
    model = build(encoder_add_adapter=adapter)
    shortest = model.encoder.spec.shortest_input
    long, short = speech(1, 4000), speech(1, shortest, seed=1)
    batch = torch.cat([long, torch.nn.functional.pad(short, (0, 4000 - shortest), value=7.0)])
    mask = (torch.arange(4000) < torch.tensor([[4000], [shortest]])).long()
    both = model(batch, mask, decoder_input_ids=LABELS.clamp(min=0)).logits
    alone = model(short, decoder_input_ids=LABELS[1:].clamp(min=0)).logits
    assert both.isfinite().all()
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=0)


def test_choose_instead_05_every_tensor_of_a_checkpoint_is_accounted_for(tmp_path: Path) -> None:
    """Loaded, left out for a reason, or new: the three lists are complete."""
    config = transformers.AutoConfig.for_model(**tiny_config("bart").to_dict())
    transformers.BartForConditionalGeneration(config).save_pretrained(tmp_path)
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(
        encoder_model=dragoman.SpeechEncoder(tiny_config("hubert")), decoder_pretrained_model_name_or_path=tmp_path
    )
    report = model.load_report
    decoder = {f"decoder.{name}" for name in model.decoder.state_dict()}
    assert set(report.loaded) == decoder
    assert set(report.fresh) == {"bridge.proj.weight", "bridge.proj.bias"}
    assert len(report.dropped) + len(report.loaded) == len(load_file(tmp_path / "model.safetensors"))
    assert all(why for why in report.dropped.values())


def test_choose_instead_06_configurations_of_the_caller_stay_as_they_are(tmp_path: Path) -> None:
    """Also of the parts: a model made of them has copies."""
    encoder, decoder = tiny_config("wav2vec2"), tiny_config("bert")
    before = encoder.to_dict(), decoder.to_dict()
    config = dragoman.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    model = SpeechEncoderDecoderModel(config=config)
    model.resize_token_embeddings(200)
    model.config.decoder.pad_token_id = 77
    assert (encoder.to_dict(), decoder.to_dict()) == before


def test_choose_instead_07_freezing_helpers(build: Any, speech: Speech) -> None:
    model = build(encoder_add_adapter=True).train()
    model.freeze_encoder()
    model(speech(2), labels=LABELS).loss.backward()
    assert all(p.grad is None for p in model.encoder.parameters())
    assert model.bridge.proj.weight.grad.abs().sum() > 0
    alone = build("hubert").encoder.train()
    alone.freeze_feature_encoder()
    alone(speech(2)).last_hidden_state.sum().backward()
    assert all(p.grad is None for p in alone.frontend.convs.parameters())


def test_choose_instead_08_accumulated_batches_are_one_batch(build: Any, speech: Speech) -> None:
    """Gradients of two small batches, divided by the tokens of both, are those of the large one."""
    waves = speech(2)

    def gradients(*batches: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
        model = build()
        for audio, labels in batches:
            model(audio, labels=labels, num_items_in_batch=7).loss.backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    whole = gradients((waves, LABELS))
    parts = gradients((waves[:1], LABELS[:1]), (waves[1:], LABELS[1:]))
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_choose_instead_08_label_smoothing_is_that_of_the_papers(build: Any, speech: Speech) -> None:
    model = build()
    output = model(speech(2), labels=LABELS, smoothing=0.1)
    log_probs = output.logits.log_softmax(-1)[LABELS != -100]
    target = LABELS[LABELS != -100]
    wanted = 0.9 * -log_probs.gather(1, target[:, None]).mean() + 0.1 * -log_probs.mean()
    torch.testing.assert_close(output.loss, wanted)


def test_choose_instead_09_explicit_masks_hide_also_in_evaluation(build: Any, speech: Speech) -> None:
    """Training scripts of pre-training pass them; frames become the learned vector."""
    model = build(encoder_mask_time_prob=0.1)
    everything = torch.ones(1, 40, dtype=torch.bool)
    one = model.encoder(speech(1), mask_time_indices=everything).last_hidden_state
    other = model.encoder(speech(1, seed=1), mask_time_indices=everything).last_hidden_state
    assert one.equal(other)


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"num_beams": 3, "force_words_ids": [[5]]},
    ],
    ids=lambda options: next(name for name in options if name not in ("num_beams", "top_k")),
)
def test_choose_instead_10_exotic_searches_work_or_say_clearly_that_they_do_not(
    build: Any, speech: Speech, options: dict[str, Any]
) -> None:
    """Upstream fetches code from repositories for them."""
    model = build()
    try:
        ids = model.generate(speech(2), max_new_tokens=6, **options)
    except GenerationError as error:
        assert re.search(r"force_words_ids|penalty_alpha|num_beam_groups", str(error))  # noqa: PT017
    else:
        assert ids.shape[0] == 2
        assert (ids[:, 0] == 3).all()


def test_choose_instead_11_resizing_keeps_a_tie_and_an_untied_head(build: Any, speech: Speech) -> None:
    for decoder in "bert", "gpt2", "bart":
        for tied in True, False:
            model = build(decoder=decoder, decoder_tie_word_embeddings=tied)
            for size in 120, 50:
                model.resize_token_embeddings(size)
                assert model(speech(2), labels=LABELS).logits.shape[-1] == size
                assert model.get_input_embeddings().num_embeddings == size
            assert (model.get_output_embeddings().weight is None) is tied
    with pytest.raises(ConfigError, match="new_num_tokens"):
        model.resize_token_embeddings(0)


def test_choose_instead_12_decoders_that_are_not_there_are_refused_by_name(build: Any) -> None:
    """T5 needs a decoder of another kind; the error names those that are there."""
    for model_type in "prophetnet", "whisperer":
        with pytest.raises(ConfigError, match=rf"{model_type}.*(bert|whisper)"):
            dragoman.SpeechEncoderDecoderConfig(encoder=tiny_config("hubert"), decoder={"model_type": model_type})


def test_choose_instead_13_features_do_not_depend_on_the_batch() -> None:
    """Down to clips that are silent or of one loudness, at any padding."""
    clips = [np.zeros(700, "float32"), np.full(500, 0.3, "float32"), np.linspace(-1, 1, 900, dtype="float32")]
    for mask in True, False:
        extract = Wav2Vec2FeatureExtractor(return_attention_mask=mask)
        batch = extract(clips, padding=True, pad_to_multiple_of=256, sampling_rate=16_000, return_tensors="np")
        assert np.isfinite(batch.input_values).all()
        for row, clip in zip(batch.input_values, clips, strict=True):
            alone = extract(clip, sampling_rate=16_000, return_tensors="np").input_values[0]
            np.testing.assert_allclose(row[: len(clip)], alone, atol=1e-6)


def test_choose_instead_14_a_saved_folder_has_upstreams_files_and_names(build: Any, tmp_path: Path) -> None:
    """Names, nesting and metadata of what is written are those that transformers writes for the same model."""
    torch.manual_seed(0)
    theirs = transformers.SpeechEncoderDecoderModel(
        config=transformers.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
            transformers.AutoConfig.for_model(**tiny_config("wav2vec2").to_dict()),
            transformers.AutoConfig.for_model(**tiny_config("bert").to_dict()),
        )
    )
    theirs.save_pretrained(tmp_path / "theirs")
    build().save_pretrained(tmp_path / "ours")
    files = [{path.name for path in (tmp_path / side).iterdir()} for side in ("theirs", "ours")]
    assert files[0] == files[1]
    wanted, found = (load_file(tmp_path / side / "model.safetensors") for side in ("theirs", "ours"))
    assert {name: tensor.shape for name, tensor in wanted.items()} == {n: t.shape for n, t in found.items()}
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert config["architectures"] == ["SpeechEncoderDecoderModel"]
    assert config["model_type"] == "speech-encoder-decoder"
    assert (config["encoder"]["model_type"], config["decoder"]["model_type"]) == ("wav2vec2", "bert")
    assert config["decoder"]["is_decoder"] is config["decoder"]["add_cross_attention"] is True
    with (tmp_path / "ours" / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert header["__metadata__"] == {"format": "pt"}


def test_every_point_has_its_test() -> None:
    assert {name[20:22] for name in globals() if name.startswith("test_choose_instead_")} == {
        f"{i:02}" for i in range(1, 15)
    }
