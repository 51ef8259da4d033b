"""How steps of training are taken, for both backends: options, rates by the names of parameters, results."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dragoman.checkpoint.lora import is_new
from dragoman.model.encoder_states import StateOptions

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


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Steps of CTC that train the bridge alone, before all others.

    Attributes:
        steps: Their number; 0 for none.
        rate: Their learning rate.
        tokens: All tokens of the training texts.
    """

    steps: int = 0
    rate: float = 1e-3
    tokens: Sequence[int] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """A larger model whose predictions are learned beside the labels.

    Attributes:
        teacher: The model, on the device of the run; it takes the same inputs and has the same tokens.
        weight: Share of the decoder's loss that is the divergence from the teacher.
        temperature: By which both models' logits are divided.
    """

    teacher: Any = field(repr=False)
    weight: float = 0.5
    temperature: float = 2.0


@dataclass(frozen=True, kw_only=True)
class LearnerOptions:
    """How steps are taken.

    Attributes:
        rates: Learning rates of the parts, at their highest.
        freezing: What is not trained.
        betas: AdamW's coefficients.
        epsilon: AdamW's epsilon.
        max_grad_norm: Gradients are clipped to this norm; 0 does not.
        label_smoothing: Share of the target spread over the vocabulary.
        ctc_weight: Share of the loss that is CTC on the encoder's frames.
        fsdp: Share out weights, gradients and optimizer over all processes.
        bf16: Compute in bfloat16.
        fp16: Compute in float16, with the loss scaled so that small gradients are not lost.
        ema_decay: Of the moving average of the weights; 0 keeps none.
        seed: Of dropout and masks.
        alignment: Of the bridge, before all else.
        states: Where the states of a frozen encoder are kept; `None` encodes every batch.
        distillation: From a larger model; `None` for none.
    """

    rates: Rates
    freezing: Freezing = Freezing()
    alignment: Alignment = Alignment()
    states: StateOptions | None = None
    distillation: Distillation | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    label_smoothing: float = 0.0
    ctc_weight: float = 0.0
    fsdp: bool = False
    bf16: bool = False
    fp16: bool = False
    ema_decay: float = 0.0
    seed: int = 42


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What a step gave.

    Attributes:
        loss: Mean over all labels of all batches and processes, before the step.
        grad_norm: Norm of the gradients before clipping.
        tokens: Number of labels.
        skipped: Whether nothing was changed, because loss or gradients are NaN or infinite.
    """

    loss: float
    grad_norm: float
    tokens: int
    skipped: bool


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


def depths_of(names: Iterable[str]) -> dict[str, int]:
    """Return the number of layers of `encoder` and `decoder`, by the names of a model's parameters."""
    depths = {"encoder": 0, "decoder": 0}
    for name in names:
        found = _LAYER.match(name)
        if found is not None:
            depths[found["part"]] = max(depths[found["part"]], 1 + int(found["number"]))
    return depths


def has_decay(name: str) -> bool:
    """Return whether a parameter has weight decay: norms and biases have none, as in the trainers of `transformers`."""
    return "bias" not in name and not any(word == "norm" or word.endswith("_norm") for word in name.split("."))
