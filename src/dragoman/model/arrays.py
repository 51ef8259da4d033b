"""`Arrays`: what a framework does with the arrays that a caller passes in, and the checks that this allows.

`dragoman.torch.arrays` and `dragoman.jax.arrays` implement it.
"""

from typing import Any, Protocol

from dragoman.api.checks import check_ids, check_tokens
from dragoman.errors import ConfigError, DragomanError


class Arrays(Protocol):
    """What a framework does with the arrays that a caller passes in.

    Attributes:
        name: What it calls an array, with its article.
        return_tensors: The option of processors that returns its arrays.
        cache_class: Class of its decoder caches.
        memory_class: Class of the encoder states as its decoders see them.
    """

    name: str
    return_tensors: str
    cache_class: type[Any]
    memory_class: type[Any]

    def is_array(self, value: object) -> bool:
        """Whether the network takes such a value."""

    def dtype_name(self, array: Any) -> str:
        """Return the name of the type of the elements: "int64"."""

    def to_mask(self, array: Any) -> Any:
        """Return the array as bool."""

    def to_tokens(self, array: Any) -> Any:
        """Return an integer array in the type that embeddings and losses take."""

    def to_device(self, array: Any) -> Any:
        """Return an array, or a tuple of them, where the network computes."""

    def is_known(self, array: Any) -> bool:
        """Whether values can be read: not while a program is compiled."""

    def id_range(self, tokens: Any, *, ignored: bool, wait: bool) -> tuple[int, int] | None:
        """Return the lowest and the highest id; `None` if they cannot be read, or there are none.

        Args:
            tokens: The ids.
            ignored: Whether to leave out −100.
            wait: Read them even if they are on an accelerator, which means waiting for it.
        """

    def all_finite(self, array: Any) -> bool:
        """Whether no value is NaN or infinite; not checked on an accelerator, which would mean waiting for it."""

    def is_binary(self, array: Any) -> bool:
        """Whether every value is 0 or 1; not checked on an accelerator, which would mean waiting for it."""

    def valid_first(self, rows: Any, mask: Any) -> tuple[Any, Any]:
        """Move the valid items of each row to its left end; return the rows, and the number of valid items of each."""

    def frame_mask(self, lengths: Any, frames: int) -> Any:
        """Return True for the first `lengths[row]` of `frames` frames of each row."""

    def namespace(self, array: Any) -> tuple[Any, Any]:
        """Return a library with `concatenate`, `full_like` and `where`, and the array as it takes it."""

    def cross_entropy(self, logits: Any, labels: Any, num_items: Any = None, label_smoothing: float = 0.0) -> Any:
        """Return the mean negative log-probability of the labels; see `net.loss`."""


def checked_array(arrays: Arrays, name: str, value: Any, error: type[DragomanError] = ConfigError) -> Any:
    """Return what was given as `name`.

    Raises:
        ConfigError: If it is not an array of the framework; `error` chooses another class.
    """
    if not arrays.is_array(value):
        raise error(
            f"`{name}` must be {arrays.name}, but is a {type(value).__name__}; pass "
            f'return_tensors="{arrays.return_tensors}" to the tokenizer or the feature extractor.'
        )
    return value


def checked_mask(arrays: Arrays, name: str, value: Any) -> Any:
    """Return a mask of any type as bool; `None` for `None`."""
    return None if value is None else arrays.to_mask(zeros_and_ones(arrays, name, value))


def zeros_and_ones(arrays: Arrays, name: str, value: Any) -> Any:
    """Return a mask as it is given.

    Raises:
        ConfigError: If it is not an array of the framework, or holds other numbers than 0 and 1.
    """
    mask = checked_array(arrays, name, value)
    if not arrays.is_binary(mask):
        raise ConfigError(f"`{name}` must hold only 1 (valid) and 0 (padding), but holds other numbers.")
    return mask


def checked_tokens(
    arrays: Arrays, name: str, value: Any, vocab_size: int, *, ignored: bool = False, wait: bool = True
) -> Any:
    """Return tokens `[batch, tokens]` in the type that the network takes; `ignored` allows −100 among them.

    Raises:
        ConfigError: If they are not such an array of integers, or one is outside the vocabulary.
    """
    tokens = checked_array(arrays, name, value)
    check_tokens(name, tokens.shape, arrays.dtype_name(tokens))
    tokens = arrays.to_tokens(tokens)
    found = arrays.id_range(tokens, ignored=ignored, wait=wait)
    if found is not None:
        check_ids(name, found, vocab_size, ignored=ignored)
    return tokens
