"""The options of the commands that read a data set."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dragoman._lazy import require
from dragoman.errors import ConfigError
from dragoman.transcriber.fields import option

_data = partial(option, group="Data")


@dataclass(frozen=True, kw_only=True)
class DataFlags:
    """How a data set is read."""

    columns: str | None = _data(
        None, "Columns where they are not the usual ones: `audio=clip,text=translation`.", unset="by their usual names"
    )
    split: str | None = _data(None, "Which set of a folder or a data set: `train` for `train.tsv`.")
    audio_root: Path | None = _data(
        None, "Folder that relative paths are relative to.", unset="the folder of the manifest, or `clips` in it"
    )

    def read(self) -> dict[str, Any]:
        """Return the arguments of `scan_manifest`."""
        return {"columns": columns_of(self.columns), "split": self.split, "audio_root": self.audio_root}

    def usable(self, path: str, max_bad: float) -> tuple[list[Any], list[Any]]:
        """Return the usable items of a data set, and what is wrong with the others.

        Raises:
            DataError: If too many are unusable.
        """
        if not 0 <= max_bad <= 1:
            raise ConfigError(f"`--max_bad` must be a share from 0 to 1, but is {max_bad}.")
        found = require("dragoman.data.manifest", "Reading data").scan_manifest(path, **self.read())
        total = len(found.utterances) + len(found.problems)
        require("dragoman.data.utterance", "Reading data").check_share(path, found.problems, total, max_bad)
        return found.utterances, found.problems


def columns_of(text: str | None) -> dict[str, str] | None:
    """Return columns by role.

    Raises:
        ConfigError: If the text is not `role=name,role=name`.
    """
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    if any(not (role.strip() and name.strip()) for role, _, name in pairs):
        raise ConfigError(f"`--columns` must be like audio=clip,text=translation, but is {text!r}.")
    return {role.strip(): name.strip() for role, _, name in pairs}
