"""What models return: dataclasses of arrays that also read like a dictionary and like a tuple.

Axes: batch, rows (sequences), frames, tokens, width, channels, vocab.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from jaxtyping import Float, Int

from dragoman.errors import did_you_mean


class ModelOutput:
    """Reads a dataclass by attribute, by name and by position; fields that are `None` are absent from the last two.

    Example:
        >>> output.logits is output["logits"] is output[0]  # when no loss was asked for
        >>> loss, logits = output[:2]

    It is not a `dict`, as that of `transformers` is, but `dict(output)` and `**output` work.
    """

    def keys(self) -> tuple[str, ...]:
        """Return the names of the fields that are not `None`, in order."""
        names = (field.name for field in fields(self))  # type: ignore[arg-type]
        return tuple(name for name in names if getattr(self, name) is not None)

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the values that are not `None`, in order."""
        return tuple(getattr(self, name) for name in self.keys())

    def values(self) -> tuple[Any, ...]:
        """Return the same as `to_tuple`."""
        return self.to_tuple()

    def items(self) -> tuple[tuple[str, Any], ...]:
        """Return pairs of name and value for the fields that are not `None`."""
        return tuple((name, getattr(self, name)) for name in self.keys())

    def get(self, name: str, default: Any = None) -> Any:
        """Return the field `name`, or `default` when it is absent or `None`."""
        return getattr(self, name) if name in self else default

    def __getitem__(self, key: str | int | slice) -> Any:
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in self:
            raise KeyError(f"The output has no {key!r}, only {', '.join(self)}.{did_you_mean(key, self)}")
        return getattr(self, key)

    def __setitem__(self, name: str, value: Any) -> None:
        known = [field.name for field in fields(self)]  # type: ignore[arg-type]
        if name not in known:
            raise KeyError(f"The output has no {name!r}, only {', '.join(known)}.{did_you_mean(name, known)}")
        setattr(self, name, value)

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())


@dataclass(kw_only=True, eq=False)
class EncoderOutput(ModelOutput):
    """The output of a speech encoder.

    Attributes:
        last_hidden_state: Frame states after the adapter.
        hidden_states: States before each layer and after the last, without the adapter.
        attentions: Attention weights of each layer, `[batch, heads, frames, frames]`.
        extract_features: Normalised features of the front end, before their projection.
        lengths: Valid frames of each row; `None` if every frame is valid.
    """

    last_hidden_state: Float[Any, "batch frames width"]
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None
    extract_features: Float[Any, "batch frames channels"] | None = None
    lengths: Int[Any, " batch"] | None = None


@dataclass(kw_only=True, eq=False)
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
    logits: Float[Any, "rows tokens vocab"]
    past_key_values: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None
    cross_attentions: tuple[Any, ...] | None = None


@dataclass(kw_only=True, eq=False)
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
