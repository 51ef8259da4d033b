"""Recognises and checks the container of an audio file, before decoding.

Decoders trust headers: if one is wrong, they silently return less audio. So the container is recognised by its first
bytes, not by the file name, and passed to the one decoder for it. Headers that can give a wrong length are checked
here: truncated files, MP3 with no or a wrong length, and concatenated OGG streams. Nothing here decodes a sample.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from dragoman.audio.reading.damage import Damage, truncated
from dragoman.audio.reading.mpeg import (
    count_frames,
    frame_groups,
    frame_length,
    skip_id3,
    table_bytes,
    table_frames,
)
from dragoman.audio.reading.ranges import Piece
from dragoman.audio.reading.sizes import check_sizes
from dragoman.audio.reading.source import AudioFile
from dragoman.errors import AudioError

# Containers that need FFmpeg, by the names of its demuxers; libsndfile reads all others. FFmpeg must not guess the
# container, since it could guess a playlist, which opens further files.
_FFMPEG = frozenset({
    "mov", "matroska", "asf", "aac", "amr", "avi", "g722", "mpegts", "mpeg", "flv", "wv", "ac3", "eac3", "dts", "rm",
    "tta", "ape", "mpc8",
})  # fmt: skip

# Two that may begin with any bytes: G.722 has no header, and frames of MP3 may come after junk.
_BY_NAME = {".g722": "g722", ".mp3": "mp3"}

_PACKETS = ((0, 188), (4, 192), (0, 204))  # first sync byte and packet size of MPEG transport streams
_LOOK = 620  # bytes: three packets of an MPEG transport stream


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The layout of an audio file.

    Attributes:
        container: "wav", "flac", …; as FFmpeg calls it, where FFmpeg knows it.
        parts: The streams, decoded one after the other; each a list of pieces to be joined.
        trusted: Whether the number of samples in the header is right. If not, the decoder must continue to the end.
        needs_ffmpeg: Whether FFmpeg decodes it, under the name of the container, or libsndfile.
    """

    container: str
    parts: list[list[Piece]]
    trusted: bool = True
    needs_ffmpeg: bool = False


def inspect(audio: AudioFile, damage: Damage) -> Layout:
    """Recognise the container of `audio` and check it without decoding.

    Args:
        audio: The file.
        damage: Where faults are reported.

    Raises:
        AudioError: If it is not audio in a known format, or is truncated and `damage` is not skipped.
    """
    start = skip_id3(audio)
    if start > audio.size:
        raise truncated(audio, "it ends within its ID3 tag")
    container = container_name(audio)
    if container is None:
        raise AudioError(
            f"{audio.name}: is not audio in a known format: {_describe(audio.at(start, _LOOK))}. "
            "WAV, FLAC, OGG, MP3, AIFF, AU, M4A, MP4, WebM and more are supported; convert others with "
            "`ffmpeg -i INPUT output.wav`."
        )
    pieces = check_sizes(audio, start, container, damage)
    layout = Layout(container=container, parts=[pieces], needs_ffmpeg=container in _FFMPEG)
    if container == "ogg":
        faults = len(damage.faults)
        streams = list(_ogg_streams(audio, start, damage))
        if _is_multiplexed(audio, start) or len(damage.faults) > faults:  # FFmpeg tells how much is missing
            layout = replace(layout, needs_ffmpeg=True)
        else:
            layout = replace(layout, parts=[[stream] for stream in streams])
    elif container == "mp3":
        layout = _mp3_layout(audio, start, layout, damage)
    return layout


def container_name(audio: AudioFile) -> str | None:
    """Return the name of a file's container, by its content or else by its ending; `None` if it is unknown."""
    head = audio.at(skip_id3(audio), _LOOK)
    return container_of(head) or _BY_NAME.get(os.path.splitext(audio.name)[1].lower())


