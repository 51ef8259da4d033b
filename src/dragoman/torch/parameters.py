"""Which parameters are trained, at which rate and with which weight decay, by their names."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from dragoman.checkpoint.lora import is_new
from dragoman.torch.model import SpeechEncoderDecoderModel
from dragoman.torch.net.norms import ChannelNorm, RMSNorm

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, RMSNorm, ChannelNorm)
_LAYER = re.compile(r"^(?P<part>encoder|decoder)\.stack\.layers\.(?P<number>\d+)\.")


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The learning rates of the parts.

    Attributes:
        new: Of bridge, cross-attention, LoRA and heads.
        encoder: Of the encoder.
        decoder: Of the text model.
        layer_decay: Factor from each layer to the one below it.
        weight_decay: Of weights; norms and biases have none.
    """

    new: float
    encoder: float
    decoder: float
    layer_decay: float = 1.0
    weight_decay: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Freezing:
    """What is not trained.

    Attributes:
        feature_encoder: The convolutions of the encoder's front end.
        encoder: The encoder.
        decoder: The text model but for what is new in it.
        encoder_until: Step from which on a frozen encoder is trained; `None` for never.
        decoder_until: The same for the text model.
    """

    feature_encoder: bool = False
    encoder: bool = False
    decoder: bool = False
    encoder_until: int | None = None
    decoder_until: int | None = None

    def at(self, step: int) -> tuple[bool, bool]:
        """Return whether encoder and text model are frozen at a step."""
        return (
            self.encoder and (self.encoder_until is None or step < self.encoder_until),
            self.decoder and (self.decoder_until is None or step < self.decoder_until),
        )


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


def without_decay(model: nn.Module) -> set[str]:
    """Return the names of the parameters of norms, and of biases, as the trainers of `transformers` choose them."""
    in_norms = {
        f"{name}.{own}"
        for name, module in model.named_modules()
        if isinstance(module, _NORMS)
        for own, _ in module.named_parameters(recurse=False)
    }
    return in_norms | {name for name, _ in model.named_parameters() if "bias" in name or _in_norm(name)}


def _in_norm(name: str) -> bool:
    return any(word == "norm" or word.endswith("_norm") for word in name.split("."))


def groups(model: nn.Module, rates: Rates) -> list[dict[str, Any]]:
    """Return groups of parameters for an optimizer, each with `lr`, `weight_decay` and the `names` in it."""
    still, depths = without_decay(model), _depths(model)
    found: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        rate, decay = rate_of(name, rates, depths), 0.0 if name in still else rates.weight_decay
        group = found.setdefault((rate, decay), {"params": [], "names": [], "lr": rate, "weight_decay": decay})
        group["params"].append(parameter)
        group["names"].append(name)
    return list(found.values())


def rate_of(name: str, rates: Rates, depths: dict[str, int]) -> float:
    """Return the learning rate of a parameter of a whole model.

    Args:
        name: Its name.
        rates: Those of the parts.
        depths: The number of layers of `encoder` and `decoder`.
    """
    part = name.partition(".")[0]
    if is_new(name) or part not in depths:
        return rates.new
    found, layer = rates.encoder if part == "encoder" else rates.decoder, _LAYER.match(name)
    if layer is not None:
        return found * rates.layer_decay ** (depths[part] - 1 - int(layer["number"]))
    above = any(word in ("adapter", "head") for word in name.split("."))  # what comes after the stack
    return found if above else found * rates.layer_decay ** depths[part]


def _depths(model: nn.Module) -> dict[str, int]:
    return {part: 1 + max(numbers, default=-1) for part in ("encoder", "decoder") for numbers in [_layers(model, part)]}


def _layers(model: nn.Module, part: str) -> list[int]:
    return [int(found["number"]) for found in _matches(model) if found["part"] == part]


def _matches(model: nn.Module) -> Iterator[re.Match[str]]:
    for name, _ in model.named_parameters():
        found = _LAYER.match(name)
        if found is not None:
            yield found
