"""The output bias of translation models, missing in decoders of `transformers`: reported, or kept on request."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from dragoman import SpeechEncoderDecoderModel
from dragoman.checkpoint.options import LoadOptions
from dragoman.jax.backend import BACKEND as JAX
from dragoman.jax.parts import TextDecoder as JaxTextDecoder
from dragoman.model.load import load_part
from dragoman.testing import TOLERANCES, tiny_config
from dragoman.torch.backend import BACKEND as TORCH
from dragoman.torch.parts import SpeechEncoder, TextDecoder

from .conftest import randomize, reference_config

WHOLE = {
    "marian": transformers.MarianMTModel,
    "bart": transformers.BartForConditionalGeneration,
    "mbart": transformers.MBartForConditionalGeneration,
    "pegasus": transformers.PegasusForConditionalGeneration,
    "blenderbot": transformers.BlenderbotForConditionalGeneration,
    "blenderbot-small": transformers.BlenderbotSmallForConditionalGeneration,
}
TOKENS = torch.tensor([[3, 5, 9, 4], [3, 8, 7, 6]])


def saved(folder: Path, model_type: str, *, trained: bool) -> Any:
    model = WHOLE[model_type](reference_config(model_type)).eval()
    randomize(model)
    model.final_logits_bias.normal_() if trained else model.final_logits_bias.zero_()
    model.save_pretrained(folder)
    return WHOLE[model_type].from_pretrained(folder)  # Marian's sinusoids are not saved, but computed


@pytest.mark.parametrize("model_type", WHOLE)
def test_trained_bias_is_reported_or_kept_on_request(tmp_path: Path, model_type: str) -> None:
    theirs = saved(tmp_path, model_type, trained=True)
    whole = theirs(input_ids=TOKENS, decoder_input_ids=TOKENS)
    memory = whole.encoder_last_hidden_state
    kept, kept_report = load_part(TORCH, TextDecoder, tmp_path, LoadOptions(), keep_final_logits_bias=True)
    assert kept_report.lost == {}
    assert (kept(TOKENS, encoder_hidden_states=memory).logits - whole.logits).abs().max() <= TOLERANCES["logits"]
    left, left_report = load_part(TORCH, TextDecoder, tmp_path, LoadOptions())
    expected = whole.logits - theirs.final_logits_bias
    assert (left(TOKENS, encoder_hidden_states=memory).logits - expected).abs().max() <= TOLERANCES["logits"]
    assert "keep_final_logits_bias=True" in left_report.lost["final_logits_bias"]
    assert "final_logits_bias is trained, but left out" in left_report.summary()


def test_zero_bias_is_not_reported(tmp_path: Path) -> None:
    saved(tmp_path, "bart", trained=False)
    report = load_part(TORCH, TextDecoder, tmp_path, LoadOptions())[1]
    assert report.lost == {}
    assert report.dropped["final_logits_bias"] == "all zero"


def test_bias_of_a_joint_model_is_saved_and_loaded_in_both_backends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = saved(tmp_path / "text", "marian", trained=True)
    SpeechEncoder(tiny_config("wav2vec2")).save_pretrained(tmp_path / "speech")
    parts = tmp_path / "speech", tmp_path / "text"
    SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(*parts)
    assert "final_logits_bias is trained, but left out" in caplog.text
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(*parts, decoder_keep_final_logits_bias=True)
    model.save_pretrained(tmp_path / "joint")
    name = "decoder.final_logits_bias"
    assert torch.equal(load_file(tmp_path / "joint/model.safetensors")[name], theirs.final_logits_bias)
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path / "joint")
    assert torch.equal(again.decoder.head.bias, theirs.final_logits_bias[0])
    whole = theirs(input_ids=TOKENS, decoder_input_ids=TOKENS)
    twin = load_part(JAX, JaxTextDecoder, tmp_path / "text", LoadOptions(), keep_final_logits_bias=True)[0]
    ours = twin(TOKENS.numpy(), encoder_hidden_states=whole.encoder_last_hidden_state.numpy()).logits
    assert np.abs(np.asarray(ours) - whole.logits.numpy()).max() <= TOLERANCES["logits"]