def container_of(head: bytes) -> str | None:
    """Return the name of the container that begins with `head`, at least 64 bytes; `None` if it is unknown."""
    form = head[8:12]
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return {b"WAVE": "wav", b"AVI ": "avi"}.get(form)
    if head[:4] == b"FORM":
        return "aiff" if form in (b"AIFF", b"AIFC") else None
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mov"
    magics = {
        b"fLaC": "flac", b"OggS": "ogg", b".snd": "au", b"caff": "caf", b"NIST": "nist", b"riff": "w64",
        b"\x1a\x45\xdf\xa3": "matroska", b"\x30\x26\xb2\x75": "asf", b"#!AM": "amr", b"FLV\x01": "flv", b"wvpk": "wv",
        b".RMF": "rm", b".ra\xfd": "rm", b"\0\0\x01\xba": "mpeg", b"TTA1": "tta", b"MAC ": "ape", b"MPCK": "mpc8",
        b"\x7f\xfe\x80\x01": "dts", b"Crea": "voc",
    }  # fmt: skip
    if head[:4] in magics:
        return magics[head[:4]]
    if head[:1] == b"\xff" and len(head) >= 4 and head[1] & 0xF6 == 0xF0:
        return "aac"  # ADTS: twelve bits of sync, layer 0
    if head[:2] == b"\x0b\x77" and len(head) >= 6:
        return "eac3" if head[5] >> 3 > 10 else "ac3"
    if len(head) >= _LOOK and any({*head[place : place + 3 * size : size]} == {0x47} for place, size in _PACKETS):
        return "mpegts"
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


def _is_multiplexed(audio: AudioFile, start: int) -> bool:
    """Return whether the second page of an OGG file begins another stream too."""
    segments = audio.at(start + 26, 1)
    table = audio.at(start + 27, segments[0] if segments else 0)
    second = audio.at(start + 27 + len(table) + sum(table), 6)
    return second[:4] == b"OggS" and bool(second[5] & 2)


def _ogg_streams(audio: AudioFile, start: int, damage: Damage) -> Iterator[tuple[int, int]]:
    """Yield offset and size of each concatenated stream (in radio recordings, songs); decoders stop after the first."""
    first = offset = start
    beginning = True  # in the first pages of a stream
    while len(head := audio.at(offset, 27)) == 27:
        if head[:4] != b"OggS":
            found = _next_page(audio, offset)
            if found is None:  # only a tag or padding follows
                break
            damage.report(
                AudioError(
                    f"{audio.name}: is damaged: {found - offset} bytes from byte {offset} on are no OGG page. Copy it "
                    "again from its source; to use the rest, set `on_damage` to 'skip'."
                )
            )
            offset = found
            continue
        begins = bool(head[5] & 2)
        if begins and not beginning:
            yield first, offset - first
            first = offset
        beginning = begins
        offset += 27 + head[26] + sum(audio.at(offset + 27, head[26]))
    if offset > audio.size or audio.at(offset, 4) == b"OggS":
        damage.report(truncated(audio, "its last OGG page is incomplete"))
    yield first, audio.size - first


def _next_page(audio: AudioFile, offset: int) -> int | None:
    """Return the offset of the next OGG page, or `None` if there is none."""
    while offset < audio.size:
        window = audio.at(offset, 1 << 16)
        found = window.find(b"OggS\0")
        if found >= 0:
            return offset + found
        offset += max(1, len(window) - 4)  # it may cross the border
    return None


def _mp3_layout(audio: AudioFile, start: int, layout: Layout, damage: Damage) -> Layout:
    """Return the layout of an MP3: frame by frame if it has no length, or a wrong one."""
    size, head = audio.size - start, audio.at(start, 64)
    stated, frames = table_bytes(head), table_frames(head)
    if stated is not None:
        # A tag that was counted may have been removed since; frames cannot.
        is_cut = stated > audio.size + 1024 if frames is None else stated > size and count_frames(audio, start) < frames
        if is_cut:
            damage.report(truncated(audio, f"its header gives {stated} bytes of audio, but there are only {size}"))
            damage.present = size / stated
        elif abs(stated - size) <= 4096:  # a short tag may follow the audio
            return layout
    return replace(layout, parts=frame_groups(audio, start), trusted=False)
