"""The decoders of T5, mT5 and M2M-100, which `transformers` cannot join to a speech encoder, against its full models.

These get the states of our speech encoder instead of those of their text encoder.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers.modeling_outputs import BaseModelOutput

from dragoman import SpeechEncoderDecoderModel, TextDecoder
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.testing import tiny_config

from .conftest import assert_close

VOCAB, CLIPS = 30, 40
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("t5", {}),
    "t5-1.1": ("t5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "t5-deeper-text-encoder": ("t5", {"num_layers": 1, "num_decoder_layers": 3, "feed_forward_proj": "gated-silu"}),
    "mt5": ("mt5", {}),
    "m2m_100": ("m2m_100", {}),
    "m2m_100-untied": ("m2m_100", {"tie_word_embeddings": False, "scale_embedding": False, "encoder_layers": 1}),
}


@dataclass(frozen=True)
class Both:
    """The full model of `transformers`, its folder, and ours: its decoder with a speech encoder of the same width."""

    theirs: Any
    folder: Path
    ours: SpeechEncoderDecoderModel

    def encoded(self, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        """The inputs of the model of `transformers` instead of speech."""
        found = self.ours.encode(**batch)
        states = self.ours.memory_for(found).states
        mask = torch.arange(states.shape[1]) < found.lengths[:, None]
        return {"encoder_outputs": BaseModelOutput(last_hidden_state=states), "attention_mask": mask.long()}


@pytest.fixture(scope="module", params=KINDS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    model_type, fields = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(**tiny_config(model_type, vocab_size=VOCAB, **fields).to_dict())
    theirs = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    with torch.no_grad():
        if request.param in ("t5-1.1", "mt5"):  # the published ones have an untied head
            theirs.lm_head.weight = torch.nn.Parameter(torch.randn(VOCAB, config.d_model))
        for name, tensor in theirs.named_parameters():
            noise = torch.randn_like(tensor)
            if tensor.ndim == 1:
                tensor.add_(0.1 * noise)
            elif "relative" in name or "shared" in name:
                tensor.copy_(noise * (0.2 if model_type == "m2m_100" else 1))
            else:
                tensor.copy_(
                    noise * (2.0 if "EncDec" in name or "encoder_attn" in name else 0.8) * tensor.shape[1] ** -0.5
                )
    theirs.save_pretrained(folder / "text")
    wave = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True, "hidden_size": 24}
    speech = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**tiny_config("wav2vec2", **wave).to_dict()))
    speech.save_pretrained(folder / "speech")
    ours = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(folder / "speech", folder / "text")
    assert ours.load_report.fresh == []
    return Both(theirs, folder, ours)


def speech(clips: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    waves = torch.randn(clips, 800, generator=generator) * torch.rand(clips, 1, generator=generator)
    waves = waves + 2 * torch.sin(torch.rand(clips, 1, generator=generator) * torch.arange(800))
    mask = torch.arange(800) < torch.randint(400, 801, (clips, 1), generator=generator)
    return {"inputs": waves * mask, "attention_mask": mask.long()}


def test_alone(both: Both) -> None:
    decoder = TextDecoder.from_pretrained(both.folder / "text")
    generator = torch.Generator().manual_seed(1)
    memory = torch.randn(6, 9, 24, generator=generator)
    seen = torch.arange(9) < torch.randint(1, 10, (6, 1), generator=generator)
    tokens = torch.randint(2, VOCAB, (6, 40), generator=generator)  # beyond the distances with a bucket of their own
    mask = torch.ones(6, 40, dtype=torch.long)
    mask[2, 30:] = 0
    ours = decoder(tokens, mask, encoder_hidden_states=memory, encoder_attention_mask=seen, output_attentions=True)
    theirs = both.theirs(
        encoder_outputs=BaseModelOutput(last_hidden_state=memory),
        attention_mask=seen.long(),
        decoder_input_ids=tokens,
        decoder_attention_mask=mask,
    )
    assert_close(ours.logits[mask.bool()], theirs.logits[mask.bool()])
    plain = decoder(tokens, mask, encoder_hidden_states=memory, encoder_attention_mask=seen)
    assert_close(ours.logits, plain.logits)  # without attention weights, the fused attention is used


def test_joint_model(both: Both) -> None:
    batch = speech(CLIPS, 2)
    labels = torch.randint(3, VOCAB, (CLIPS, 9), generator=torch.Generator().manual_seed(3))
    labels[1, 4:] = -100
    ours, theirs = both.ours(**batch, labels=labels), both.theirs(**both.encoded(batch), labels=labels)
    assert_close(ours.logits, theirs.logits)
    assert_close(ours.loss, theirs.loss, "loss")


@pytest.mark.parametrize(("num_beams", "language"), [(1, None), (5, None), (5, 9)])
def test_generate(both: Both, num_beams: int, language: int | None) -> None:
    batch = speech(CLIPS, 4)
    options = {"num_beams": num_beams, "max_new_tokens": 14, "forced_bos_token_id": language}
    ours = both.ours.generate(**batch, **options).tolist()
    # without the cache, which `transformers` makes as deep as the text encoder
    theirs = both.theirs.generate(**both.encoded(batch), **options, use_cache=False).tolist()
    assert len({tuple(text) for text in theirs}) > 5, "texts must depend on the speech to prove much"
    assert ours == theirs


def test_transformers_loads_the_saved_decoder(both: Both, tmp_path: Path) -> None:
    """`transformers` loads all tensors of the decoder; only the text encoder is missing."""
    both.ours.save_pretrained(tmp_path / "joined")
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path / "joined")
    batch = speech(3, 5)
    tokens = torch.randint(2, VOCAB, (3, 6))
    assert_close(again(**batch, decoder_input_ids=tokens).logits, both.ours(**batch, decoder_input_ids=tokens).logits)

    both.ours.decoder.save_pretrained(tmp_path / "decoder")
    loaded, info = type(both.theirs).from_pretrained(tmp_path / "decoder", output_loading_info=True)
    shared = {"model.shared.weight"} if not both.theirs.config.tie_word_embeddings else set()
    assert all(name.removeprefix("model.").startswith("encoder.") for name in info["missing_keys"] - shared)
    assert info["unexpected_keys"] == set()
    given = both.encoded(batch)
    assert_close(
        loaded(**given, decoder_input_ids=tokens).logits, both.theirs(**given, decoder_input_ids=tokens).logits
    )


def test_in_jax(both: Both, tmp_path: Path) -> None:
    both.ours.save_pretrained(tmp_path)
    model = FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path)
    batch = speech(4, 6)
    tokens = torch.randint(2, VOCAB, (4, 12), generator=torch.Generator().manual_seed(7))
    arrays = {name: tensor.numpy() for name, tensor in batch.items()}
    assert_close(
        model(**arrays, decoder_input_ids=tokens.numpy()).logits, both.ours(**batch, decoder_input_ids=tokens).logits
    )
    options = {"num_beams": 3, "max_new_tokens": 8}
    assert np.asarray(model.generate(**arrays, **options)).tolist() == both.ours.generate(**batch, **options).tolist()
