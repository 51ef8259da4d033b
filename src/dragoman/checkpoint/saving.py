"""Writing a folder so that a crash, a full disk or a kill leaves either the old files or the new ones, never a mix.

The new files are written into a staging folder inside the target (the same disk, so a rename is enough) and flushed.
Then one rename of that folder, to `.dragoman-pending`, is the moment of truth: before it the save never happened, after
it the save is complete and only has files to move into place. Whoever comes next, a load or a save, finishes the moves
of a process that was killed there. Files that are not ours to write (a README, logs, other checkpoints) stay untouched,
and so does the folder itself: it may be the working directory, a mount point or the target of a link.
"""

import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from dragoman.errors import CheckpointError, DragomanError, UntrustedFileError
from dragoman.files import JSON_BYTES, read_bytes

if sys.platform != "win32":
    import fcntl

__all__ = ["check_file_name", "finish_save", "save_folder"]

_STAGING = ".dragoman-saving-"
_PENDING = ".dragoman-pending"
_MANIFEST = ".files.json"
_ABANDONED = 24 * 3600  # seconds after which the staging folder of a killed save is removed

# Old weights of these names would be found beside the new ones, or before them.
_WEIGHTS = re.compile(
    r"model(?:\.(?P<file>[\w-]+?))?(?:-\d{5}-of-\d{5})?\.safetensors(?:\.index(?:\.(?P<index>[\w-]+))?\.json)?"
)


def save_folder(folder: str | Path, files: Mapping[str, bytes | Callable[[Path], None]]) -> None:
    """Write several files into a folder, all or none.

    If weights (`model.safetensors`, its shards and index) are among them, the folder's other weights of the same
    variant go: they are what an earlier save left. All else that the folder holds stays.

    Args:
        folder: Made if it does not exist.
        files: By name, the content or a function that writes the file at the path that it is given.

    Raises:
        DragomanError: If a file cannot be written or moved; the message says what the folder holds now.
    """
    folder = Path(folder)
    for name in files:
        if os.path.isdir(folder / check_file_name(name, "The list of files to save")):
            raise DragomanError(
                f"{folder / name} is a folder where a file must go. Remove it, or choose another folder."
            )
    staging = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
        _write(staging, files)
        with _locked(folder):
            _finish(folder)
            os.rename(staging, folder / _PENDING)
    except BaseException as error:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        written_badly = type(error) is DragomanError  # by a function that writes its file itself
        if not written_badly and (not isinstance(error, OSError) or isinstance(error, DragomanError)):
            raise
        raise DragomanError(
            f"Saving into {folder} failed ({_reason(error)}); what was there is unchanged. "
            "Free some space or choose another folder, and save again."
        ) from error
    finish_save(folder)
    _remove_abandoned(folder)


def _write(staging: Path, files: Mapping[str, bytes | Callable[[Path], None]]) -> None:
    """Write all files and their list, and wait until they are on the disk."""
    manifest = staging / _MANIFEST
    manifest.write_text(json.dumps(list(files)))
    for name, content in files.items():
        if callable(content):
            content(staging / name)
            shutil.copymode(manifest, staging / name)  # safetensors leaves its files readable by the owner only
        else:
            (staging / name).write_bytes(content)
        _flush(staging / name)
    _flush(manifest)
    _flush(staging)


def finish_save(folder: str | Path) -> None:
    """Move the files of a save that was complete but interrupted into place; do nothing if there is none.

    Raises:
        CheckpointError: If they cannot be moved, for instance because the disk is read-only.
    """
    folder = Path(folder)
    if not os.path.isdir(folder / _PENDING):
        return
    try:
        with _locked(folder):
            _finish(folder)
    except OSError as error:
        raise CheckpointError(
            f"The last save into {folder} is complete but its files cannot be moved into place ({_reason(error)}). "
            "Open the folder once with the right to write in it."
        ) from error


def _finish(folder: Path) -> None:
    """Do the moves; may be interrupted and repeated at any point. The caller holds the lock."""
    pending = folder / _PENDING
    if not os.path.isdir(pending):
        return
    manifest = pending / _MANIFEST
    if manifest.is_file():  # else all was done but the last `rmdir`
        names = _read_manifest(manifest)
        _flush(folder)
        for name in names:
            if (pending / name).exists():
                os.replace(pending / name, folder / name)
        variants = {_variant(name) for name in names} - {None}
        for old in sorted(set(os.listdir(folder)).difference(names)):
            if _variant(old) in variants and not (folder / old).is_dir():
                os.unlink(folder / old)
        _flush(folder)
        os.unlink(manifest)
    os.rmdir(pending)
    _flush(folder)


def _variant(name: str) -> str | None:
    """Return "fp16" for a file of the weights `model.fp16.safetensors`, "" for `model.safetensors`, else `None`."""
    found = _WEIGHTS.fullmatch(name)
    return found and (found["file"] or found["index"] or "")


def _read_manifest(path: Path) -> list[str]:
    """Return the names of the files of a save. The folder may come from a stranger, so they are checked."""
    try:
        names = json.loads(read_bytes(path, JSON_BYTES))
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UntrustedFileError(f"{path} is not a list of files. If nobody is saving there, delete {path.parent}.")
    return [check_file_name(name, path) for name in names]


def check_file_name(name: str, source: str | Path) -> str:
    r"""Return `name` if it names a file right in a folder.

    Args:
        name: What somebody else wrote.
        source: Who wrote it, for the message.

    Raises:
        UntrustedFileError: If it has `/`, `\` or `:`, is `..`, empty or too long, or has control characters.
    """
    if not name.strip(". ") or len(name) > 255 or re.search(r"[/\\:\x00-\x1f\x7f]", name):
        raise UntrustedFileError(
            f"{source} names the file {name[:100]!r}: only plain file names in the same folder are allowed. "
            "Do not use this checkpoint unless you know who made it."
        )
    return name


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if sys.platform == "win32" and path.is_dir():
        return  # folders cannot be opened there
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from moving files in `folder` at the same time; a killed process loses its lock."""
    if sys.platform == "win32":  # no protection against two processes that save into one folder at once
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network disks know no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    """Remove what saves that were killed long ago left behind."""
    for staging in folder.glob(_STAGING + "*"):
        with suppress(OSError):
            if staging.stat().st_mtime < time.time() - _ABANDONED:
                shutil.rmtree(staging)


def _reason(error: BaseException) -> str:
    cause = error.__cause__ if type(error) is DragomanError and error.__cause__ else error
    return (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
