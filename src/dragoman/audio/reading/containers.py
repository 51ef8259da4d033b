"""What the bytes of an audio file say about themselves, read before any decoder sees them.

A decoder believes headers, and answers a wrong one with less audio and no word. So the container is recognised by its
first bytes, never by the name of the file; only then is it handed to the one decoder that knows it; and the places
where a header can promise more or less than is there are checked here: cut files, MP3 without or with a false length,
OGG streams joined end to end.

Lives here: `inspect` and the layouts of containers. Nothing here decodes a sample.
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

# Containers that need FFmpeg, by the names of its demuxers; all others are read by libsndfile. FFmpeg is never left to
# guess, since among its guesses are playlists, which name further files to open.
FFMPEG = frozenset({"mov", "matroska", "asf", "aac", "amr", "avi", "g722"})

# Two that may begin with anything: G.722 has no header, and frames of MP3 are looked for behind junk.
_BY_NAME = {".g722": "g722", ".mp3": "mp3"}

_MAX_CHUNKS = 10_000  # far beyond any real file, soon reached by one that is made to keep us busy
UNKNOWN_SIZE = 0x7FFF_F000  # sizes from here on are what programs write that cannot go back to fill them in


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How to read a file.

    Attributes:
        container: "wav", "flac", …; one of `FFMPEG` if FFmpeg is needed.
        parts: The streams, to be decoded one after the other; each a list of byte ranges `(offset, size)` to be joined.
        trusted: Whether the number of samples in the header can be believed. If not, the decoder must go on to the end.
    """

    container: str
    parts: list[list[tuple[int, int]]]
    trusted: bool = True


def inspect(audio: AudioFile) -> Layout:
    """Recognise the container of `audio` and check what can be checked without decoding.

    Raises:
        AudioError: If it is not audio that dragoman knows, or has been cut short.
    """
    start = skip_id3(audio)
    if start > audio.size:
        raise truncated(audio, "it ends within its ID3 tag")
    head = audio.at(start, 64)
    container = container_of(head) or _BY_NAME.get(os.path.splitext(audio.name)[1].lower())
    if container is None:
        raise AudioError(
            f"{audio.name}: is not audio in a known format: {_describe(head)}. "
            "WAV, FLAC, OGG, MP3, AIFF, AU, M4A, MP4, WebM and more are read; convert others with "
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
        f"{audio.name}: is cut short: {what}. Copy it again from its source; to use what is there, "
        "`ffmpeg -i INPUT output.wav` writes a file that is whole."
    )


def container_of(head: bytes) -> str | None:
    """Name the container that begins with `head`, 64 bytes or more; `None` if it is not known."""
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
    """Say what a file that is not audio looks like."""
    known = {
        b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image", b"GIF8": "a GIF image",
        b"PK\x03\x04": "a ZIP archive", b"%PDF": "a PDF document", b"\x1f\x8b": "gzip-compressed data",
        b"MThd": "MIDI, notes rather than sound", b"RIFF": "a RIFF file without sound",
    }  # fmt: skip
    for magic, name in known.items():
        if head.startswith(magic):
            return f"it looks like {name}"
    if not head.strip(b"\0"):
        return "it begins with zeros" if head else "there is nothing after its ID3 tag"
    if re.fullmatch(rb"[\t\n\r\x20-\x7e\x80-\xff]+", head):
        return "it looks like text"
    return f"it begins with the bytes {head[:8].hex(' ')}"


# --- WAV, AIFF, W64: chunks, each with its size -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Chunked:
    header: struct.Struct  # id and size
    first: int  # offset of the first chunk
    samples: bytes  # id of the chunk that holds the samples
    own: int = 0  # how much of a chunk's size is its own header
    align: int = 2


_CHUNKED = {
    "wav": _Chunked(struct.Struct("<4sI"), 12, b"data"),
    "aiff": _Chunked(struct.Struct(">4sI"), 12, b"SSND"),
    "w64": _Chunked(struct.Struct("<4s12xQ"), 40, b"data", own=24, align=8),
}


def _check_chunks(audio: AudioFile, start: int, form: _Chunked) -> None:
    """Compare the size of the samples with what the file holds; everything else is left to the decoder."""
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
                    f"{audio.name}: its header says that it holds no samples, yet {left} bytes follow: the "
                    "recording was not closed. Repair it with `ffmpeg -ignore_length 1 -i INPUT output.wav`."
                )
            if left + 64 < size < UNKNOWN_SIZE:  # some programs count their header in
                raise truncated(audio, f"its header promises {size} bytes of samples, but {left} are there")
            return
        offset += size + (-size) % form.align
    raise AudioError(f"{audio.name}: is malformed: more than {_MAX_CHUNKS} chunks before the samples.")


# --- OGG: pages; streams that are joined follow each other ------------------------------------------------------------


def _ogg_streams(audio: AudioFile, start: int) -> Iterator[tuple[int, int]]:
    """Yield offset and size of each stream of a chain (radio recordings: one a song); decoders stop after the first."""
    first = offset = start
    beginning = True  # still among the pages that begin a stream
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
    """Decide whether the length that an MP3 claims can be believed; if not, read it frame by frame."""
    [[(start, size)]] = layout.parts
    promised = table_bytes(audio.at(start, 64))
    if promised is not None:
        if promised > audio.size + 1024:
            raise truncated(audio, f"its header promises {promised} bytes of sound, but {size} are there")
        if abs(promised - size) <= 4096:  # a short tag may follow the sound
            return layout
    return replace(layout, parts=frame_groups(audio, start), trusted=False)
