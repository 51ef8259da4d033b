"""What dragoman raises at a user.

Every message says what was wrong, what came, what is allowed and what to do. `assert` is kept for our own invariants.
The command line turns each class into an exit code (`exit_code`), so that scripts can tell a typo from a missing model.
"""

from collections.abc import Iterable

__all__ = [
    "AudioError",
    "CheckpointError",
    "ConfigError",
    "DragomanError",
    "GenerationError",
    "MissingDependencyError",
    "ModelNotFoundError",
    "OutOfMemoryError",
    "TokenizerError",
    "UntrustedFileError",
    "did_you_mean",
]


class DragomanError(Exception):
    """Base of every error that a user can cause and mend."""

    exit_code = 1


class ConfigError(DragomanError, ValueError):
    """A configuration value is missing, of the wrong kind or out of range."""

    exit_code = 2


class GenerationError(ConfigError):
    """An option of `generate` is impossible, alone or with its neighbours."""


class AudioError(DragomanError, ValueError):
    """An audio file or array cannot be read or used."""


class TokenizerError(DragomanError, ValueError):
    """Tokenizer files or texts cannot be used."""

    exit_code = 3


class ModelNotFoundError(DragomanError, OSError):
    """A model, a file of it or a data set is not where it was looked for."""

    exit_code = 3


class MissingDependencyError(DragomanError, ImportError):
    """An optional package is needed; the message names the extra that brings it."""

    exit_code = 3


class OutOfMemoryError(DragomanError, MemoryError):
    """The work does not fit into memory."""

    exit_code = 4


class CheckpointError(DragomanError, ValueError):
    """The tensors of a checkpoint do not fit the model: missing, unexpected or misshapen."""

    exit_code = 5


class UntrustedFileError(CheckpointError):
    """A file is corrupt, or would run code, or points outside its folder: refused."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return ` Did you mean "x"?` for the nearest of `known`, or an empty string when none is near."""
    from difflib import get_close_matches

    near = get_close_matches(wrong, list(known), n=1, cutoff=0.6)
    return f' Did you mean "{near[0]}"?' if near else ""
