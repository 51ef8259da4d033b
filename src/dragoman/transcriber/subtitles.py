"""From segments to the cues of subtitles: text, start and end, line breaks and the highlighted word.

Cues are in whole milliseconds and as strict players want them: in order, not overlapping, at least a millisecond long,
without blank lines and arrows. Not here: file formats (`writers`).
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from dragoman.transcriber.layout import Layout
from dragoman.transcriber.readable import MAX_MS, MIN_MS, grouped, in_lines
from dragoman.transcriber.result import Segment, is_unspaced
from dragoman.transcriber.words import split_words


class Cue(NamedTuple):
    """A text on the screen, with its start and end in whole milliseconds."""

    start: int
    end: int
    text: str


class _TimedWord(NamedTuple):
    """A word on the screen, and when it is spoken, in milliseconds."""

    start: int
    end: int
    word: str  # with the blank before it
    markup: str  # the same in the markup of the format, without the blank
    width: int


def cues(segments: Iterable[Segment], layout: Layout | None = None, escape: Callable[[str], str] = str) -> list[Cue]:
    """Return the cues of the segments that have words.

    Where two overlap, the earlier one ends when the later one begins.

    Args:
        segments: In any order.
        layout: `None` for one cue of one line per segment.
        escape: Turns plain text into the markup of a format.
    """
    ordered = sorted(segments, key=lambda s: s.start)
    if layout is None:
        return _apart(cue for segment in ordered for cue in _whole(segment, escape))
    if layout.breaks_lines:
        words = (list(_timed_words(segment, escape)) for segment in ordered)
        screens = [screen for one in words for screen in _screens(_lines(one, layout), layout)]
    else:
        screens = [in_lines(group) for group in grouped(_all_words(ordered, escape))]
    shown = _apart(
        cue for screen in screens for cue in (_highlighted(screen) if layout.highlight_words else [_cue(screen)])
    )
    return shown if layout.breaks_lines or layout.highlight_words else list(_readable(shown))


def _whole(segment: Segment, escape: Callable[[str], str]) -> Iterator[Cue]:
    lines = [line.strip() for line in segment.text.splitlines()]
    text = escape(_without_arrows("\n".join(filter(None, lines))))
    if text:
        yield Cue(_milliseconds(segment.start), _milliseconds(segment.end), text)


def _all_words(segments: Iterable[Segment], escape: Callable[[str], str]) -> list[_TimedWord]:
    """Return the words of all segments, in order, each over when the next one begins."""
    words: list[_TimedWord] = []
    for segment in segments:
        for number, one in enumerate(_timed_words(segment, escape)):
            word = one.word
            if words:
                last = words[-1]
                if not number and not (is_unspaced(last.word[-1]) and is_unspaced(word.lstrip()[0])):
                    word = f" {word.lstrip()}"
                start = max(one.start, last.start)
                words[-1] = last._replace(end=min(last.end, start))
                one = one._replace(start=start, end=max(start, one.end))
            words.append(one._replace(word=word, width=_width(word)))
    return words


def _readable(shown: Sequence[Cue]) -> Iterator[Cue]:
    """Yield cues that stay for a second where the next one leaves room, and go after seven."""
    for number, cue in enumerate(shown):
        room = shown[number + 1].start if number + 1 < len(shown) else cue.start + MIN_MS
        end = max(cue.end, min(cue.start + MIN_MS, room))
        yield cue._replace(end=min(end, cue.start + MAX_MS))


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _without_arrows(text: str) -> str:
    return text.replace("-->", "->")


def _timed_words(segment: Segment, escape: Callable[[str], str]) -> Iterator[_TimedWord]:
    words = segment.words
    texts = [word.word for word in words] if words else split_words(segment.text)
    times = [(word.start, word.end) for word in words] if words else _spread(segment, texts)
    for text, (start, end) in zip(texts, times, strict=True):
        markup = escape(_without_arrows(" ".join(text.split())))
        if markup:
            blank = " " if text[:1].isspace() else ""
            word = blank + text.strip()
            yield _TimedWord(_milliseconds(start), _milliseconds(end), word, markup, _width(word))


def _spread(segment: Segment, texts: Sequence[str]) -> Iterator[tuple[float, float]]:
    """Share the time of a segment between its words by their letters."""
    total = max(sum(map(len, texts)), 1)
    before = 0
    for text in texts:
        start, before = before, before + len(text)
        span = segment.end - segment.start
        yield segment.start + span * start / total, segment.start + span * before / total


def _width(text: str) -> int:
    """Return the number of characters that a text takes on a line."""
    return sum(unicodedata.category(character) not in ("Mn", "Me", "Cf") for character in text)


def _lines(words: Iterable[_TimedWord], layout: Layout) -> Iterator[list[_TimedWord]]:
    line: list[_TimedWord] = []
    used = 0
    for one in words:
        width = _width(one.word)
        too_wide = layout.max_line_width is not None and used + width > layout.max_line_width
        if line and (too_wide or len(line) == layout.max_words_per_line):
            yield line
            line, used = [], 0
        used += width if line else _width(one.word.lstrip())
        line.append(one)
    if line:
        yield line


def _screens(lines: Iterable[list[_TimedWord]], layout: Layout) -> Iterator[list[list[_TimedWord]]]:
    """Group lines into those that are shown together."""
    count = layout.max_line_count
    if count is None and layout.max_line_width is None and layout.max_words_per_line is not None:
        count = 1
    screen: list[list[_TimedWord]] = []
    for line in lines:
        if len(screen) == count:
            yield screen
            screen = []
        screen.append(line)
    if screen:
        yield screen


def _cue(
    lines: list[list[_TimedWord]], spoken: _TimedWord | None = None, start: int | None = None, end: int | None = None
) -> Cue:
    """Return a cue of these lines, with the word `spoken` underlined."""
    text = "\n".join(
        "".join(
            (" " if place and one.word.startswith(" ") else "")
            + (f"<u>{one.markup}</u>" if one is spoken else one.markup)
            for place, one in enumerate(line)
        )
        for line in lines
    )
    return Cue(
        lines[0][0].start if start is None else start, max(one.end for one in lines[-1]) if end is None else end, text
    )


def _highlighted(lines: list[list[_TimedWord]]) -> Iterator[Cue]:
    """Yield the same lines once per word, with that word underlined, and once without between words."""
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
