"""Checkpoints of a run: folders that are there whole or not at all, with the hash of every file.

A checkpoint is written into a staging folder, flushed to disk, and renamed. Its `files.json` is written last and holds
the size and SHA-256 of every other file, so damage is noticed and the checkpoint before is used.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dragoman.errors import CheckpointError, DragomanError
from dragoman.files import read_json

_NAME = re.compile(r"checkpoint-(\d+)")
_STAGING, _REMOVED = ".dragoman-checkpoint-", ".dragoman-removed-"
_LIST = "files.json"
STATE, WEIGHTS, SHARDS = "state.json", "weights.safetensors", "shards"
"""The files of a checkpoint with the state of the loop, and with the weights, or the folder of a run with FSDP."""
SCRATCH = ".dragoman-shards-"
"""Begins the name of the folder where processes write their shards."""

_log = logging.getLogger("dragoman")


def save_checkpoint(
    folder: Path, step: int, state: Mapping[str, Any], writers: Mapping[str, Callable[[Path], Any]], keep: int
) -> Path:
    """Write a checkpoint, then remove old ones.

    Args:
        folder: Of the run.
        step: Number of steps done.
        state: The state of the loop, as plain values.
        writers: By name, functions that write a file or a folder.
        keep: Number of checkpoints to keep.

    Raises:
        DragomanError: If it cannot be written; the others are unchanged.
    """
    staging, final = folder / f"{_STAGING}{step}", folder / f"checkpoint-{step}"
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        for name, write in writers.items():
            write(staging / name)
        (staging / STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        written = sorted(path for path in staging.rglob("*") if path.is_file())
        listed = {path.relative_to(staging).as_posix(): _fact(path) for path in written}
        (staging / _LIST).write_text(json.dumps({"step": step, "files": listed}, indent=2) + "\n", encoding="utf-8")
        for path in (*staging.rglob("*"), staging):
            _flush(path)
        if final.exists():
            _remove(final)
        os.rename(staging, final)
        _flush(folder)
    except (OSError, DragomanError) as error:
        shutil.rmtree(staging, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DragomanError(
            f"The checkpoint {final} cannot be written ({reason}); earlier checkpoints are unchanged. Free some space, "
            "and continue with --resume."
        ) from error
    for old in checkpoints(folder)[keep:]:
        _remove(old)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, the newest first."""
    found = {int(match[1]): path for path in folder.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))}
    return [found[step] for step in sorted(found, reverse=True)]


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint of a run; a warning names each newer one that is damaged.

    Raises:
        CheckpointError: If there are checkpoints, but all are damaged.
    """
    _clean(folder)
    found = checkpoints(folder)
    for path in found:
        fault = fault_of(path)
        if fault is None:
            return path
        _log.warning("%s is damaged (%s); the checkpoint before it is used.", path, fault)
    if found:
        raise CheckpointError(
            f"{folder}: every checkpoint is damaged. Remove the folders checkpoint-* to begin again from the start."
        )
    return None


def fault_of(path: Path) -> str | None:
    """Return what is wrong with a checkpoint, if anything is."""
    try:
        listed = read_json(path / _LIST)["files"]
        for name, fact in listed.items():
            if not (path / name).is_file():
                return f"{name} is missing"
            if _fact(path / name) != fact:
                return f"{name} has changed"
        return None if STATE in listed else f"{STATE} is missing"
    except (DragomanError, KeyError, AttributeError, TypeError, OSError) as error:
        return f"its list of files cannot be read: {error}"


def _fact(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _flush(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove a checkpoint; it gets another name first, so that half of one is never taken for a damaged one."""
    away = path.with_name(f"{_REMOVED}{path.name}")
    shutil.rmtree(away, ignore_errors=True)
    with suppress(OSError):
        os.rename(path, away)
        shutil.rmtree(away, ignore_errors=True)


def _clean(folder: Path) -> None:
    """Remove what killed processes left."""
    for pattern in (_STAGING, _REMOVED, SCRATCH):
        for path in folder.glob(pattern + "*"):
            shutil.rmtree(path, ignore_errors=True)
