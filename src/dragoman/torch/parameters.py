"""Which parameters are trained in PyTorch, and the groups of an optimizer."""

from typing import Any

from torch import nn

from dragoman.model.learning import Freezing, Rates, depths_of, has_decay, rate_of
from dragoman.torch.model import SpeechEncoderDecoderModel


def set_trained(model: SpeechEncoderDecoderModel, freezing: Freezing, step: int) -> None:
    """Let gradients flow to the parameters that a step trains, and to no others."""
    encoder, decoder = freezing.at(step)
    model.requires_grad_(True)
    if freezing.feature_encoder:
        model.freeze_feature_encoder()
    if encoder:
        model.freeze_encoder()
    if decoder:
        model.freeze_decoder()


def groups(model: nn.Module, rates: Rates) -> list[dict[str, Any]]:
    """Return groups of parameters for an optimizer, each with `lr`, `weight_decay` and the `names` in it."""
    depths = depths_of(name for name, _ in nn.Module.named_parameters(model))
    found: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in nn.Module.named_parameters(model):
        rate, decay = rate_of(name, rates, depths), rates.weight_decay if has_decay(name) else 0.0
        group = found.setdefault((rate, decay), {"params": [], "names": [], "lr": rate, "weight_decay": decay})
        group["params"].append(parameter)
        group["names"].append(name)
    return list(found.values())
