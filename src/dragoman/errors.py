"""The errors that dragoman raises.

Every message says what was wrong, what came, what is allowed and what to do. `assert` is only for our own invariants.
The command line exits with the `exit_code` of the class, so that scripts can tell a typo from a missing model.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from errno import ENOMEM


class DragomanError(Exception):
    """Base of every error that a user can cause and fix."""

    exit_code = 1


class ConfigError(DragomanError, ValueError):
    """A configuration value is missing, has the wrong type or is out of range."""

    exit_code = 2


class GenerationError(ConfigError):
    """An option of `generate` is impossible, alone or in combination with others."""


class AudioError(DragomanError, ValueError):
    """An audio file or array cannot be read or used."""


class DataError(DragomanError, ValueError):
    """A manifest or other data set is malformed, or too many of its items are unusable."""

    exit_code = 5


class TokenizerError(DragomanError, ValueError):
    """Tokenizer files or texts cannot be used."""

    exit_code = 3


class ModelNotFoundError(DragomanError, OSError):
    """A model, one of its files or a data set cannot be found."""

    exit_code = 3


class MissingDependencyError(DragomanError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""

    exit_code = 3


class OutOfMemoryError(DragomanError, MemoryError):
    """The computation does not fit into memory."""

    exit_code = 4


class CheckpointError(DragomanError, ValueError):
    """Tensors of a checkpoint do not fit the model: missing, unexpected or misshapen."""

    exit_code = 5


class UntrustedFileError(CheckpointError):
    """A file is corrupt, would run code, or points outside its folder."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return ` Did you mean "x"?` for the closest match in `known`, or an empty string if there is none."""
    from difflib import get_close_matches

    near = get_close_matches(wrong, list(known), n=1, cutoff=0.6)
    return f' Did you mean "{near[0]}"?' if near else ""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one that it was raised from, says that memory is used up.

    PyTorch has a class for the GPU only: for the CPU it raises a plain `RuntimeError`, as JAX does for all devices. An
    extension module that does not fit fails as an `ImportError`.
    """
    words = ("allocate memory", "RESOURCE_EXHAUSTED", "annot allocate", "ut of memory", "failed to map segment")
    while error is not None:
        if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
            return True
        if getattr(error, "errno", None) == ENOMEM or any(one in str(error) for one in words):
            return True
        error = error.__cause__
    return False


@contextmanager
def tells_memory(
    what: str = "The model", instead: str = 'Use a smaller one, `dtype="float16"`, or another device.'
) -> Iterator[None]:
    """Raise an `OutOfMemoryError` in place of whatever error says that memory is used up.

    Args:
        what: What does not fit.
        instead: What to reduce, in a sentence.

    Raises:
        OutOfMemoryError: If memory is used up.
    """
    try:
        yield
    except OutOfMemoryError:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(f"{what} does not fit into memory. {instead}") from error
