"""From the columns of a row to an utterance: usual names of columns, numbers, and where relative paths lead."""

import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dragoman.data.audio import IN_ARCHIVE
from dragoman.data.formats.lines import Row
from dragoman.data.utterance import Problem, Utterance
from dragoman.errors import ConfigError, DataError, did_you_mean

# What a column is for -> its usual names, the first that a row has counts; case does not. CoVoST and fairseq name a
# transcript beside the translation: then the translation is the text.
ROLES: Mapping[str, tuple[str, ...]] = {
    "audio": (
        "audio", "audio_filepath", "audio_path", "audio_file", "path", "file", "file_name", "filename", "file_path",
        "filepath", "wav", "wav_path", "wav_filename", "clip", "recording",
    ),
    "text": (
        "tgt_text", "translation", "text", "sentence", "transcript", "transcription", "normalized_text", "raw_text",
        "target", "reference", "label",
    ),
    "id": ("id", "utt_id", "utterance_id", "segment_id", "uid", "key"),
    "duration": ("duration", "duration_s", "audio_duration", "seconds"),
    "duration_ms": ("duration_ms", "duration[ms]"),
    "offset": ("offset", "start", "start_time", "begin"),
    "end": ("end", "end_time", "stop"),
    "speaker": ("speaker", "speaker_id", "spk", "spk_id", "client_id"),
    "language": ("language", "lang", "locale", "src_lang", "source_language"),
}  # fmt: skip
NEEDED = ("audio", "text")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BESIDE = ("", "clips", "audio", "wav", "wavs")  # where files are, below the folder of a manifest


def check_columns(columns: Mapping[str, str] | None) -> dict[str, str]:
    """Return the columns that the caller names, by their roles.

    Raises:
        ConfigError: If a role is unknown.
    """
    for role in columns or {}:
        if role not in ROLES:
            raise ConfigError(f"`columns` may name {', '.join(ROLES)}, but not {role!r}.{did_you_mean(role, ROLES)}")
    return dict(columns or {})


