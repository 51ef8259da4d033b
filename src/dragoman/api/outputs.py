"""What models return: dataclasses of arrays that also read like a dictionary and like a tuple.

Axes: batch, rows (sequences), frames, tokens, width, channels, vocab.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from jaxtyping import Float, Int

from dragoman.errors import ConfigError, did_you_mean


class ModelOutput(dict[str, Any]):
    """A dictionary of the fields of a dataclass that are not `None`, which are attributes too, and a tuple of them.

    Example:
        >>> output.logits is output["logits"] is output[0]  # when no loss was asked for
        >>> loss, logits = output[:2]
    """

    def __init__(self, given: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **values: Any) -> None:
        values = {**dict(given), **values}
        for field in fields(self):  # type: ignore[arg-type]
            setattr(self, field.name, values.pop(field.name, None))
        if values:
            raise TypeError(f"{type(self).__name__} has no {', '.join(values)}.")

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the values that are not `None`, in order."""
        return tuple(self.values())

    def __getitem__(self, key: str | int | slice) -> Any:
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in self:
            raise KeyError(f"The output has no {key!r}, only {', '.join(self.keys())}.{did_you_mean(key, self.keys())}")
        return super().__getitem__(key)

    def __setitem__(self, name: str, value: Any) -> None:
        known = [field.name for field in fields(self)]  # type: ignore[arg-type]
        if name not in known:
            raise KeyError(f"The output has no {name!r}, only {', '.join(known)}.{did_you_mean(name, known)}")
        setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if value is None:
            super().pop(name, None)
        else:
            super().__setitem__(name, value)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise ConfigError("A field of an output cannot be taken out. Set it to None, or change `dict(output)`.")

    __delitem__ = clear = pop = popitem = setdefault = update = _refuse


@dataclass(init=False, eq=False)
class EncoderOutput(ModelOutput):
    """The output of a speech encoder.

    Attributes:
        last_hidden_state: Frame states after the adapter.
        hidden_states: States before each layer and after the last, without the adapter.
        attentions: Attention weights of each layer, `[batch, heads, frames, frames]`.
        extract_features: Normalised features of the front end, before their projection.
        lengths: Valid frames of each row; `None` if every frame is valid.
    """

    last_hidden_state: Float[Any, "batch frames width"] = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None
    extract_features: Float[Any, "batch frames channels"] | None = None
    lengths: Int[Any, " batch"] | None = None


@dataclass(init=False, eq=False)
class CausalLMOutput(ModelOutput):
    """The output of a text decoder.

    Attributes:
        loss: Mean negative log-probability of the labels, if there are labels.
        logits: Scores of each token at each position.
        past_key_values: The cache, with `use_cache=True`.
        hidden_states: States before each layer and after the last.
        attentions: Self-attention weights of each layer.
        cross_attentions: Cross-attention weights of each layer.
    """

    loss: Float[Any, ""] | None = None
    logits: Float[Any, "rows tokens vocab"] = None
    past_key_values: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None
    cross_attentions: tuple[Any, ...] | None = None


@dataclass(init=False, eq=False)
class Seq2SeqLMOutput(ModelOutput):
    """The output of a whole model, its fields in the order of `transformers`.

    Attributes:
        loss: Mean negative log-probability of the labels, if there are labels.
        logits: Scores of each token at each position.
        past_key_values: The decoder's cache, with `use_cache=True`.
        decoder_hidden_states: States before each decoder layer and after the last.
        decoder_attentions: Self-attention weights of each decoder layer.
        cross_attentions: Cross-attention weights of each decoder layer.
        encoder_last_hidden_state: The memory, as wide as the decoder.
        encoder_hidden_states: States before each encoder layer and after the last, without adapter and bridge.
        encoder_attentions: Attention weights of each encoder layer.
    """

    loss: Float[Any, ""] | None = None
    logits: Float[Any, "batch tokens vocab"] | None = None
    past_key_values: Any = None
    decoder_hidden_states: tuple[Any, ...] | None = None
    decoder_attentions: tuple[Any, ...] | None = None
    cross_attentions: tuple[Any, ...] | None = None
    encoder_last_hidden_state: Float[Any, "batch frames width"] | None = None
    encoder_hidden_states: tuple[Any, ...] | None = None
    encoder_attentions: tuple[Any, ...] | None = None
