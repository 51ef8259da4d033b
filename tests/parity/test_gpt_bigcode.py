"""GPT-BigCode alone against `transformers`, which cannot join it; the joint model against itself and JAX."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from dragoman import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel, TextDecoder
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.testing import TOLERANCES, tiny_config

VOCAB = 30


@pytest.mark.parametrize("multi_query", [True, False])
def test_alone(tmp_path: Path, multi_query: bool) -> None:
    torch.manual_seed(0)
    config = tiny_config("gpt_bigcode", vocab_size=VOCAB, multi_query=multi_query)
    theirs = transformers.GPTBigCodeForCausalLM(transformers.GPTBigCodeConfig(**config.to_dict())).eval()
    with torch.no_grad():
        for tensor in theirs.parameters():
            tensor.add_(0.2 * torch.randn_like(tensor))
    theirs.save_pretrained(tmp_path / "theirs")
    ours = TextDecoder.from_pretrained(tmp_path / "theirs")
    tokens = torch.randint(0, VOCAB, (3, 12))
    mask = torch.ones(3, 12, dtype=torch.long)
    mask[1, 8:] = 0
    expected = theirs(tokens, attention_mask=mask).logits
    assert (ours(tokens, mask).logits - expected)[mask.bool()].abs().max() <= TOLERANCES["logits"]
    first = ours(tokens[:, :5], use_cache=True)
    second = ours(tokens[:, 5:], past_key_values=first.past_key_values)
    pieces = torch.cat([first.logits, second.logits], 1)
    assert (pieces - theirs(tokens).logits).abs().max() <= TOLERANCES["logits"]

    ours.save_pretrained(tmp_path / "ours")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("multi_query", [True, False])
def test_joint_model(tmp_path: Path, multi_query: bool) -> None:
    torch.manual_seed(0)
    decoder = tiny_config("gpt_bigcode", vocab_size=VOCAB, multi_query=multi_query)
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config("wav2vec2"), decoder=decoder, decoder_start_token_id=0, pad_token_id=1, eos_token_id=2
    )
    model = SpeechEncoderDecoderModel(config=config).eval()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(0.2 * torch.randn_like(tensor))
    heads = 1 if multi_query else decoder.num_attention_heads  # type: ignore[attr-defined]
    assert model.decoder.spec.stack.block.self_attn.kv_heads == heads
    waves, tokens = torch.randn(3, 700), torch.randint(0, VOCAB, (3, 6))
    expected = model(waves, decoder_input_ids=tokens).logits
    assert (model(torch.randn(3, 700), decoder_input_ids=tokens).logits - expected).abs().max() > 1e-3, (
        "it must hear something"
    )
    texts = model.generate(waves, num_beams=3, max_new_tokens=8).tolist()
    model.save_pretrained(tmp_path)
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert torch.equal(again(waves, decoder_input_ids=tokens).logits, expected)
    jax = FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path)
    found = jax(waves.numpy(), decoder_input_ids=tokens.numpy()).logits
    assert np.abs(np.asarray(found) - expected.detach().numpy()).max() <= TOLERANCES["logits"]
    assert np.asarray(jax.generate(waves.numpy(), num_beams=3, max_new_tokens=8)).tolist() == texts
    if not multi_query:  # `transformers` builds this one and has all of its names
        _, info = transformers.SpeechEncoderDecoderModel.from_pretrained(tmp_path, output_loading_info=True)
        assert {name: keys for name, keys in info.items() if keys} == {}
