"""States of a frozen encoder on disk: each clip is encoded once, in whatever batch, epoch or run it comes first.

An entry is named by a hash of the encoder and of the clip as the encoder reads it, so changed audio, features or
weights never find an old entry. Entries are written whole or not at all; processes and runs may share a folder.
"""

import hashlib
import logging
import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dragoman.errors import DragomanError

_log = logging.getLogger("dragoman")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class StateOptions:
    """Where states are kept, and how.

    Attributes:
        folder: Made if it does not exist.
        dtype: Type on disk. `"float16"` halves the size and rounds states to 11 bits.
        max_bytes: Size of the folder above which nothing is added.
    """

    folder: Path
    dtype: Literal["float32", "float16"] = "float32"
    max_bytes: int = 20 * 10**9


class EncoderStates:
    """Reads and writes the states `[frames, width]` of clips.

    Args:
        options: Where and how.
        encoder: The hash of the encoder's configuration and weights.

    Raises:
        DragomanError: If the folder cannot be made.
    """

    def __init__(self, options: StateOptions, encoder: str) -> None:
        self._options, self._encoder, self._full = options, encoder, False
        try:
            options.folder.mkdir(parents=True, exist_ok=True)
            self._bytes = sum(path.stat().st_size for path in options.folder.glob("*/*.npy"))
        except OSError as error:
            raise DragomanError(
                f"{options.folder} cannot be used for encoder states ({error.strerror}). Choose another "
                "`training.encoder_states_dir`."
            ) from error

    def key(self, clip: Array) -> str:
        """Return the name of a clip's entry.

        Args:
            clip: What the encoder reads of it, without padding.
        """
        content = hashlib.sha256(f"{self._encoder} {self._options.dtype} {clip.dtype} {clip.shape}".encode())
        content.update(np.ascontiguousarray(clip).data)
        return content.hexdigest()

    def read(self, key: str) -> Array | None:
        """Return states in float32; `None` if there are none, or their file is damaged."""
        try:
            return np.asarray(np.load(self._path(key), allow_pickle=False), np.float32)
        except (OSError, ValueError, EOFError):
            return None

    def rounded(self, states: Array) -> Array:
        """Return states as they will be read back."""
        return states.astype(self._options.dtype).astype(np.float32)

    def write(self, key: str, states: Array) -> None:
        """Add an entry; a full folder or disk is reported once, and training goes on without."""
        if self._full:
            return
        if self._bytes + states.size * np.dtype(self._options.dtype).itemsize > self._options.max_bytes:
            self._stop(f"{self._bytes / 1e9:.1f} GB are the limit of `training.encoder_states_gigabytes`")
            return
        path = self._path(key)
        staging = path.with_suffix(f".{secrets.token_hex(4)}.part")
        try:
            path.parent.mkdir(exist_ok=True)
            with staging.open("wb") as file:
                np.save(file, states.astype(self._options.dtype))
            self._bytes += staging.stat().st_size
            os.replace(staging, path)
        except OSError as error:
            with suppress(OSError):
                staging.unlink()
            self._stop(str(error.strerror))

    def _path(self, key: str) -> Path:
        return self._options.folder / key[:2] / f"{key[2:]}.npy"

    def _stop(self, reason: str) -> None:
        self._full = True
        _log.warning(
            "%s keeps no more encoder states (%s): further clips are encoded in every epoch.",
            self._options.folder,
            reason,
        )


def encoder_hash(description: object, tensors: Iterable[tuple[str, Array]]) -> str:
    """Return a hash of an encoder.

    Args:
        description: What else its states depend on.
        tensors: Names and values of all weights.
    """
    content = hashlib.sha256(repr(description).encode())
    for name, tensor in tensors:
        content.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        content.update(np.ascontiguousarray(tensor).data)
    return content.hexdigest()


def clips_of(part: Mapping[str, Array], *, time_axis: int, masked: bool) -> list[Array]:
    """Return what the encoder reads of each row of a batch, without padding where padding does not count.

    Args:
        part: A batch: audio or features, perhaps `attention_mask`, and `labels`.
        time_axis: Of the audio, `batch` included.
        masked: Whether the encoder ignores padding.
    """
    (name,) = part.keys() - {"attention_mask", "labels"}
    mask = part.get("attention_mask")
    if mask is None or not masked:
        return list(part[name])
    return [
        np.take(row, np.arange(length), axis=time_axis - 1) for row, length in zip(part[name], mask.sum(1), strict=True)
    ]
