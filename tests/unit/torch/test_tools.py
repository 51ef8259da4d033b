"""PyTorch's own tools on our models: dynamic quantisation, export, tracing, pruning, parametrisations, copies."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from dragoman import ConfigError, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.testing import tiny_config
from dragoman.torch.net.layers import moved

IDS = {"decoder_start_token_id": 3, "pad_token_id": 1, "eos_token_id": 2}
PAIRS: list[tuple[str, str, dict[str, Any]]] = [
    ("wav2vec2", "bert", {}),
    ("wavlm", "gpt2", {}),
    ("sew-d", "bart", {}),
    ("wav2vec2-conformer", "electra", {}),
    ("wav2vec2-bert", "t5", {}),
    ("whisper", "whisper", {}),
    ("hubert", "llama", {"fusion": "prefix"}),
    ("speech_to_text", "opt", {"fusion": "cross_attention"}),
]
TOKENS = torch.tensor([[3, 5, 6]])


def built(encoder: str = "wav2vec2", decoder: str = "bert", **fields: Any) -> SpeechEncoderDecoderModel:
    torch.manual_seed(0)
    parts = {"encoder": tiny_config(encoder), "decoder": tiny_config(decoder)}
    return SpeechEncoderDecoderModel(config=SpeechEncoderDecoderConfig(**parts, **IDS, **fields)).eval()


def audio(model: SpeechEncoderDecoderModel) -> torch.Tensor:
    front = model.encoder.spec
    shape = front.frontend.input_shape(1, 1600 if front.input_name == "input_values" else 60)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def logits(model: SpeechEncoderDecoderModel) -> torch.Tensor:
    with torch.no_grad():
        return model(audio(model), decoder_input_ids=TOKENS).logits


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("encoder", "decoder", "fields"), PAIRS)
def test_dynamic_quantisation_reaches_every_linear_layer(
    encoder: str, decoder: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    model = built(encoder, decoder, **fields)
    small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    assert not [name for name, module in small.named_modules() if isinstance(module, nn.Linear)]
    before, after = logits(model), logits(small)
    assert (before - after).abs().max() <= 0.2 * before.abs().max()
    assert not torch.equal(before, after)
    small.generate(audio(model), max_new_tokens=3)
    with pytest.raises(ConfigError, match="quantised by PyTorch have no place in a checkpoint"):
        small.save_pretrained(tmp_path)
    state = copy.deepcopy(small.state_dict())
    small.load_state_dict(state)
    assert torch.equal(logits(small), after)


def test_pruned_and_reparametrised_layers_are_used_and_not_saved(tmp_path: Path) -> None:
    """A search takes a shortcut past plain layers; not past these."""
    for decoder in "gpt2", "bert":
        model = built("wav2vec2", decoder)
        plain = logits(model)
        for layer in model.decoder.stack.layers:
            prune.l1_unstructured(layer.ffn.in_proj, "weight", 0.5)
            parametrizations.weight_norm(layer.ffn.out_proj)
        ids = model.generate(audio(model), max_new_tokens=8)
        pruned = logits(model)
        assert not torch.allclose(pruned, plain)
        with pytest.raises(ConfigError, match=r"no place in a checkpoint.*remove_parametrizations"):
            model.save_pretrained(tmp_path / decoder)
        assert not (tmp_path / decoder).exists()
        for layer in model.decoder.stack.layers:
            prune.remove(layer.ffn.in_proj, "weight")
            parametrize.remove_parametrizations(layer.ffn.out_proj, "weight")
        assert torch.equal(model.generate(audio(model), max_new_tokens=8), ids)
        model.save_pretrained(tmp_path / decoder)
        assert torch.allclose(logits(SpeechEncoderDecoderModel.from_pretrained(tmp_path / decoder)), pruned, atol=1e-6)


def test_hooks_are_called_in_a_search() -> None:
    model, seen = built("wav2vec2", "gpt2"), []
    layer = model.decoder.stack.layers[0].ffn.in_proj
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    model.generate(audio(model), max_new_tokens=3)
    assert len(seen) == 3


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("decoder", ["bert", "gpt2"])
def test_copies_exports_and_functional_calls(decoder: str) -> None:
    model = built("wav2vec2", decoder)
    wave, expected = audio(model), logits(model)
    arguments = (wave, torch.ones_like(wave, dtype=torch.long), TOKENS)
    for other in copy.deepcopy(model), pickle.loads(pickle.dumps(model)), nn.DataParallel(model):  # noqa: S301
        assert torch.allclose(other(*arguments).logits, expected, atol=1e-6)
    assert torch.allclose(torch.export.export(model, arguments).module()(*arguments).logits, expected, atol=1e-6)
    assert torch.allclose(
        torch.func.functional_call(model, dict(model.named_parameters()), arguments).logits, expected, atol=1e-6
    )


@pytest.mark.filterwarnings("ignore")
def test_traced_encoder_follows_its_mask() -> None:
    encoder = built().encoder
    encoder.config.return_dict = False
    waves, masks = torch.randn(2, 2, 1600), torch.ones(2, 2, 1600, dtype=torch.long)
    masks[0, 1, 900:] = masks[1, 0, 1000:] = 0
    traced = torch.jit.trace(encoder, (waves[0], masks[0]), strict=False)
    assert torch.allclose(traced(waves[1], masks[1])[0], encoder(waves[1], masks[1])[0], atol=1e-6)


def test_marked_positions_move_to_the_front() -> None:
    first = torch.rand(4, 9, generator=torch.Generator().manual_seed(0)) > 0.5
    first[0], first[1] = True, False
    for rows in torch.arange(36.0).view(4, 9), torch.randn(4, 9, 3), first:
        order = torch.argsort(~first, dim=1, stable=True)
        order = order if rows.ndim == 2 else order[:, :, None]
        assert torch.equal(moved(rows, first), torch.take_along_dim(rows, order, 1))
