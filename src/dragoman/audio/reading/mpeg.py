"""Frames of MP3 files, between tags, tables of contents and junk.

A frame is a header of 4 bytes (sync, version, layer, bitrate, rate, padding, mode) followed by audio. It gives only its
own length, so the length of a file is known only by counting frames. Decoders estimate it, or trust a table in the
first frame, and stop there: they lose the end of a file without a table, or joined from several by `cat`. Here the
frames are counted.

Reference: ISO/IEC 11172-3 and 13818-3, section 2.4; for the table of contents,
https://www.codeproject.com/Articles/8295/MPEG-Audio-Frame-Header.
"""

import re
from collections.abc import Iterator

from dragoman.audio.reading.ranges import Piece
from dragoman.audio.reading.source import AudioFile
from dragoman.errors import AudioError

# Kilobits per second by bitrate index 1…14, for (MPEG version, layer); MPEG 2.5 is like 2, and its layers II and III
# are the same.
_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44_100, 48_000, 32_000)  # hertz; halved in MPEG 2, quartered in MPEG 2.5
_TABLES = re.compile(b"Xing|Info")
_HEADER = re.compile(  # no reserved version, layer, bitrate or rate
    rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff][%b]" % re.escape(bytes(b for b in range(0x10, 0xF0) if b & 0x0C != 0x0C))
)
_MAX_MISSES = 20_000  # false frame headers; a picture in a tag has some hundreds
_LOOK = 48  # bytes of a frame in which a table is found: header, side information, name


def skip_id3(audio: AudioFile) -> int:
    """Return the offset after the ID3v2 tags at the beginning; beyond the end of the file if it ends within one."""
    offset = 0
    while offset < audio.size and (size := _id3_length(audio.at(offset, 10))):
        offset += size
    return offset


def _id3_length(head: bytes) -> int:
    """Return the length of the ID3v2 tag that begins with `head`, or 0. Its header is 10 bytes, 4 x 7 bits the size."""
    if len(head) < 10 or head[:3] != b"ID3":
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if head[5] & 0x10 else 0)  # a footer repeats the header


def frame_length(head: bytes) -> int:
    """Return the length in bytes of the frame that begins with `head`, or 0.

    Free-format frames (bitrate index 0), which have no length and are not used in practice, give 0.
    """
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bitrate, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or rate == 3 or not 1 <= bitrate <= 14:
        return 0
    table = (1, layer) if version == 3 else (2, min(layer, 2))
    bits = 1000 * _BITRATES[table][bitrate - 1]
    samples, hertz = _samples_and_rate(head)
    if layer == 1:
        return (12 * bits // hertz + padding) * 4
    return samples // 8 * bits // hertz + padding


def _samples_and_rate(head: bytes) -> tuple[int, int]:
    """Return the number of samples of a frame, and its sampling rate in hertz."""
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    hertz = _RATES[head[2] >> 2 & 3] >> {3: 0, 2: 1, 0: 2}[version]
    return 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152, hertz


def stated_seconds(audio: AudioFile) -> float | None:
    """Return the length in seconds that the first frame gives, by its table or its bitrate; `None` without one."""
    start = skip_id3(audio)
    head = audio.at(start, 64)
    length = frame_length(head)
    if not length:
        return None
    samples, hertz = _samples_and_rate(head)
    frames = table_frames(head)
    return ((audio.size - start) / length if frames is None else frames) * samples / hertz


def table_bytes(frame: bytes) -> int | None:
    """Return the bytes of audio given by the table in the first frame of a file, or None."""
    return _table(frame)[1]


def table_frames(frame: bytes) -> int | None:
    """Return the number of frames given by the table in the first frame of a file, or None."""
    return _table(frame)[0]


def _table(frame: bytes) -> tuple[int | None, int | None]:
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54], "big"), int.from_bytes(frame[46:50], "big")
    match = _TABLES.search(frame, 0, _LOOK)
    if match is None:
        return None, None
    flags, place = int.from_bytes(frame[match.end() : match.end() + 4], "big"), match.end() + 4
    counts: list[int | None] = []
    for bit in (1, 2):  # frames, bytes: either may be left out
        counts.append(int.from_bytes(frame[place : place + 4], "big") if flags & bit else None)
        place += 4 if flags & bit else 0
    return counts[0], counts[1]


def count_frames(audio: AudioFile, start: int) -> int:
    """Return the number of complete frames with audio in an MP3."""
    return sum(1 for _ in _frames(audio, start))


def frame_groups(audio: AudioFile, start: int) -> list[list[Piece]]:
    """Find the audio in an MP3 from frame to frame.

    Returns:
        For each section of one format (sampling rate, mono or not), the byte ranges `(offset, size)` of its frames,
        without tables, tags, junk and an incomplete last frame.

    Raises:
        AudioError: If there is no complete frame, or far more junk than frames.
    """
    groups: list[list[tuple[int, int]]] = []
    current = None
    for kind, offset, size in _frames(audio, start):
        if kind != current:
            groups.append([])
            current = kind
        ranges = groups[-1]
        if ranges and sum(ranges[-1]) == offset:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + size)
        else:
            ranges.append((offset, size))
    if not groups:
        raise AudioError(f"{audio.name}: has no complete MP3 frame. Copy it again, or check that it is an MP3.")
    return [list(group) for group in groups]


def _frames(audio: AudioFile, offset: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield format, offset and size of every complete frame with audio."""
    synchronised, misses = False, 0
    while offset < audio.size:
        head = audio.at(offset, _LOOK)
        length = frame_length(head)
        end = offset + length
        if length and (synchronised or end == audio.size or _kind(audio.at(end, 4)) == _kind(head)):
            if end > audio.size:
                return
            if not (_TABLES.search(head) or head[36:40] == b"VBRI"):
                yield _kind(head), offset, length
            synchronised, offset = True, end
        elif tag := _id3_length(head):
            offset += tag
        else:
            synchronised, misses = False, misses + 1
            if misses > _MAX_MISSES:
                raise AudioError(
                    f"{audio.name}: is damaged: too little of it is MP3. Try `ffmpeg -i INPUT output.wav`."
                )
            offset = _next_header(audio, offset + 1)


def _kind(head: bytes) -> bytes:
    """Return the format of a frame: version, layer, sampling rate, and whether it is mono."""
    if not frame_length(head):
        return b""
    return bytes((head[1] & 0xFE, head[2] & 0x0C, head[3] & 0xC0 == 0xC0))


def _next_header(audio: AudioFile, offset: int) -> int:
    """Return the offset of the next candidate for a frame header, or the end of the file."""
    while offset < audio.size:
        window = audio.at(offset, 1 << 16)
        if match := _HEADER.search(window):
            return offset + match.start()
        offset += max(1, len(window) - 2)  # a header may cross the border
    return audio.size
