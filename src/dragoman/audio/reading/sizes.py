"""Sizes that containers state, compared with what the file holds, before a decoder trusts them.

A size above what is there is a truncated file; one below it, with no further chunk after the samples, is a header that
was never completed or has overflowed, and is corrected for the decoder. Nothing here decodes a sample.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from dragoman.audio.reading.damage import Damage, truncated
from dragoman.audio.reading.ends import UNKNOWN_SIZE, stated_end
from dragoman.audio.reading.ranges import Piece
from dragoman.audio.reading.source import AudioFile
from dragoman.errors import AudioError

_MAX_CHUNKS = 10_000  # before the samples: far above any real file; stops malicious ones
_SLACK = 64  # bytes by which some programs are wrong because they count their header
_TAIL = 1024  # bytes after the samples from which on they are not just a tag
_PADDING = 1 << 16  # bytes; as many zeros after the samples are no silence


def check_sizes(audio: AudioFile, start: int, container: str, damage: Damage) -> list[Piece]:
    """Compare the sizes in a file that begins at `start` with what is there.

    Returns:
        The file, with a corrected header if a size in it is too small.

    Raises:
        AudioError: If the file is truncated or malformed.
    """
    whole: list[Piece] = [(start, audio.size - start)]
    if container in _CHUNKED:
        return _check_samples(audio, start, _CHUNKED[container], damage) or whole
    if container in _HEADERS:
        return _HEADERS[container](audio, start, damage) or whole
    stated = stated_end(audio, start, container)
    if stated is not None and stated > audio.size:
        damage.report(truncated(audio, f"at least {stated - audio.size} bytes are missing at its end"))
        damage.present = (audio.size - start) / (stated - start)
    return whole


def _report_truncated(audio: AudioFile, damage: Damage, stated: int, left: int) -> None:
    damage.report(truncated(audio, f"its header gives {stated} bytes of samples, but there are only {left}"))
    damage.present = max(1, left) / stated


@dataclass(frozen=True)
class _Chunked:
    """A container of chunks, each with its size: WAV, AIFF, W64, CAF."""

    header: struct.Struct  # id and size
    first: int  # offset of the first chunk
    samples: bytes  # id of the chunk with the samples
    own: int = 0  # bytes of its header included in the size of a chunk
    align: int = 2
    unknown: int = UNKNOWN_SIZE  # sizes from here up are placeholders
    largest: int = 0xFFFF_FFFF  # that its field takes


_CHUNKED = {
    "wav": _Chunked(struct.Struct("<4sI"), 12, b"data"),
    "aiff": _Chunked(struct.Struct(">4sI"), 12, b"SSND"),
    "w64": _Chunked(struct.Struct("<4s12xQ"), 40, b"data", own=24, align=8, unknown=1 << 62, largest=1 << 62),
    "caf": _Chunked(struct.Struct(">4sQ"), 8, b"data", align=1, unknown=1 << 62, largest=1 << 62),
}


def _check_samples(audio: AudioFile, start: int, form: _Chunked, damage: Damage) -> list[Piece] | None:
    """Compare the size of the samples with the size of the file; return a corrected file if it is too small."""
    magic, offset, wide = audio.at(start, 4), start + form.first, None
    header = struct.Struct(">4sI") if magic == b"RIFX" else form.header
    for _ in range(_MAX_CHUNKS):
        raw = audio.at(offset, header.size)
        if len(raw) < header.size:
            return None
        name, size = header.unpack(raw)
        place, offset = offset, offset + header.size
        size = max(0, size - form.own)
        if name == b"ds64":
            wide = struct.unpack("<Q", audio.at(offset + 8, 8).ljust(8, b"\0"))[0]
        if name == form.samples:
            known = wide if wide and size == 0xFFFF_FFFF else size
            if not _must_be_corrected(audio, offset, known, form, header, damage, is_wide=wide is not None):
                return [b"RF64", (start + 4, audio.size - start - 4)] if magic == b"BW64" else None
            return _corrected(audio, start, place, raw, form, is_wav=magic in (b"RIFF", b"RF64", b"BW64"))
        offset += size + (-size) % form.align
    raise AudioError(f"{audio.name}: is malformed: more than {_MAX_CHUNKS} chunks before the samples.")


def _must_be_corrected(
    audio: AudioFile, offset: int, size: int, form: _Chunked, header: struct.Struct, damage: Damage, is_wide: bool
) -> bool:
    left = audio.size - offset
    if size == 0 and left > 0:
        damage.report(
            AudioError(
                f"{audio.name}: has no samples according to its header, but {left} bytes follow: the recording was not "
                "closed. Set `on_damage` to 'skip' to read them, or repair it with `ffmpeg -ignore_length 1 -i INPUT "
                "output.wav`."
            )
        )
        return True
    if size >= form.unknown and not is_wide:
        return form.samples == b"data" and (left > form.largest or form.largest > 0xFFFF_FFFF)
    if left + _SLACK < size:
        _report_truncated(audio, damage, size, left)
        return True
    return left - size >= _TAIL and not _is_end(audio, offset + size, form.align, header)


def _is_end(audio: AudioFile, end: int, align: int, header: struct.Struct) -> bool:
    """Return whether the samples end at `end`: a chunk, a tag or padding follows, not more samples."""
    for place in {end, end + (-end) % align, end + end % align}:
        raw = audio.at(place, header.size)
        if raw.startswith((b"ID3", b"TAG", b"APETAGEX")):
            return True
        if len(raw) == header.size and re.fullmatch(rb"[\x20-\x7e]{4}", raw[:4]):
            size = header.unpack(raw)[1]
            if place + size <= audio.size + _SLACK:
                return True
    return audio.size - end <= _PADDING and not any(audio.at(end, _PADDING))


def _corrected(
    audio: AudioFile, start: int, place: int, raw: bytes, form: _Chunked, *, is_wav: bool
) -> list[Piece] | None:
    """Return the file with the size of its samples, whose chunk begins at `place`, set to all that is there."""
    offset = place + len(raw)
    left = audio.size - offset
    if is_wav and (left > form.largest or audio.at(start, 4) != b"RIFF"):
        ds64 = struct.pack("<4sIQQQI", b"ds64", 28, audio.size, left, 0, 0)
        begin = start + form.first
        if audio.at(begin, 4) == b"ds64":
            begin += 8 + struct.unpack("<I", audio.at(begin + 4, 4))[0]
        head = b"RF64\xff\xff\xff\xffWAVE" + ds64
        return [head, (begin, place - begin), b"data\xff\xff\xff\xff", (offset, left)]
    is_big = form.header.format.startswith(">") or audio.at(start, 4) == b"RIFX"
    width = 8 if form.largest > 0xFFFF_FFFF else 4
    size = min(left + form.own, form.largest).to_bytes(width, "big" if is_big else "little")
    return [(start, place - start), raw[:-width] + size, (offset, left)]


def _check_au(audio: AudioFile, start: int, damage: Damage) -> list[Piece] | None:
    offset, size = struct.unpack(">II", audio.at(start + 4, 8).ljust(8, b"\0"))
    left = audio.size - start - offset
    if size >= UNKNOWN_SIZE or left < 0:
        return None
    if left + _SLACK < size:
        _report_truncated(audio, damage, size, left)
    if size + _TAIL > left or (left - size <= _PADDING and not any(audio.at(start + offset + size, _PADDING))):
        return None
    return [(start, 8), b"\xff\xff\xff\xff", (start + 12, audio.size - start - 12)]


def _check_nist(audio: AudioFile, start: int, damage: Damage) -> list[Piece] | None:
    text = audio.at(start, 1024)
    fields = dict(re.findall(rb"^(\w+) -\w+ (\S+)", text, re.MULTILINE))
    try:
        header = int(text[8:16])
        per_sample = int(fields[b"sample_n_bytes"]) * int(fields.get(b"channel_count", b"1"))
        size = int(fields[b"sample_count"]) * per_sample
    except (KeyError, ValueError):
        return None
    left = audio.size - start - header
    if left + _SLACK < size and b"," not in fields.get(b"sample_coding", b""):  # not compressed
        _report_truncated(audio, damage, size, left)
    return None


_HEADERS: dict[str, Callable[[AudioFile, int, Damage], list[Piece] | None]] = {"au": _check_au, "nist": _check_nist}
