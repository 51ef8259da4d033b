"""`torch.compile` and `torch.export`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dragoman import SpeechEncoder
from dragoman.families import FAMILIES
from dragoman.testing import tiny_config

Speech = Callable[..., torch.Tensor]

LABELS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])

MASK = (torch.arange(1600) < torch.tensor([[1600], [900]])).long()

LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}

ENCODERS: list[tuple[str, dict[str, Any]]] = [
    *[(family.model_type, {}) for family in FAMILIES if family.speech],
    ("wav2vec2", {**LAYER_NORM, "add_adapter": True, "adapter_attn_dim": 8}),
    ("hubert", {"conv_pos_batch_norm": True, "feat_proj_layer_norm": False}),
    ("wavlm", LAYER_NORM),
]

# Another encoder of the list has all of their parts: compiled to machine code in nightly runs only.
COVERED = [("wav2vec2", {}), ("hubert", {}), ("wavlm", {}), ("unispeech", {}), ("unispeech-sat", {})]


def check_compiled(name: str, fields: dict[str, Any], backend: str) -> None:
    encoder = SpeechEncoder(tiny_config(name, **fields)).eval()
    front = encoder.spec.frontend
    size = {"samples": 1600, "frames": 60}
    audio = {encoder.main_input_name: torch.randn([2, *(size.get(axis, 8) for axis in front.axes[1:])])}
    if front.masked:
        long = audio[encoder.main_input_name].shape[1]
        audio["attention_mask"] = (torch.arange(long) < torch.tensor([[long], [long * 9 // 16]])).long()
    torch.compiler.reset()
    compiled = torch.compile(encoder, fullgraph=True, backend=backend)
    with torch.no_grad():
        found, wanted = compiled(**audio), encoder(**audio)
    torch.testing.assert_close(found.last_hidden_state, wanted.last_hidden_state, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("name", "fields"), ENCODERS)
def test_encoder_compiles_without_graph_breaks(name: str, fields: dict[str, Any]) -> None:
    torch.manual_seed(0)
    check_compiled(name, fields, "eager")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # inductor uses deprecated PyTorch functions
@pytest.mark.parametrize(
    ("name", "fields"),
    [pytest.param(*one, marks=pytest.mark.nightly if one in COVERED else pytest.mark.slow) for one in ENCODERS],
)
def test_encoder_compiles_to_machine_code(name: str, fields: dict[str, Any]) -> None:
    torch.manual_seed(0)
    check_compiled(name, fields, "inductor")


def test_forward_pass_compiles(build: Any, speech: Speech) -> None:
    model = build()
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(
        compiled(speech(2), MASK, labels=LABELS).loss, model(speech(2), MASK, labels=LABELS).loss
    )


def test_export(build: Any, speech: Speech) -> None:
    """`torch.export`, like sharding, must find the tensors in our output objects."""
    model, tokens = build(), LABELS.clamp(min=0)
    with torch.no_grad():
        encoder = torch.export.export(model.encoder, (speech(2),)).module()
        torch.testing.assert_close(encoder(speech(2)).last_hidden_state, model.encoder(speech(2)).last_hidden_state)
        given = {"input_values": speech(2), "decoder_input_ids": tokens}
        whole = torch.export.export(model, (), given).module()
        torch.testing.assert_close(whole(**given).logits, model(**given).logits)
        decoder = torch.export.export(model.decoder, (tokens,)).module()
        torch.testing.assert_close(decoder(tokens).logits, model.decoder(tokens).logits)
