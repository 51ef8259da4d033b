"""Training: the same gradients as `transformers` for every weight, and for padding tokens that the decoder reads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx

import dragoman
from dragoman.checkpoint.options import LoadOptions
from dragoman.families import FAMILIES
from dragoman.jax.backend import BACKEND as JAX
from dragoman.jax.net.tree import flat
from dragoman.jax.parts import TextDecoder as JaxDecoder
from dragoman.model.load import load_part
from dragoman.model.save import model_tensors
from dragoman.torch.backend import BACKEND, own_tensors

from .conftest import randomize, reference_config

PAIRS = [
    ("wav2vec2-group", "bert"),
    ("wav2vec2-layer", "gpt2"),
    ("wav2vec2-adapter-proj", "bart"),
    ("wav2vec2-language-adapter", "mbart"),
    ("hubert-group", "gpt2"),
    ("hubert-no-feature-norm", "bart"),
    ("wavlm-layer", "bert"),
    ("whisper", "whisper"),
    ("wav2vec2-layer", "roberta"),
    ("wav2vec2-layer", "electra"),
    ("wav2vec2-layer", "marian"),
    ("wav2vec2-layer", "xglm"),
]


def labels() -> torch.Tensor:
    found = torch.randint(3, 30, (4, 7), generator=torch.Generator().manual_seed(0))
    found[1, 4:] = found[3, 1:] = -100
    return found


@pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
def test_gradients(pair_of: Callable[[str, str], Any], encoder: str, decoder: str) -> None:
    pair = pair_of(encoder, decoder)
    model = pair.load()
    batch = {**pair.audio(4, seed=3), "labels": labels()}
    with torch.enable_grad():
        pair.reference.zero_grad()
        pair.reference(**batch).loss.backward()
        model(**batch).loss.backward()
    theirs = {name: p.grad for name, p in pair.reference.named_parameters() if p.grad is not None}
    with torch.no_grad():
        for parameter in model.parameters():  # store each gradient in its weight, to compare them by name
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    ours = model_tensors(BACKEND, model, own_tensors(model))
    assert theirs.keys() <= ours.keys()
    assert len(theirs) > 50
    for name, gradient in theirs.items():
        scale = max(1.0, float(gradient.abs().max()))
        assert (ours[name] - gradient).abs().max() <= 1e-4 * scale, name
    assert all(not ours[name].any() for name in ours.keys() - theirs.keys())


# `transformers` has no decoder of these alone.
WITHOUT_OWN = {"canary", "cohere_asr", "m2m_100", "moonshine", "t5", "mt5", "speech_to_text", "speech_to_text_2"}
TEXT_FAMILIES = [family.model_type for family in FAMILIES if family.text and family.model_type not in WITHOUT_OWN]
# Their tiny configurations have no padding token, or an embedding that does not spare it.
TRAINED = {"gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox"}
IN_JAX = {"bert", "gpt_neo", "roberta"}  # each kind once


def jax_gradients(decoder: JaxDecoder, tokens: torch.Tensor) -> dict[str, np.ndarray]:
    graph, params, rest = nnx.split(decoder, nnx.Param, ...)

    def loss(params: Any) -> Any:
        return jnp.square(nnx.merge(graph, params, rest)(input_ids=jnp.asarray(tokens.numpy())).logits).mean()

    leaves = flat(nnx.to_pure_dict(jax.jit(jax.grad(loss))(params)))
    return {name: np.asarray(leaf) for name, leaf in leaves.items()}


@pytest.mark.parametrize("model_type", TEXT_FAMILIES)
def test_padding_tokens_that_the_decoder_reads(model_type: str, tmp_path: Path) -> None:
    """PyTorch's `padding_idx`: the lookup of the padding token is not trained, where the family has one."""
    config = reference_config(model_type, is_decoder=True, pad_token_id=1, tie_word_embeddings=False)
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    randomize(theirs)
    theirs.save_pretrained(tmp_path)
    ours = dragoman.TextDecoder.from_pretrained(tmp_path, add_cross_attention=False)
    tokens = torch.randint(3, 20, (2, 6), generator=torch.Generator().manual_seed(0))
    tokens[0, 2] = tokens[1, 4:] = 1
    with torch.enable_grad():
        theirs(input_ids=tokens).logits.square().mean().backward()
        ours(input_ids=tokens).logits.square().mean().backward()
    table = ours.embed.tokens.weight.grad
    expected = theirs.get_input_embeddings().weight.grad
    scale = max(1.0, float(expected.abs().max()))
    assert (table - expected).abs().max() <= 1e-4 * scale
    assert bool(table[1].any()) == (model_type in TRAINED)
    if model_type in IN_JAX:
        decoder, _ = load_part(JAX, JaxDecoder, tmp_path, LoadOptions(), add_cross_attention=False)
        grads = jax_gradients(decoder, tokens)
        assert np.abs(grads["embed.tokens.weight"] - expected.numpy()).max() <= 1e-4 * scale
        if ours.embed.positions is not None:
            assert np.abs(grads["embed.positions.weight"] - ours.embed.positions.weight.grad.numpy()).max() <= 1e-4
    positions = [p.grad for name, p in theirs.named_parameters() if "position_embeddings" in name]
    if positions:
        assert (ours.embed.positions.weight.grad - positions[0]).abs().max() <= 1e-4 * scale
