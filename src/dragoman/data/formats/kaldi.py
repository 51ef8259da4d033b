"""Kaldi's data folders: `wav.scp`, `text`, and if they are there `segments`, `utt2spk`, `utt2lang` and `utt2dur`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from dragoman.data.formats.lines import Row, read_lines
from dragoman.data.utterance import Problem

Entries = dict[str, tuple[str, str]]  # key -> value, source


def is_kaldi(folder: Path) -> bool:
    """Return whether a folder is one of Kaldi's."""
    return (folder / "wav.scp").is_file() and (folder / "text").is_file()


def read_kaldi(folder: Path) -> Iterator[Row | Problem]:
    """Yield the items of a folder, in the order of `text`."""
    problems: list[Problem] = []
    recordings = _entries(folder / "wav.scp", problems)
    segments = _entries(folder / "segments", problems) if (folder / "segments").is_file() else None
    facts = {
        column: _entries(folder / name, problems)
        for column, name in {"speaker": "utt2spk", "language": "utt2lang", "duration": "utt2dur"}.items()
        if (folder / name).is_file()
    }
    texts = _entries(folder / "text", problems)
    yield from problems
    for key, (text, source) in texts.items():
        place = _place(key, source, recordings, segments)
        if isinstance(place, Problem):
            yield place
            continue
        more = {column: entries[key][0] for column, entries in facts.items() if key in entries}
        yield Row(values={"id": key, "text": text, **more, **place}, source=source)


def _entries(path: Path, problems: list[Problem]) -> Entries:
    found: Entries = {}
    for line in read_lines(path):
        if isinstance(line, Problem):
            problems.append(line)
            continue
        number, text = line
        key, _, value = text.strip().replace("\t", " ", 1).partition(" ")
        source = f"{path}:{number}"
        if key in found:
            message = f"the id {key!r} is also that of {found[key][1]}. Rename one."
            problems.append(Problem(kind="duplicate id", source=source, message=message))
        elif key:
            found[key] = value.strip(), source
    return found


def _place(key: str, source: str, recordings: Entries, segments: Entries | None) -> Mapping[str, str] | Problem:
    """Return the audio of an utterance, with its times if it is a segment."""
    name, times = key, {}
    if segments is not None:
        if key not in segments:
            message = f"{key!r} is not in `segments`. Add its recording and times there."
            return Problem(kind="missing audio", source=source, message=message)
        value, source = segments[key]
        cells = value.split()
        if len(cells) != 3:
            message = f"must have a recording, a start and an end after the id, but has {value!r:.60}."
            return Problem(kind="malformed line", source=source, message=message)
        name, times = cells[0], {"start": cells[1], "end": cells[2]}
    if name not in recordings:
        message = f"{name!r} is not in `wav.scp`. Add the path of its audio there."
        return Problem(kind="missing audio", source=source, message=message)
    audio, line = recordings[name]
    if audio.endswith("|"):
        message = f"{name!r} is a command in `wav.scp`, and commands are not run. Write its output to a file."
        return Problem(kind="command", source=line, message=message)
    return {"audio": audio, **times}
