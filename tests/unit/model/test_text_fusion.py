"""Text models without cross-attention: speech by inserted cross-attention or as a prefix, in both backends."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dragoman import ConfigError, SpeechEncoder, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel, TextDecoder
from dragoman.families import find
from dragoman.jax.buckets import pad_to_bucket
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.testing import TOLERANCES, tiny_config
from dragoman.testing.configs import DECODERS

IDS = {"decoder_start_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
PROMPT = [[5, 6], [7, 8, 9]]
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "cross-llama": ("llama", {"fusion": "cross_attention"}),
    "cross-neox": ("gpt_neox", {"fusion": "cross_attention"}),
    "prefix-gemma": ("gemma", {"fusion": "prefix", "fusion_stacking": 3, "fusion_prompt": PROMPT}),
    "cross-gemma2": ("gemma2", {"fusion": "cross_attention"}),
    "prefix-gemma3": ("gemma3_text", {"fusion": "prefix", "fusion_prompt": PROMPT}),
    "prefix-opt": ("opt", {"fusion": "prefix"}),
    "cross-opt": ("opt", {"fusion": "cross_attention"}),
}
# The others, but for those whose network is that of another one in parts.
COVERED = ("biogpt", "gpt_neo", "mistral", "phi", "qwen2", "qwen3")
KINDS |= {
    f"cross-{decoder}": (decoder, {"fusion": fusion})
    for decoder, fusion in DECODERS
    if fusion == "cross_attention" and decoder not in (*COVERED, *(name for name, _ in KINDS.values()))
}
OWN = {"opt": find("opt").variants["350m"]}
QUICK = ("cross-llama", "prefix-gemma")  # in JAX, where compiling takes seconds
BOTH = pytest.mark.parametrize("kind", KINDS)
LABELS = torch.tensor([[11, 12, 13, 2], [14, 2, -100, -100], [15, 16, 2, -100]])


def built(kind: str) -> SpeechEncoderDecoderModel:
    """Return a model whose weights all have an effect; its gates are 0.8."""
    torch.manual_seed(0)
    decoder, fields = KINDS[kind]
    encoder = tiny_config("wav2vec2", feat_extract_norm="layer", do_stable_layer_norm=True)
    config = SpeechEncoderDecoderConfig(
        encoder=encoder,
        decoder=tiny_config(decoder, tie_word_embeddings=False, **OWN.get(decoder, {})),
        **fields,
        **IDS,
    )
    model = SpeechEncoderDecoderModel(config=config).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim > 1 and not name.startswith("encoder"):
                tensor.normal_(
                    std=(1.0 if "embed" in str(name) or not decoder.startswith("gemma") else 1.2)
                    * (tensor.shape[0] / tensor.numel()) ** 0.5
                )
            if str(name).endswith("gate"):
                tensor.fill_(0.8)
    return model


def audio() -> dict[str, torch.Tensor]:
    """Return three clips of several lengths."""
    lengths = torch.tensor([[800], [500], [650]])
    mask = torch.arange(800) < lengths
    waves = torch.randn(3, 800, generator=torch.Generator().manual_seed(1)) * torch.tensor([[1.0], [0.3], [2.0]])
    return {"input_values": waves * mask, "attention_mask": mask.long()}


@pytest.mark.parametrize("family", [family for family, fusion in DECODERS if fusion == "cross_attention"])
def test_inserted_cross_attention_changes_nothing_before_training(family: str, tmp_path: Path) -> None:
    """The logits of a fresh model are those of the text model alone, to the last bit, for any speech."""
    torch.manual_seed(0)
    SpeechEncoder(tiny_config("wav2vec2", num_hidden_layers=1)).save_pretrained(tmp_path / "speech")
    alone = TextDecoder(tiny_config(family)).eval()
    with torch.no_grad():
        for tensor in alone.parameters():
            if tensor.ndim > 1:
                tensor.normal_(std=0.4)
    alone.save_pretrained(tmp_path / "text")
    folders = tmp_path / "speech", tmp_path / "text"
    tokens = torch.randint(3, 99, (3, 7), generator=torch.Generator().manual_seed(2))
    waves, mask = audio().values()
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(*folders, fusion="cross_attention")
    with torch.no_grad():
        expected = alone(tokens).logits
        assert torch.equal(model(waves, mask, decoder_input_ids=tokens).logits, expected)
        model.decoder.stack.layers[0].cross_attn_gate.fill_(0.5)
        assert not torch.equal(model(waves, mask, decoder_input_ids=tokens).logits, expected)
    flax = FlaxSpeechEncoderDecoderModel.from_encoder_decoder_pretrained(*folders, fusion="cross_attention")
    first, other = (
        np.asarray(flax(x.numpy(), mask.numpy(), decoder_input_ids=tokens.numpy()).logits) for x in (waves, 3 - waves)
    )
    assert np.array_equal(first, other)
    assert np.abs(first - expected.numpy()).max() <= TOLERANCES["logits"]


@BOTH
def test_new_weights_get_gradients(kind: str) -> None:
    model = built(kind).train()
    model(**audio(), labels=LABELS).loss.backward()
    new = [t for n, t in model.named_parameters() if "cross_attn" in n or n.startswith("bridge")]
    assert new
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in new)


@BOTH
def test_padding_does_not_change_the_result(kind: str) -> None:
    model, batch = built(kind), audio()
    with torch.no_grad():
        together = model(**batch, labels=LABELS).logits
        sequences = model.generate(**batch, max_new_tokens=6, num_beams=2)
        for row, samples in enumerate((800, 500, 650)):
            clip = {"input_values": batch["input_values"][row : row + 1, :samples]}
            alone = model(**clip, labels=LABELS[row : row + 1, : int((LABELS[row] != -100).sum())]).logits
            assert (alone - together[row : row + 1, : alone.shape[1]]).abs().max() <= TOLERANCES["batch"]
            single = model.generate(**clip, max_new_tokens=6, num_beams=2)
            assert torch.equal(single[0], sequences[row, : single.shape[1]])


@pytest.mark.parametrize("kind", ["prefix-gemma", "prefix-opt", "cross-opt"])
def test_prompts_of_several_lengths_equal_single_prompts(kind: str) -> None:
    """A prompt padded on the left gives the sequence and logits that it gives alone."""
    model, batch = built(kind), audio()
    prompts = torch.tensor([[0, 11, 12, 13], [1, 1, 0, 14], [1, 0, 15, 16]])
    counts = (prompts != 1).long()
    given = {"decoder_input_ids": prompts, "decoder_attention_mask": counts}
    texts = model.generate(**batch, **given, max_new_tokens=6, num_beams=2)
    with torch.no_grad():
        together = model(**batch, **given).logits
    for row, samples in enumerate((800, 500, 650)):
        clip = {"input_values": batch["input_values"][row : row + 1, :samples]}
        prompt = prompts[row : row + 1, 4 - int(counts[row].sum()) :]
        text = model.generate(**clip, decoder_input_ids=prompt, max_new_tokens=6, num_beams=2)[0, prompt.shape[1] :]
        assert torch.equal(text, texts[row, 4 : 4 + len(text)])
        with torch.no_grad():
            alone = model(**clip, decoder_input_ids=prompt).logits[0]
        assert (alone - together[row, -len(alone) :]).abs().max() <= TOLERANCES["batch"]


@BOTH
@pytest.mark.parametrize("beams", [1, 3])
def test_cached_decoding_equals_full_decoding(kind: str, beams: int) -> None:
    model, batch = built(kind), audio()
    found = model.generate(
        **batch, max_new_tokens=5, num_beams=beams, eos_token_id=None, return_dict_in_generate=True, output_logits=True
    )
    assert len({tuple(row) for row in found.sequences[:, 1:].tolist()}) > 1  # the result depends on the speech
    if beams > 1:
        return
    with torch.no_grad():
        logits = model(**batch, decoder_input_ids=found.sequences[:, :-1]).logits
        assert (logits - torch.stack(found.logits, 1)).abs().max() <= TOLERANCES["cached"]
        cached = model(**batch, decoder_input_ids=found.sequences[:, :2], use_cache=True)
        rest = model(**batch, decoder_input_ids=found.sequences[:, 2:-1], past_key_values=cached.past_key_values)
        assert (rest.logits - logits[:, 2:]).abs().max() <= TOLERANCES["cached"]


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in QUICK else [pytest.mark.nightly]) for kind in KINDS]
)
def test_saved_model_is_read_by_both_backends(kind: str, tmp_path: Path) -> None:
    model, batch = built(kind), audio()
    model.save_pretrained(tmp_path / "torch")
    assert json.loads((tmp_path / "torch/config.json").read_text())["fusion"] == KINDS[kind][1]["fusion"]
    flax = FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path / "torch")
    arrays = {name: tensor.numpy() for name, tensor in batch.items()}
    with torch.no_grad():
        expected = model(**batch, labels=LABELS)
    ours = flax(**arrays, labels=LABELS.numpy())
    assert np.abs(np.asarray(ours.logits) - expected.logits.numpy()).max() <= TOLERANCES["logits"]
    assert abs(float(ours.loss) - float(expected.loss)) <= TOLERANCES["loss"]
    steps = {"return_dict_in_generate": True, "output_scores": True}
    for options in {"cross-llama": [{"num_beams": 3}], "prefix-gemma": [{}]}.get(kind, [{"num_beams": 3}, steps]):
        texts = model.generate(**batch, max_new_tokens=8, **options)
        flax_texts = flax.generate(**arrays, max_new_tokens=8, **options)
        if options.get("output_scores"):
            texts, flax_texts = texts.sequences, flax_texts.sequences
        assert np.array_equal(np.asarray(flax_texts), texts.numpy())
    flax.save_pretrained(tmp_path / "jax")
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path / "jax")
    assert {n: t.tolist() for n, t in again.state_dict().items()} == {
        n: t.tolist() for n, t in model.state_dict().items()
    }


def test_warm_start_reports_new_weights(tmp_path: Path) -> None:
    built("cross-llama").encoder.save_pretrained(tmp_path / "speech")
    TextDecoder(tiny_config("llama")).save_pretrained(tmp_path / "text")
    folders = tmp_path / "speech", tmp_path / "text"
    with pytest.raises(ConfigError, match=r"'llama'.*cross_attention.*prefix"):
        SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(*folders)
    for fusion, words in ("cross_attention", {"cross_attn", "proj"}), ("prefix", {"in_proj", "out_proj"}):
        for cls in SpeechEncoderDecoderModel, FlaxSpeechEncoderDecoderModel:
            model = cls.from_encoder_decoder_pretrained(*folders, fusion=fusion)
            assert model.config.fusion == fusion
            fresh = model.load_report.fresh
            assert all(any(word in name for word in words) or "cross_attn" in name for name in fresh)
            assert len(fresh) == {"cross_attention": 2 * (6 + 1) + 2, "prefix": 4}[fusion] + (
                6 if fusion == "cross_attention" and tiny_config("llama").attention_bias else 0  # type: ignore[attr-defined]
            )


@pytest.mark.parametrize(
    ("decoder", "fields", "words"),
    [
        ("llama", {}, "no cross-attention of its own"),
        ("llama", {"fusion": "adapter"}, "`fusion` must be 'cross_attention' or 'prefix'"),
        ("llama", {"fusion": "prefix", "fusion_stacking": 0}, "fusion_stacking"),
        ("llama", {"fusion": "prefix", "fusion_prompt": [[1]]}, "two lists of token ids"),
        ("llama", {"fusion": "prefix", "fusion_prompt": [[100], []]}, "ids below 99, but has \\[100\\]"),
        ("llama", {"fusion": "cross_attention", "fusion_stacking": 2}, 'fusion="prefix" only'),
        ("bert", {"fusion_stacking": 2}, 'fusion="prefix" only'),
        ("bart", {"fusion": "prefix"}, "has cross-attention, so speech cannot be its prefix"),
    ],
)
def test_invalid_fusion_is_refused(decoder: str, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SpeechEncoderDecoderModel(
            config=SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=tiny_config(decoder), **fields)
        )


def test_fusion_is_dropped_for_decoders_with_cross_attention() -> None:
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config("wav2vec2"), decoder=tiny_config("bert"), fusion="cross_attention"
    )
    assert config.fusion is None
    assert "fusion" not in config.to_dict()


def test_prefix_reduces_the_maximum_length() -> None:
    model = built("prefix-opt")
    frames = model.encoder.spec.frame_lengths(800)
    assert model.max_text_length(frames) == 64 - (frames + 3) // 4
    with pytest.warns(UserWarning, match="can take only"):
        model.generate(**audio(), max_length=64)


def test_maximum_length_follows_from_frames_not_features() -> None:
    """In JAX it is computed before the encoder runs, from inputs whose axes depend on the front end."""
    encoder = tiny_config("wav2vec2-bert")
    model = FlaxSpeechEncoderDecoderModel(
        config=SpeechEncoderDecoderConfig(encoder=encoder, decoder=tiny_config("opt"), fusion="prefix", **IDS)
    )
    shape = model.encoder.spec.frontend.input_shape(1, 32)
    features = np.zeros(shape, np.float32)
    prepared = model.encoder.prepare(features, None)
    padded, _ = pad_to_bucket(model.encoder, *prepared, 1)
    frames = model.encode(padded).last_hidden_state.shape[1]
    with pytest.warns(UserWarning, match=f"can take only {model.max_text_length(frames)}:"):
        ids = model.generate(input_features=features, eos_token_id=None, max_new_tokens=1_000)
    assert ids.shape[1] == model.max_text_length(frames)


def test_jax_cache_has_room_for_the_prefix() -> None:
    model = FlaxSpeechEncoderDecoderModel(
        config=SpeechEncoderDecoderConfig(
            encoder=tiny_config("wav2vec2", num_hidden_layers=1),
            decoder=tiny_config("opt", num_hidden_layers=1),
            fusion="prefix",
            **IDS,
        )
    )
    waves, tokens = (
        np.random.default_rng(0).standard_normal((2, 800)).astype(np.float32),
        np.array([[0, 5, 6], [0, 7, 8]]),
    )
    expected = model(waves, decoder_input_ids=tokens).logits
    start = model(waves, decoder_input_ids=tokens[:, :2], use_cache=True)
    rest = model(waves, decoder_input_ids=tokens[:, 2:], past_key_values=start.past_key_values)
    found = np.concatenate([start.logits, rest.logits], axis=1)
    assert np.abs(found - expected).max() <= TOLERANCES["logits"]
