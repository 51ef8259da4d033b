"""Transcripts as files: txt, vtt, srt, tsv and json, in the formats of the `whisper` command.

Lives here: one pure function per format, and atomic writing: a file is either complete or absent. Not here: cues, which
strict parsers accept (`subtitles`).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from html import escape
from pathlib import Path

from dragoman.errors import ConfigError, did_you_mean
from dragoman.files import write_bytes
from dragoman.transcriber.layout import Layout
from dragoman.transcriber.result import Transcript
from dragoman.transcriber.subtitles import cues


def _clock(milliseconds: int, point: str, hours_always: bool) -> str:
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds, milliseconds = divmod(milliseconds, 1000)
    prefix = f"{hours:02d}:" if hours_always or hours else ""
    return f"{prefix}{minutes:02d}:{seconds:02d}{point}{milliseconds:03d}"


def clock(seconds: float) -> str:
    """Return a time as `mm:ss.mmm`, with hours if there are any."""
    return _clock(round(seconds * 1000), ".", False)


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ")


def _txt(transcript: Transcript, layout: Layout | None) -> Iterator[str]:
    for cue in cues(transcript.segments):
        yield f"{_one_line(cue.text)}\n"


def _vtt(transcript: Transcript, layout: Layout | None) -> Iterator[str]:
    yield "WEBVTT\n\n"
    for cue in cues(transcript.segments, layout, lambda text: escape(text, quote=False)):
        yield f"{_clock(cue.start, '.', False)} --> {_clock(cue.end, '.', False)}\n{cue.text}\n\n"


def _srt(transcript: Transcript, layout: Layout | None) -> Iterator[str]:
    for number, cue in enumerate(cues(transcript.segments, layout), start=1):
        yield f"{number}\n{_clock(cue.start, ',', True)} --> {_clock(cue.end, ',', True)}\n{cue.text}\n\n"


def _tsv(transcript: Transcript, layout: Layout | None) -> Iterator[str]:
    yield "start\tend\ttext\n"
    for cue in cues(transcript.segments):
        yield f"{cue.start}\t{cue.end}\t{_one_line(cue.text)}\n"


def _json(transcript: Transcript, layout: Layout | None) -> Iterator[str]:
    yield json.dumps(transcript.to_dict(), ensure_ascii=False, allow_nan=False) + "\n"


_RENDERERS: Mapping[str, Callable[[Transcript, Layout | None], Iterator[str]]] = {
    "txt": _txt,
    "vtt": _vtt,
    "srt": _srt,
    "tsv": _tsv,
    "json": _json,
}
FORMATS = tuple(_RENDERERS)


def formats_of(name: str) -> tuple[str, ...]:
    """Return the formats of a name: itself, several separated by commas, or all of them for `"all"`.

    Raises:
        ConfigError: If there is no such format.
    """
    names = [part.strip() for part in name.split(",")]
    for part in names:
        if part not in (*FORMATS, "all"):
            allowed = ", ".join((*FORMATS, "all"))
            raise ConfigError(
                f"`output_format` must be one of {allowed}, or several separated by commas, but is {part!r}."
                f"{did_you_mean(part, (*FORMATS, 'all'))}"
            )
    return FORMATS if "all" in names else tuple(dict.fromkeys(names))


def render(transcript: Transcript, output_format: str, layout: Layout | None = None) -> str:
    """Return the content of a transcript's file in one of `FORMATS`.

    Args:
        transcript: What to write.
        output_format: One of `FORMATS`.
        layout: For srt and vtt: `None` for one cue per segment, `Layout()` for cues that are easy to read.

    Raises:
        ConfigError: If there is no such format.
    """
    if len(names := formats_of(output_format)) > 1:
        raise ConfigError(f"`output_format` must be one of {', '.join(FORMATS)} here, but is {output_format!r}.")
    (name,) = names
    return "".join(_RENDERERS[name](transcript, layout))


def write_transcript(
    transcript: Transcript, stem: Path, output_format: str, layout: Layout | None = None
) -> list[Path]:
    """Write `stem`.txt and so on, replacing existing files; missing folders are made.

    Args:
        transcript: What to write.
        stem: Path of the files without their ending; a dot in its name stays (`talk.v2` gives `talk.v2.srt`).
        output_format: One of `FORMATS`, several separated by commas, or `"all"`.
        layout: As for `render`.

    Raises:
        ConfigError: If there is no such format.
        DragomanError: If the folder or a file cannot be written; no partial file is left.
    """
    paths = output_paths(stem, output_format)
    for name, path in paths.items():
        write_bytes(path, render(transcript, name, layout).encode())
    return list(paths.values())


def output_paths(stem: Path, output_format: str) -> dict[str, Path]:
    """Return the path of the file of each format."""
    return {name: stem.with_name(f"{stem.name}.{name}") for name in formats_of(output_format)}
