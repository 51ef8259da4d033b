"""Recognises and checks the container of an audio file, before decoding.

Decoders trust headers: if one is wrong, they silently return less audio. So the container is recognised by its first
bytes, not by the file name, and passed to the one decoder for it. Headers that can give a wrong length are checked
here: truncated files, MP3 with no or a wrong length, and concatenated OGG streams. Nothing here decodes a sample.
"""

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from dragoman.audio.reading.mpeg import frame_groups, frame_length, skip_id3, table_bytes
from dragoman.audio.reading.source import AudioFile
from dragoman.errors import AudioError

__all__ = ["FFMPEG", "UNKNOWN_SIZE", "Layout", "container_of", "inspect", "truncated"]

# Containers that need FFmpeg, by the names of its demuxers; libsndfile reads all others. FFmpeg must not guess the
# container, since it could guess a playlist, which opens further files.
FFMPEG = frozenset({"mov", "matroska", "asf", "aac", "amr", "avi", "g722"})

# Two that may begin with any bytes: G.722 has no header, and frames of MP3 may come after junk.
_BY_NAME = {".g722": "g722", ".mp3": "mp3"}

_MAX_CHUNKS = 10_000  # far above any real file; stops malicious ones
UNKNOWN_SIZE = 0x7FFF_F000  # programs that cannot seek back write sizes from here up


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The layout of an audio file.

    Attributes:
        container: "wav", "flac", …; one of `FFMPEG` if FFmpeg is needed.
        parts: The streams, decoded one after the other; each a list of byte ranges `(offset, size)` to be joined.
        trusted: Whether the number of samples in the header is right. If not, the decoder must continue to the end.
    """

    container: str
    parts: list[list[tuple[int, int]]]
    trusted: bool = True


def inspect(audio: AudioFile) -> Layout:
    """Recognise the container of `audio` and check it without decoding.

    Raises:
        AudioError: If it is not audio in a known format, or is truncated.
    """
    start = skip_id3(audio)
    if start > audio.size:
        raise truncated(audio, "it ends within its ID3 tag")
    head = audio.at(start, 64)
    container = container_of(head) or _BY_NAME.get(os.path.splitext(audio.name)[1].lower())
    if container is None:
        raise AudioError(
            f"{audio.name}: is not audio in a known format: {_describe(head)}. "
            "WAV, FLAC, OGG, MP3, AIFF, AU, M4A, MP4, WebM and more are supported; convert others with "
            "`ffmpeg -i INPUT output.wav`."
        )
    layout = Layout(container=container, parts=[[(start, audio.size - start)]])
    if container in _CHUNKED:
        _check_chunks(audio, start, _CHUNKED[container])
    elif container == "ogg":
        layout = replace(layout, parts=[[stream] for stream in _ogg_streams(audio, start)])
    elif container == "mp3":
        layout = _mp3_layout(audio, layout)
    return layout


def truncated(audio: AudioFile, what: str) -> AudioError:
    """Return the error for a file that ends too early."""
    return AudioError(
        f"{audio.name}: is truncated: {what}. Copy it again from its source; to use the rest, convert it with "
        "`ffmpeg -i INPUT output.wav`."
    )


def container_of(head: bytes) -> str | None:
    """Return the name of the container that begins with `head`, at least 64 bytes; `None` if it is unknown."""
    form = head[8:12]
    if head[:4] in (b"RIFF", b"RIFX", b"RF64"):
        return {b"WAVE": "wav", b"AVI ": "avi"}.get(form)
    if head[:4] == b"FORM":
        return "aiff" if form in (b"AIFF", b"AIFC") else None
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mov"
    magics = {
        b"fLaC": "flac", b"OggS": "ogg", b".snd": "au", b"caff": "caf", b"NIST": "nist", b"riff": "w64",
        b"\x1a\x45\xdf\xa3": "matroska", b"\x30\x26\xb2\x75": "asf", b"#!AM": "amr",
    }  # fmt: skip
    if head[:4] in magics:
        return magics[head[:4]]
    if head[:1] == b"\xff" and len(head) >= 4 and head[1] & 0xF6 == 0xF0:
        return "aac"  # ADTS: twelve bits of sync, layer 0
    return "mp3" if frame_length(head) else None


def _describe(head: bytes) -> str:
    """Describe a file that is not audio."""
    known = {
        b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image", b"GIF8": "a GIF image",
        b"PK\x03\x04": "a ZIP archive", b"%PDF": "a PDF document", b"\x1f\x8b": "gzip-compressed data",
        b"MThd": "MIDI, which has no recorded audio", b"RIFF": "a RIFF file without audio",
    }  # fmt: skip
    for magic, name in known.items():
        if head.startswith(magic):
            return f"it looks like {name}"
    if not head.strip(b"\0"):
        return "it begins with zeros" if head else "there is nothing after its ID3 tag"
    if re.fullmatch(rb"[\t\n\r\x20-\x7e\x80-\xff]+", head):
        return "it looks like text"
    return f"it begins with the bytes {head[:8].hex(' ')}"


@dataclass(frozen=True)
class _Chunked:
    """A container of chunks, each with its size: WAV, AIFF, W64."""

    header: struct.Struct  # id and size
    first: int  # offset of the first chunk
    samples: bytes  # id of the chunk with the samples
    own: int = 0  # bytes of its header included in the size of a chunk
    align: int = 2


_CHUNKED = {
    "wav": _Chunked(struct.Struct("<4sI"), 12, b"data"),
    "aiff": _Chunked(struct.Struct(">4sI"), 12, b"SSND"),
    "w64": _Chunked(struct.Struct("<4s12xQ"), 40, b"data", own=24, align=8),
}


def _check_chunks(audio: AudioFile, start: int, form: _Chunked) -> None:
    """Compare the size of the samples with the size of the file; the decoder checks the rest."""
    header = struct.Struct(">4sI") if audio.at(start, 4) == b"RIFX" else form.header
    offset = start + form.first
    for _ in range(_MAX_CHUNKS):
        raw = audio.at(offset, header.size)
        if len(raw) < header.size:
            return
        name, size = header.unpack(raw)
        offset += header.size
        size = max(0, size - form.own)
        if name == form.samples:
            left = audio.size - offset
            if size == 0 and left > 0:
                raise AudioError(
                    f"{audio.name}: has no samples according to its header, but {left} bytes follow: the recording "
                    "was not closed. Repair it with `ffmpeg -ignore_length 1 -i INPUT output.wav`."
                )
            if left + 64 < size < UNKNOWN_SIZE:  # some programs include the header
                raise truncated(audio, f"its header gives {size} bytes of samples, but there are only {left}")
            return
        offset += size + (-size) % form.align
    raise AudioError(f"{audio.name}: is malformed: more than {_MAX_CHUNKS} chunks before the samples.")


def _ogg_streams(audio: AudioFile, start: int) -> Iterator[tuple[int, int]]:
    """Yield offset and size of each concatenated stream (in radio recordings, songs); decoders stop after the first."""
    first = offset = start
    beginning = True  # in the first pages of a stream
    while len(head := audio.at(offset, 27)) == 27 and head[:4] == b"OggS":
        begins = bool(head[5] & 2)
        if begins and not beginning:
            yield first, offset - first
            first = offset
        beginning = begins
        offset += 27 + head[26] + sum(audio.at(offset + 27, head[26]))
    if offset > audio.size or audio.at(offset, 4) == b"OggS":
        raise truncated(audio, "its last OGG page is incomplete")
    yield first, audio.size - first


def _mp3_layout(audio: AudioFile, layout: Layout) -> Layout:
    """Return the layout of an MP3: frame by frame if it has no length, or a wrong one."""
    [[(start, size)]] = layout.parts
    stated = table_bytes(audio.at(start, 64))
    if stated is not None:
        if stated > audio.size + 1024:
            raise truncated(audio, f"its header gives {stated} bytes of audio, but there are only {size}")
        if abs(stated - size) <= 4096:  # a short tag may follow the audio
            return layout
    return replace(layout, parts=frame_groups(audio, start), trusted=False)
