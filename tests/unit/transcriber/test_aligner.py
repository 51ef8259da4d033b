"""Alignment with every family: frame times of the encoders, cross-attention of the decoders."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dragoman import ConfigError, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.families import FAMILIES
from dragoman.generation.alignment import align, alignment_matrix, pick_heads
from dragoman.spec import PieceFrontendSpec
from dragoman.testing import tiny_config
from dragoman.torch.runner import Runner
from dragoman.transcriber.aligner import check_alignable
from dragoman.transcriber.engine import Engine
from dragoman.transcriber.result import ModelInfo

ENCODERS = [family.config.model_type for family in FAMILIES if family.speech]
DECODERS = [family.config.model_type for family in FAMILIES if family.text]


@pytest.mark.parametrize("family", ENCODERS)
@pytest.mark.parametrize("adapter", [False, True])
def test_frames_are_one_hop_apart(family, adapter):
    fields = {"add_adapter": True} if adapter else {}
    if adapter and "add_adapter" not in type(tiny_config(family)).__dataclass_fields__:
        pytest.skip(f"{family} has no adapter")
    spec = tiny_config(family, **fields).speech_spec()
    front = spec.frontend
    step, frames = (front.piece, front.states) if isinstance(front, PieceFrontendSpec) else (spec.hop, 1)
    for inputs in (spec.shortest_input + 50, 1003, 40_961):
        assert spec.frame_lengths(inputs + 7 * step) == spec.frame_lengths(inputs) + 7 * frames


def test_states_of_pieces_begin_anew_with_each_piece():
    front = tiny_config("qwen3_asr_encoder", n_window=50).speech_spec().frontend
    starts = front.starts(np.arange(3 * front.states))
    assert front.states == 13
    assert starts.tolist() == [piece * 100 + 8 * state for piece in range(3) for state in range(13)]


def joined(family, fusion):
    config = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
        tiny_config("wav2vec2"), tiny_config(family), fusion=fusion
    )
    return SpeechEncoderDecoderModel(config=config)


def test_a_decoder_without_cross_attention_is_refused():
    engine = Engine(Runner(joined("llama", "prefix")), SimpleNamespace(tokenizer=None), ModelInfo(name="some/llama"))
    with pytest.raises(
        ConfigError, match=r"cross-attention, but that of some/llama has none.*Leave `word_timestamps` out"
    ):
        check_alignable(engine)


@pytest.mark.parametrize("family", DECODERS)
def test_a_decoder_with_cross_attention_can_be_aligned(family):
    torch.manual_seed(0)
    runner = Runner(joined(family, "cross_attention"))
    stack = runner.loaded.decoder.spec.stack
    encoded = runner.encode({
        "input_values": np.random.default_rng(0).standard_normal((2, 4_000)).astype(np.float32),
        "attention_mask": np.array([[1] * 4_000, [1] * 2_000 + [0] * 2_000]),
    })  # fmt: skip
    heads = pick_heads(None, stack.num_layers, stack.block.self_attn.num_heads)
    weights = np.stack(list(runner.cross_attention(encoded, np.array([[2, 5, 7, 9], [2, 8, 6, 4]]), heads)))
    frames = runner.loaded.encoder.spec.frame_lengths(4_000)
    assert weights.shape == (2, len(heads), 4, frames)
    assert np.allclose(weights.sum(axis=-1), 1, atol=1e-5)
    assert not weights[1, :, :, runner.loaded.encoder.spec.frame_lengths(2_000) :].any()
    begins = align(alignment_matrix(weights[0]))
    assert begins[0] == 0
    assert (np.diff(begins) >= 0).all()


def test_rows_are_computed_one_by_one_when_memory_is_short(monkeypatch):
    runner = Runner(joined("gpt2", "cross_attention"))
    audio = np.random.default_rng(0).standard_normal((3, 2_000)).astype(np.float32)
    encoded, tokens = runner.encode({"input_values": audio}), np.array([[2, 5], [2, 8], [2, 9]])
    together = list(runner.cross_attention(encoded, tokens, [(0, 1), (1, 0)]))
    monkeypatch.setattr("dragoman.batch._NUMBERS_AT_ONCE", 1)
    apart = list(runner.cross_attention(encoded, tokens, [(0, 1), (1, 0)]))
    assert len(together) == len(apart) == 3
    assert all(np.allclose(one, other, atol=1e-6) for one, other in zip(together, apart, strict=True))
