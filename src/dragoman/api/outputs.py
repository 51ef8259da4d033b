"""What models and `generate` return: dataclasses that also read like a dictionary and like a tuple.

Lives here: `ModelOutput`, the reading habits that Hugging Face users have. The outputs themselves are dataclasses
beside the code that fills them.
"""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from dragoman.errors import did_you_mean

__all__ = ["ModelOutput"]


class ModelOutput:
    """Reads a dataclass by attribute, by name and by position; fields that are `None` are absent from the last two.

    Example:
        >>> output.logits is output["logits"] is output[0]  # when no loss was asked for
        >>> loss, logits = output[:2]

    Unlike upstream's it is not a `dict`; it has the methods of reading a dictionary, so `dict(output)` and `**output`
    work.
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

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())
