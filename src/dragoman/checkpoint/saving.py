"""Atomic saves: a crash, a full disk or a kill leaves either all old files of a folder or all new ones, never a mix.

The new files are written into a staging folder inside the target (the same disk, so a rename is enough) and flushed.
Then that folder is renamed to `.dragoman-pending`, which commits the save: before it nothing has changed, after it
the files only have to be moved into place. If a process is killed between the moves, the next load or save finishes
them. Other files (a README, logs, other checkpoints) stay untouched, and so does the folder itself: it may be the
working directory, a mount point or the target of a link.
"""

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from dragoman.errors import CheckpointError, DragomanError, UntrustedFileError
from dragoman.files import JSON_BYTES, claim, is_abandoned, read_bytes

if sys.platform != "win32":
    import fcntl


_STAGING = ".dragoman-saving-"
_PENDING = ".dragoman-pending"
_MANIFEST = ".files.json"

# Old weights with these names would be found next to the new ones, or instead of them.
_WEIGHTS = re.compile(
    r"ctc_head\.safetensors|model(?:\.(?P<file>[\w-]+?))?(?:-\d{5}-of-\d{5})?\.safetensors(?:\.index(?:\.(?P<index>[\w-]+))?\.json)?"
)


def save_folder(folder: str | Path, files: Mapping[str, bytes | Callable[[Path], None]]) -> None:
    """Write several files into a folder, all or none.

    If weights (`model.safetensors`, its shards and index) are among them, other weights of the same variant, left by an
    earlier save, are removed. All other files stay.

    Args:
        folder: Created if it does not exist.
        files: By name, the content or a function that writes the file to a path.

    Raises:
        DragomanError: If a file cannot be written or moved; the message describes the state of the folder.
    """
    folder = Path(folder)
    for name in files:
        if os.path.isdir(folder / check_file_name(name, "The list of files to save")):
            raise DragomanError(
                f"{folder / name} is a folder, but a file must be written there. Remove it, or choose another folder."
            )
    staging, mark = None, None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):  # so that nobody sees a staging folder without its mark
            _remove_abandoned(folder)
            staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
            mark = claim(staging)
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
    finally:
        if mark is not None:
            os.close(mark)
    finish_save(folder)


def _write(staging: Path, files: Mapping[str, bytes | Callable[[Path], None]]) -> None:
    """Write all files and their list, and flush them to disk."""
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
    """Move the files of a committed but interrupted save into place, if there is one.

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
            "Open the folder once with write permission."
        ) from error


def _finish(folder: Path) -> None:
    """Move the files; may be interrupted and repeated at any point. The caller holds the lock."""
    pending = folder / _PENDING
    if not os.path.isdir(pending):
        return
    manifest = pending / _MANIFEST
    if manifest.is_file():  # else only the last `rmdir` is missing
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
    """Return "fp16" for a weight file `model.fp16.safetensors`, "" for `model.safetensors`, else `None`."""
    found = _WEIGHTS.fullmatch(name)
    return found and (found["file"] or found["index"] or "")


def _read_manifest(path: Path) -> list[str]:
    """Return the names of the files of a save, checked: the folder may be untrusted."""
    try:
        names = json.loads(read_bytes(path, JSON_BYTES))
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UntrustedFileError(f"{path} is not a list of files. If no save is running there, delete {path.parent}.")
    return [check_file_name(name, path) for name in names]


def check_file_name(name: str, source: str | Path) -> str:
    r"""Return `name` if it is the plain name of a file in a folder.

    Args:
        name: The name, from an untrusted source.
        source: The source, for the message.

    Raises:
        UntrustedFileError: If it has `/`, `\` or `:`, is `..`, empty or too long, or has control characters.
    """
    if not name.strip(". ") or len(name) > 255 or re.search(r"[/\\:\x00-\x1f\x7f]", name):
        raise UntrustedFileError(
            f"{source} names the file {name[:100]!r}: only plain file names in the same folder are allowed. "
            "Do not use this checkpoint unless you trust its author."
        )
    return name


def _flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    if sys.platform == "win32" and path.is_dir():
        return  # folders cannot be opened there
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock `folder` against moves by other processes; the lock of a killed process is released."""
    if sys.platform == "win32":  # no protection against two saves into one folder at once
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network disks have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    """Remove the staging folders of killed saves; the caller holds the lock."""
    for staging in folder.glob(_STAGING + "*"):
        if is_abandoned(staging):
            shutil.rmtree(staging, ignore_errors=True)


def _reason(error: BaseException) -> str:
    cause = error.__cause__ if type(error) is DragomanError and error.__cause__ else error
    return (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
