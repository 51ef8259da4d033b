"""`torch.compile` and `torch.export`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dragoman import SpeechEncoder
from dragoman.testing import configs, tiny_config
from dragoman.testing.configs import VARIANTS

Speech = Callable[..., torch.Tensor]

LABELS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])

MASK = (torch.arange(1600) < torch.tensor([[1600], [900]])).long()

ENCODERS = [name for name, (model_type, _) in VARIANTS.items() if model_type in configs.ENCODERS]

# Plain families, and variants with a part of their own. Another encoder has all parts of the rest, which are compiled
# in nightly runs only.
OWN_PARTS = {"wav2vec2-language-adapter", "wav2vec2-adapter", "hubert-batch-norm", "wavlm-large"}
COVERED = {"wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "canary", "cohere_asr"}
COMPILED = set(configs.ENCODERS) - COVERED | OWN_PARTS
TO_MACHINE_CODE = {"whisper"}  # half a minute


def check_compiled(name: str, backend: str) -> None:
    model_type, fields = VARIANTS[name]
    encoder = SpeechEncoder(tiny_config(model_type, **fields)).eval()
    front = encoder.spec.frontend
    audio = {encoder.main_input_name: torch.randn(front.input_shape(2, 1600 if "samples" in front.axes else 60))}
    if front.masked:
        long = audio[encoder.main_input_name].shape[front.time_axis]
        audio["attention_mask"] = (torch.arange(long) < torch.tensor([[long], [long * 9 // 16]])).long()
    torch.compiler.reset()
    compiled = torch.compile(encoder, fullgraph=True, backend=backend)
    with torch.no_grad():
        found, wanted = compiled(**audio), encoder(**audio)
    torch.testing.assert_close(found.last_hidden_state, wanted.last_hidden_state, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in COMPILED else pytest.mark.nightly) for name in ENCODERS]
)
def test_encoder_compiles_without_graph_breaks(name: str) -> None:
    torch.manual_seed(0)
    check_compiled(name, "eager")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # inductor uses deprecated PyTorch functions
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in TO_MACHINE_CODE else pytest.mark.nightly)
        for name in ENCODERS
    ],
)
def test_encoder_compiles_to_machine_code(name: str) -> None:
    torch.manual_seed(0)
    check_compiled(name, "inductor")


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
