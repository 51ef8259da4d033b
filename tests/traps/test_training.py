"""Traps of training and processing (upstream's behaviour, sections 2.6 and 4): what happens here instead."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from dragoman import (
    AudioError,
    AutoFeatureExtractor,
    AutoProcessor,
    AutoTokenizer,
    ModelNotFoundError,
    SpeechEncoderDecoderModel,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)
from dragoman.testing import tiny_config

Speech = Callable[..., torch.Tensor]
LABELS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ein", "wort", "und", "##e")


def losses(model: SpeechEncoderDecoderModel, waves: torch.Tensor, seed: int, steps: int = 3) -> list[float]:
    torch.manual_seed(seed)
    return [model(waves, labels=LABELS[: len(waves)]).loss.item() for _ in range(steps)]


@pytest.mark.parametrize("samples", [40, 80, 200, 439, 440])
def test_trap_4_1_clips_shorter_than_a_mask_can_be_trained_on(build: Any, speech: Speech, samples: int) -> None:
    """Upstream raises below ten frames, which is 0.21 seconds."""
    model = build(encoder_mask_time_prob=0.9, encoder_mask_feature_prob=0.9, encoder_mask_feature_length=64).train()
    loss = model(speech(2, samples), labels=LABELS).loss
    loss.backward()
    assert loss.isfinite()


def test_trap_4_1_masks_obey_the_seed_of_pytorch_and_no_other(build: Any, speech: Speech) -> None:
    """Upstream draws them from NumPy's global state."""
    model = build(
        encoder_mask_time_prob=0.5, encoder_mask_feature_prob=0.5, encoder_mask_feature_length=2, encoder_layerdrop=0.0
    ).train()
    np.random.seed(0)
    before = losses(model, speech(2), seed=0)
    assert losses(model, speech(2), seed=0) == before
    assert losses(model, speech(2), seed=1) != before
    assert np.random.random() == np.random.RandomState(0).random()


def test_trap_4_1_masks_hide_the_frames_of_the_clip_and_not_its_padding(build: Any, speech: Speech) -> None:
    model = build(encoder_mask_time_prob=1.0, encoder_mask_time_length=5, encoder_mask_time_min_masks=2)
    wave = speech(2)
    mask = (torch.arange(1600) < torch.tensor([[1600], [600]])).long()
    hidden = torch.zeros(2, 40, dtype=torch.bool)
    hidden[0, 3:8] = True
    plain, masked = model.encoder(wave, mask), model.encoder(wave, mask, mask_time_indices=hidden)
    assert not torch.allclose(plain.last_hidden_state[0], masked.last_hidden_state[0])
    torch.testing.assert_close(plain.last_hidden_state[1], masked.last_hidden_state[1])


def test_trap_4_1_evaluation_hides_nothing(build: Any, speech: Speech) -> None:
    model = build(encoder_mask_time_prob=1.0, encoder_layerdrop=1.0)
    assert len(set(losses(model, speech(2), seed=0))) == 1


def test_trap_4_2_layerdrop_obeys_the_seed_and_keeps_the_places_of_states(build: Any, speech: Speech) -> None:
    fields = dict.fromkeys(("encoder_hidden_dropout", "encoder_attention_dropout", "encoder_activation_dropout"), 0.0)
    fields |= {f"decoder_{name}": 0.0 for name in ("hidden_dropout_prob", "attention_probs_dropout_prob")}
    model = build(
        **fields, encoder_layerdrop=0.5, encoder_apply_spec_augment=False, encoder_num_hidden_layers=4
    ).train()
    assert losses(model, speech(2), 0) == losses(model, speech(2), 0)
    assert len(set(losses(model, speech(2), 0, steps=12))) > 2
    torch.manual_seed(1)
    output = model(speech(2), labels=LABELS, output_hidden_states=True, output_attentions=True)
    assert len(output.encoder_hidden_states) == 5
    assert len(output.encoder_attentions) == 4
    skipped = [i for i, weights in enumerate(output.encoder_attentions) if weights is None]
    assert skipped
    for i in skipped:
        assert output.encoder_hidden_states[i].equal(output.encoder_hidden_states[i + 1])


def test_trap_4_2_layerdrop_does_not_touch_the_random_state_of_evaluation(build: Any, speech: Speech) -> None:
    """Upstream draws for every layer even then, so that sampling depends on the encoder's depth."""
    model = build(encoder_layerdrop=0.5)
    before = torch.get_rng_state()
    model(speech(2), labels=LABELS)
    assert torch.get_rng_state().equal(before)


def test_trap_4_3_a_clip_is_normalised_alone_with_or_without_a_mask() -> None:
    """Upstream's statistics include the padding where the checkpoint asks for no mask: most base models."""
    clips = [np.random.default_rng(i).standard_normal(n).astype("float32") + 1 for i, n in enumerate((900, 400))]
    for mask in True, False:
        extract = Wav2Vec2FeatureExtractor(return_attention_mask=mask)
        batch = extract(clips, padding=True, sampling_rate=16_000, return_tensors="np").input_values
        for row, clip in zip(batch, clips, strict=True):
            alone = extract(clip, sampling_rate=16_000, return_tensors="np").input_values[0]
            np.testing.assert_allclose(row[: len(clip)], alone, atol=1e-6)
            assert (row[len(clip) :] == 0).all()
    theirs = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=False)
    ours = Wav2Vec2FeatureExtractor(return_attention_mask=False, reference_padding=True)
    options = {"padding": True, "sampling_rate": 16_000, "return_tensors": "np"}
    np.testing.assert_allclose(ours(clips, **options).input_values, theirs(clips, **options).input_values, atol=1e-6)


