"""Where a media file ends by its own account: by the sizes of its chunks, boxes, elements, packets or frames."""

from collections.abc import Callable

from dragoman.audio.reading.source import AudioFile

UNKNOWN_SIZE = 0x7FFF_F000  # programs that cannot seek back write sizes from here up
_MAX_ELEMENTS = 1_000_000  # later ones are not checked


def stated_end(audio: AudioFile, start: int, container: str) -> int | None:
    """Return the end of a file that begins at `start`, or `None` if it does not say; what is after it is not needed.

    Where only the last packet or frame is known to be incomplete, it is any offset beyond the end.
    """
    return _ENDS[container](audio, start) if container in _ENDS else None


def _avi_end(audio: AudioFile, start: int) -> int | None:
    end = start
    while audio.at(end, 4) == b"RIFF":  # large files are a sequence of these
        size = int.from_bytes(audio.at(end + 4, 4), "little")
        if size == 0 or size >= UNKNOWN_SIZE:
            return None
        end += 8 + size + size % 2
    return end - 1024  # the index comes last, and is not needed


def _boxes_end(audio: AudioFile, start: int) -> int | None:
    """Return the end of the last box of an MP4 that matters."""
    offset = start
    for _ in range(_MAX_ELEMENTS):
        head = audio.at(offset, 16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        size = int.from_bytes(head[8:16], "big") if size == 1 else size
        if size < 8 or not kind.isalnum():
            return None
        if offset + size > audio.size:
            return offset + size if kind in (b"mdat", b"moov", b"moof") else None
        offset += size
    return None


def _vint(data: bytes, *, keep_marker: bool) -> tuple[int, int]:
    """Return a number of EBML, -1 if it is unknown, and its length in bytes, 0 if there is none."""
    length = 9 - data[0].bit_length() if data and data[0] else 0
    if not 0 < length <= min(8, len(data)):
        return 0, 0
    value = int.from_bytes(data[:length], "big")
    if keep_marker:
        return value, length
    value &= (1 << 7 * length) - 1
    return (-1 if value == (1 << 7 * length) - 1 else value), length


_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675


def _matroska_end(audio: AudioFile, start: int) -> int | None:
    """Return the end of the segment, or of its last block if it states none."""
    offset = start
    for _ in range(_MAX_ELEMENTS):
        head = audio.at(offset, 16)
        kind, id_length = _vint(head, keep_marker=True)
        size, size_length = _vint(head[id_length:], keep_marker=False)
        if not id_length or not size_length:
            return audio.size + 1 if head and head[0] and len(head) < 12 else None
        offset += id_length + size_length
        if size == -1 and kind not in (_SEGMENT, _CLUSTER):
            return None
        if size > 0:
            offset += size
        if kind == _SEGMENT and size >= 0:
            return offset
        if offset > audio.size:
            return offset
    return None


def _asf_end(audio: AudioFile, start: int) -> int | None:
    data = start + int.from_bytes(audio.at(start + 16, 8), "little")
    if audio.at(data, 4) != b"\x36\x26\xb2\x75":
        return None
    size = int.from_bytes(audio.at(data + 16, 8), "little")
    return data + size if 50 < size < UNKNOWN_SIZE << 16 else None


def _flv_end(audio: AudioFile, start: int) -> int | None:
    """Return the end of the file, or beyond it if it does not end with the length of a tag that is there."""
    del start
    length = int.from_bytes(audio.at(audio.size - 4, 4), "big")
    tag = audio.at(audio.size - 4 - length, 4)
    return audio.size if length == 11 + int.from_bytes(tag[1:4], "big") else audio.size + 1


def _transport_end(audio: AudioFile, start: int) -> int:
    packet = 192 if audio.at(start + 4, 1) == b"\x47" and audio.at(start + 196, 1) == b"\x47" else 188
    return audio.size + -(audio.size - start) % packet


def _wavpack_end(audio: AudioFile, start: int) -> int:
    offset = start
    while audio.at(offset, 4) == b"wvpk":
        offset += 8 + max(24, int.from_bytes(audio.at(offset + 4, 4), "little"))
    return offset


def _real_end(audio: AudioFile, start: int) -> int | None:
    offset = start
    for _ in range(_MAX_ELEMENTS):
        size = int.from_bytes(audio.at(offset + 4, 4), "big")
        if size < 8 or audio.at(offset, 4) == b"DATA":
            return offset + size - 64 if size >= 8 else None
        offset += size
    return None


_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_AC3_RATES = (48_000, 44_100, 32_000)  # hertz


def _ac3_end(audio: AudioFile, start: int) -> int:
    """Return the end of the last frame (ETSI TS 102 366, sections 4.4.1 and E.1.3)."""
    offset = start
    while len(head := audio.at(offset, 6)) == 6 and head[:2] == b"\x0b\x77":
        if head[5] >> 3 > 10:  # E-AC-3
            words = (int.from_bytes(head[2:4], "big") & 0x7FF) + 1
        else:
            rate, code = head[4] >> 6, head[4] & 0x3F
            if rate > 2 or code >= 2 * len(_AC3_KBITS):
                return offset
            words = _AC3_KBITS[code // 2] * 96_000 // _AC3_RATES[rate] + (code % 2 if rate == 1 else 0)
        offset += 2 * words
    return offset


_ENDS: dict[str, Callable[[AudioFile, int], int | None]] = {
    "avi": _avi_end,
    "mov": _boxes_end,
    "matroska": _matroska_end,
    "asf": _asf_end,
    "flv": _flv_end,
    "mpegts": _transport_end,
    "wv": _wavpack_end,
    "rm": _real_end,
    "ac3": _ac3_end,
    "eac3": _ac3_end,
}