class RowReader:
    """Makes utterances of the rows of one data set.

    Args:
        folder: What relative paths are relative to.
        columns: Names of columns by role, where they are not the usual ones.
        audio_root: Another folder that relative paths may be relative to; it comes first.
        find: False leaves addresses of audio as they are: they are no paths.
        needed: Columns that every item must have; a text that is not needed may be missing or empty.
        remote: Address of an object store that relative paths are relative to, as `s3://bucket/talks`; URLs are then
            left as they are, and missing files to whoever reads them. Empty if only URLs are remote, `None` if none.
    """

    def __init__(
        self,
        folder: Path,
        columns: Mapping[str, str] | None = None,
        audio_root: str | os.PathLike[str] | None = None,
        *,
        find: bool = True,
        needed: Sequence[str] = NEEDED,
        remote: str | None = None,
    ) -> None:
        self._columns = check_columns(columns)
        self._find, self._needed, self._remote = find, needed, remote
        roots = [os.fspath(audio_root)] if audio_root is not None else []
        self._roots = [
            *roots,
            *(str(folder / below) for below in _BESIDE),
            "",
        ]  # strings: there may be millions of items
        self._names: dict[tuple[str, ...], dict[str, str]] = {}
        self._ids: dict[str, str] = {}
        self._copies: Counter[str] = Counter()

    def check_header(self, path: Path, header: Sequence[str]) -> None:
        """Raise a `DataError` if a table lacks a column that every item needs, or that the caller names."""
        named = self._named(header)
        for role in dict.fromkeys([*self._columns, *self._needed]):
            if role not in named:
                raise DataError(f"{path}:1: {self._missing(role, header)}")

    def _missing(self, role: str, header: Iterable[str]) -> str:
        wanted = self._columns.get(role)
        expected = f"{wanted!r}, which `columns` names" if wanted else " or ".join(ROLES[role])
        found = ", ".join(map(repr, header)) or "none"
        return (
            f"there is no column for the {role}: expected {expected}; found {found}. Name it, as in "
            f"`--columns {role}=NAME`, or add a first line with the names of the columns."
        )

    def _named(self, header: Iterable[str]) -> dict[str, str]:
        """Return the columns of a row by role."""
        key = tuple(header)
        if key not in self._names:
            lower = {name.strip().lower(): name for name in reversed(key)}
            usual = {
                role: lower[name]
                for role, names in ROLES.items()
                if (name := next((name for name in names if name in lower), None)) is not None
            }
            given = {role: name for role, name in self._columns.items() if name in key}
            self._names[key] = {**{r: n for r, n in usual.items() if r not in self._columns}, **given}
        return self._names[key]

    def read(self, row: Row) -> Utterance | Problem:
        """Return the utterance of a row, or what is wrong with it."""
        named = self._named(row.values)

        def problem(kind: str, message: str) -> Problem:
            return Problem(kind=kind, source=row.source, message=message)

        for role in self._needed:
            if role not in named:
                return problem("missing column", self._missing(role, row.values))
        try:
            return self._utterance(row, lambda role: row.values[named[role]] if role in named else None)
        except _BadRowError as error:
            return problem(*error.args)

    def _utterance(self, row: Row, value: Callable[[str], Any]) -> Utterance:
        text = _text(value("text")) if "text" in self._needed else ""
        written = _path(value("audio"))
        audio = self._found(written) if self._find else written
        offset = _seconds("offset", value("offset")) or 0.0
        duration = _duration(value, offset)
        return Utterance(
            id=self._id(_name(value("id")), written, offset, row.source),
            audio=audio,
            text=text,
            offset=offset,
            duration=duration,
            speaker=_name(value("speaker")),
            language=_name(value("language")),
            source=row.source,
        )

    def _id(self, given: str | None, audio: str, offset: float, source: str) -> str:
        name = given or (audio if offset == 0 else f"{audio}@{offset:g}")
        if given and name in self._ids:
            raise _BadRowError("duplicate id", f"the id {given!r} is also that of {self._ids[name]}. Rename one.")
        while name in self._ids:  # several texts of one recording
            self._copies[audio] += 1
            name = f"{audio}#{self._copies[audio] + 1}"
        self._ids[name] = source
        return name

    def _found(self, audio: str) -> str:
        inside = IN_ARCHIVE.match(audio)
        name, rest = (inside["archive"], audio[len(inside["archive"]) :]) if inside else (audio, "")
        if self._remote is not None and ("://" in name or self._remote):
            return audio if "://" in name else f"{self._remote}/{audio}"
        if "://" in name:
            raise _BadRowError("remote audio", f"{name}: is a URL. Download the file and give its path.")
        for spelled in dict.fromkeys([name, name.replace("\\", "/")]):
            for root in [""] if os.path.isabs(spelled) else self._roots:
                place = os.path.join(root, spelled)
                if os.path.isfile(place):
                    return place + rest
        if self._remote is not None:
            return os.path.join(self._roots[0], audio)
        if os.path.isabs(name):
            raise _BadRowError("missing audio", f"{name}: there is no such file.")
        looked = ", ".join(root or "." for root in self._roots[:-1] if os.path.isdir(root or "."))
        raise _BadRowError(
            "missing audio",
            f"{name}: there is no such file. Relative paths are looked for in {looked} and the current folder; set "
            "another with `audio_root`.",
        )


class _BadRowError(Exception):
    """A row that cannot be used; its arguments are those of `Problem`."""


def has_content(text: str) -> bool:
    """Return whether a text has a character that is neither white space nor invisible."""
    return any(unicodedata.category(character)[0] not in "ZC" for character in text)


def _text(value: Any) -> str:
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int | float)):
        raise _BadRowError("bad text", f"the text must be a string, but is a {type(value).__name__}: {value!r:.60}.")
    text = "" if value is None else str(value).strip()
    if _SURROGATE.search(text):
        raise _BadRowError("bad text", f"the text holds half of a surrogate pair, which is no character: {text!a:.60}.")
    if not has_content(text):
        raise _BadRowError("empty text", "the text is empty. Remove the item, or write its transcript.")
    return text


def _path(value: Any) -> str:
    if isinstance(value, dict):  # `datasets` writes audio as {"path": …, "bytes": …}
        value = value.get("path")
    if not isinstance(value, str) or not value.strip():
        raise _BadRowError("no audio", f"the audio must be a path, but is {value!r:.60}.")
    if "\0" in value:
        raise _BadRowError("no audio", f"the path of the audio has a null character: {value!r:.60}.")
    return value.strip()


def _name(value: Any) -> str | None:
    name = "" if value is None else str(value).strip()
    return name or None


def _duration(value: Callable[[str], Any], offset: float) -> float | None:
    duration = _seconds("duration", value("duration"))
    if duration is None and (thousandths := _seconds("duration_ms", value("duration_ms"))) is not None:
        duration = thousandths / 1000
    if duration is None and (end := _seconds("end", value("end"))) is not None:
        duration = end - offset
    if duration is not None and duration <= 0:
        raise _BadRowError("bad number", f"the duration must be more than 0 seconds, but is {duration:g}.")
    return duration


def _seconds(what: str, value: Any) -> float | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        raise _BadRowError("bad number", f"the {what} must be a number, 0 or more, but is {value!r:.60}.")
    return number