def test_trap_4_3_stereo_is_not_taken_for_two_clips() -> None:
    with pytest.raises(AudioError, match=r"channel|stereo|mono"):
        Wav2Vec2FeatureExtractor()(np.zeros((1, 2, 16_000), dtype="float32"), sampling_rate=16_000)
    with pytest.raises(AudioError, match=r"channel|stereo|mono|soundfile"):
        Wav2Vec2FeatureExtractor()(np.zeros((16_000, 2), dtype="float32"), sampling_rate=16_000)


def test_trap_4_3_another_rate_is_an_error_and_none_a_remark(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AudioError, match=r"44100.*16000|16000.*44100"):
        Wav2Vec2FeatureExtractor()(np.zeros(900, dtype="float32"), sampling_rate=44_100)
    with caplog.at_level(logging.WARNING, logger="dragoman"):
        Wav2Vec2FeatureExtractor()(np.zeros(900, dtype="float32"))
    assert "sampling_rate" in caplog.text


@pytest.fixture
def text(tmp_path: Path) -> Any:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (tmp_path / "text" / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return AutoTokenizer.from_pretrained(tmp_path / "text")


def test_trap_4_4_a_saved_warm_start_is_a_complete_folder(
    build: Any, speech: Speech, text: Any, tmp_path: Path
) -> None:
    """Upstream saves no processor files, and AutoProcessor refuses this type of model."""
    half = build(decoder_vocab_size=len(WORDS))
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(
        encoder_model=half.encoder,
        decoder_model=half.decoder,
        tokenizer=text,
        feature_extractor=Wav2Vec2FeatureExtractor(),
    )
    assert model.config.decoder_start_token_id == text.cls_token_id
    assert model.config.eos_token_id == text.sep_token_id
    model.save_pretrained(tmp_path / "whole")
    processor = AutoProcessor.from_pretrained(tmp_path / "whole")
    assert isinstance(processor, Wav2Vec2Processor)
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path / "whole")
    batch = processor(speech()[0].numpy(), text="ein wort", sampling_rate=16_000, return_tensors="pt")
    assert batch.labels.tolist() == [[2, 5, 6, 3]]
    assert again(batch.input_values, labels=batch.labels).loss.isfinite()
    words = processor.batch_decode(again.generate(batch.input_values, max_new_tokens=8), skip_special_tokens=True)
    assert "[" not in words[0]


def test_trap_4_4_repeated_tokens_of_a_text_stay(text: Any) -> None:
    """A CTC tokenizer would merge them."""
    assert text.batch_decode(torch.tensor([[2, 6, 6, 6, 3, 0]]), skip_special_tokens=True) == ["wort wort wort"]


@pytest.mark.parametrize("stated", [None, "mbart50", "speech_to_text_2", "BertTokenizerFast"])
def test_trap_4_5_the_tokenizer_of_a_composite_is_found(text: Any, tmp_path: Path, stated: str | None) -> None:
    """Upstream: a bare KeyError with a class as its message, or "does not exist or is not currently imported"."""
    folder = tmp_path / "text"
    decoder = tiny_config("bert", vocab_size=len(WORDS)).to_dict()
    config = {"model_type": "speech-encoder-decoder", "encoder": tiny_config("hubert").to_dict(), "decoder": decoder}
    if stated is not None:
        config["tokenizer_class"] = stated  # what tokenizer_config.json says comes first
    else:
        (folder / "tokenizer_config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))
    assert AutoTokenizer.from_pretrained(folder)("ein wort").input_ids == [2, 5, 6, 3]


def test_trap_4_5_missing_processing_files_are_named(build: Any, tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"preprocessor_config\.json"):
        AutoFeatureExtractor.from_pretrained(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"tokenizer\.json.*vocab\.txt"):
        AutoTokenizer.from_pretrained(tmp_path)


def test_trap_9_5_a_start_that_the_tokenizer_writes_is_not_learned_twice(build: Any, speech: Speech, text: Any) -> None:
    """[CLS] in the labels and [CLS] before them: upstream's model learns to begin with [CLS] [CLS]."""
    model = build(decoder_vocab_size=len(WORDS), decoder_start_token_id=2, pad_token_id=0, eos_token_id=3)
    labels = text(["ein wort", "und"], padding=True, return_tensors="pt").input_ids
    assert (labels[:, 0] == 2).all()
    labels[labels == 0] = -100
    with_start, without = model(speech(2), labels=labels), model(speech(2), labels=labels[:, 1:])
    torch.testing.assert_close(with_start.loss, without.loss)
    torch.testing.assert_close(with_start.logits[:, :-1], without.logits)
    mixed = labels.clone()
    mixed[1, 0] = 7  # a row that begins otherwise: then the start id is a word like any other
    assert not torch.allclose(model(speech(2), labels=mixed).loss, model(speech(2), labels=mixed[:, 1:]).loss)
