"""Errors and panics of the Rust library `tokenizers`, as errors of dragoman."""

from collections.abc import Iterator
from contextlib import contextmanager

from dragoman.errors import DragomanError, TokenizerError


@contextmanager
def rust_errors(what: str, remedy: str) -> Iterator[None]:
    """Convert exceptions and panics of the Rust library, in a `with` block, to an error that says `what` failed.

    A panic is a `BaseException`, which `except Exception` would let through.

    Raises:
        TokenizerError: If the block raises anything but an error of dragoman, `MemoryError` or an interrupt.
    """
    try:
        yield
    except (DragomanError, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = str(error).rpartition("Error: ")[2][:300]
        raise TokenizerError(f"{what}: {reason}. {remedy}") from error
