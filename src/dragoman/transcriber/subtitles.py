"""From segments to subtitles: what stands on the screen from when to when, in how many lines, with which word marked.

Lives here: cues, in whole milliseconds, that strict players accept: in order, apart, at least a millisecond long,
without blank lines and arrows. Not here: file formats (`writers.py`).
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dragoman.errors import ConfigError
from dragoman.transcriber.result import Segment
from dragoman.transcriber.words import split_words

__all__ = ["Cue", "Layout", "cues"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How subtitles are laid out, in the names of the `whisper` command. By default a segment is a cue of one line.

    A cue never holds words of two segments. Words that have no times of their own share those of their segment by
    their letters.

    Attributes:
        max_line_width: Most characters of a line; marks over and under letters count nothing. A longer word has a line
            for itself.
        max_line_count: Most lines of a cue; by default all that a segment needs, or one if only words are counted.
        max_words_per_line: Most words of a line.
        highlight_words: Show each cue once for every word, with the word that is being said underlined.

    Raises:
        ConfigError: If a number is below 1, or there is nothing that would part the lines to count.
    """

    max_line_width: int | None = None
    max_line_count: int | None = None
    max_words_per_line: int | None = None
    highlight_words: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        faults = [
            f"`{name}` must be at least 1, but is {value}."
            for name in ("max_line_width", "max_line_count", "max_words_per_line")
            if (value := getattr(self, name)) is not None and value < 1
        ]
        if self.max_line_count is not None and not self._parts_lines:
            faults.append("`max_line_count` needs `max_line_width` or `max_words_per_line`: a segment is one line.")
        if faults:
            raise ConfigError(" ".join(faults))

    @property
    def _parts_lines(self) -> bool:
        return self.max_line_width is not None or self.max_words_per_line is not None

    @property
    def is_plain(self) -> bool:
        """Whether segments are shown as they are."""
        return not self._parts_lines and not self.highlight_words


class Cue(NamedTuple):
    """What is shown from one whole millisecond to another."""

    start: int
    end: int
    text: str


class _Shown(NamedTuple):
    """A word on the screen, and the milliseconds in which it is said."""

    start: int
    end: int
    word: str  # with the blank before it
    marked: str  # the same in the markup of the format, without the blank


def cues(segments: Iterable[Segment], layout: Layout | None = None, escape: Callable[[str], str] = str) -> list[Cue]:
    """Return the cues of the segments that have words.

    Where two overlap, the earlier one ends when the later one begins.

    Args:
        segments: In any order.
        layout: By default a cue a segment.
        escape: Turns plain text into the markup of a format.
    """
    layout = layout or Layout()
    return _apart(cue for segment in sorted(segments, key=lambda s: s.start) for cue in _of(segment, layout, escape))


def _of(segment: Segment, layout: Layout, escape: Callable[[str], str]) -> Iterator[Cue]:
    if layout.is_plain:
        lines = [line.strip() for line in segment.text.splitlines()]
        text = escape(_without_arrows("\n".join(filter(None, lines))))
        if text:
            yield Cue(_milliseconds(segment.start), _milliseconds(segment.end), text)
        return
    shown = list(_shown(segment, escape))
    for screen in _screens(_lines(shown, layout), layout):
        yield from _highlighted(screen) if layout.highlight_words else [_cue(screen)]


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _without_arrows(text: str) -> str:
    return text.replace("-->", "->")


def _shown(segment: Segment, escape: Callable[[str], str]) -> Iterator[_Shown]:
    words = segment.words
    texts = [word.word for word in words] if words else split_words(segment.text)
    times = [(word.start, word.end) for word in words] if words else _spread(segment, texts)
    for text, (start, end) in zip(texts, times, strict=True):
        marked = escape(_without_arrows(" ".join(text.split())))
        if marked:
            blank = " " if text[:1].isspace() else ""
            yield _Shown(_milliseconds(start), _milliseconds(end), blank + text.strip(), marked)


def _spread(segment: Segment, texts: Sequence[str]) -> Iterator[tuple[float, float]]:
    """Give words the time of their segment, as much as they have letters."""
    total = max(sum(map(len, texts)), 1)
    before = 0
    for text in texts:
        start, before = before, before + len(text)
        span = segment.end - segment.start
        yield segment.start + span * start / total, segment.start + span * before / total


def _width(text: str) -> int:
    """Return how many places of a line a text takes."""
    return sum(unicodedata.category(character) not in ("Mn", "Me", "Cf") for character in text)


def _lines(shown: Iterable[_Shown], layout: Layout) -> Iterator[list[_Shown]]:
    line: list[_Shown] = []
    used = 0
    for one in shown:
        width = _width(one.word)
        too_wide = layout.max_line_width is not None and used + width > layout.max_line_width
        if line and (too_wide or len(line) == layout.max_words_per_line):
            yield line
            line, used = [], 0
        used += width if line else _width(one.word.lstrip())
        line.append(one)
    if line:
        yield line


def _screens(lines: Iterable[list[_Shown]], layout: Layout) -> Iterator[list[list[_Shown]]]:
    """Put lines together, as many as are shown at once."""
    count = layout.max_line_count
    if count is None and layout.max_line_width is None and layout.max_words_per_line is not None:
        count = 1
    screen: list[list[_Shown]] = []
    for line in lines:
        if len(screen) == count:
            yield screen
            screen = []
        screen.append(line)
    if screen:
        yield screen


def _cue(
    lines: list[list[_Shown]], said: _Shown | None = None, start: int | None = None, end: int | None = None
) -> Cue:
    """Return a cue of these lines, the word `said` underlined."""
    text = "\n".join(
        "".join(
            (" " if place and one.word.startswith(" ") else "")
            + (f"<u>{one.marked}</u>" if one is said else one.marked)
            for place, one in enumerate(line)
        )
        for line in lines
    )
    return Cue(
        lines[0][0].start if start is None else start, max(one.end for one in lines[-1]) if end is None else end, text
    )


def _highlighted(lines: list[list[_Shown]]) -> Iterator[Cue]:
    """Show the same lines word by word, and unmarked between words."""
    words = [one for line in lines for one in line if one.end > one.start]
    if not words:
        yield _cue(lines)
    now = words[0].start if words else 0
    for one in words:
        if one.start > now:
            yield _cue(lines, None, now, one.start)
        now = max(now, one.end)
        yield _cue(lines, one, one.start, now)


def _apart(found: Iterable[Cue]) -> list[Cue]:
    apart: list[Cue] = []
    for start, end, text in found:
        if apart and start < apart[-1].end:
            apart[-1] = apart[-1]._replace(end=max(start, apart[-1].start + 1))
            start = max(start, apart[-1].end)
        apart.append(Cue(start, max(end, start + 1), text))
    return apart
