"""Subtitles of any words in any layout: complete, within the limits, and valid for strict players."""

import html
import re
import unicodedata
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.transcriber.layout import Layout
from dragoman.transcriber.result import ModelInfo, Segment, Transcript, Word, join_texts
from dragoman.transcriber.subtitles import Cue, cues
from dragoman.transcriber.writers import render

pieces = st.one_of(
    st.sampled_from(
        ["yes", "interpreter", "<b>", "&", "a&amp;b", "-->", "--", ">", "1", "أهلاً", "بالعالَم،", "你好", "。", "naïve"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
)


@st.composite
def segments(draw):
    """Segments in order; some have words with times, others only text."""
    found, now = [], 0.0
    for number in range(draw(st.integers(0, 4))):
        words = []
        first = now = now + draw(st.floats(0, 3))
        for text in draw(st.lists(pieces, min_size=1, max_size=10)):
            start = now + draw(st.sampled_from([0.0, 0.0, 0.3]))
            now = start + draw(st.sampled_from([0.0, 0.0004, 0.2, 1.5]))
            words.append(
                Word(
                    word=(" " if words else "") + ("".join(text.split()) or "x"), start=start, end=now, probability=0.5
                )
            )
        text = "".join(word.word for word in words).strip()
        kept = tuple(words) if draw(st.booleans()) else ()
        found.append(Segment(id=number, start=first, end=now, text=text, words=kept))
    return found


limits = st.one_of(st.none(), st.integers(1, 30))


@st.composite
def layouts(draw):
    width, words = draw(limits), draw(st.one_of(st.none(), st.integers(1, 5)))
    count = draw(st.one_of(st.none(), st.integers(1, 3))) if width or words else None
    return Layout(
        max_line_width=width, max_words_per_line=words, max_line_count=count, highlight_words=draw(st.booleans())
    )


def transcript_of(found: list[Segment]) -> Transcript:
    return Transcript(
        text=join_texts(segment.text for segment in found), segments=tuple(found), language=None, duration=1e6,
        model=ModelInfo(name="m"), parameters={},
    )  # fmt: skip


def letters(text: str) -> str:
    return "".join(text.split())


@given(segments(), layouts())
@settings(max_examples=150)
def test_cues_are_ordered_disjoint_and_complete(found, layout):
    shown = cues(found, layout)
    times = [time for cue in shown for time in (cue.start, cue.end)]
    assert times == sorted(times)
    assert all(cue.start < cue.end for cue in shown)
    assert all(line.strip() for cue in shown for line in cue.text.split("\n"))
    plain = shown if not layout.highlight_words else cues(found, replace(layout, highlight_words=False))
    spoken = "".join(letters(segment.text.replace("-->", "->")) for segment in found)
    assert "".join(letters(cue.text) for cue in plain) == spoken
    # With highlighting, the same screens are shown again and again.
    assert screens(shown) == screens(plain)


def screens(shown: list[Cue]) -> list[str]:
    bare = [re.sub(r"</?u>", "", cue.text) for cue in shown]
    return [text for place, text in enumerate(bare) if not place or text != bare[place - 1]]


@given(segments(), layouts())
@settings(max_examples=100)
def test_layout_limits_are_kept(found, layout):
    for cue in cues(found, layout):
        lines = re.sub(r"</?u>", "", cue.text).split("\n")
        if layout.max_line_count is not None:
            assert len(lines) <= layout.max_line_count
        for line in lines:
            width = sum(unicodedata.category(character) not in ("Mn", "Me", "Cf") for character in line)
            if layout.max_line_width is not None and any(character.isspace() for character in line):
                assert width <= layout.max_line_width
            if layout.max_words_per_line is not None and not any(map(_is_wide, line)):
                assert len(line.split()) <= layout.max_words_per_line


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


@given(segments(), layouts())
@settings(max_examples=100)
def test_files_can_be_parsed_and_markup_is_escaped(found, layout):
    transcript = transcript_of(found)
    expected = cues(found, layout)
    srt = render(transcript, "srt", layout)
    blocks = srt.split("\n\n")
    assert blocks.pop() == ""
    assert len(blocks) == len(expected)
    for number, (block, cue) in enumerate(zip(blocks, expected, strict=True), start=1):
        head, times, text = block.split("\n", 2)
        assert int(head) == number
        assert times.count(" --> ") == 1
        assert text == cue.text
        assert "-->" not in re.sub(r"</?u>", "", text)
    vtt = render(transcript, "vtt", layout)
    assert vtt.count("-->") == len(expected)
    bodies = ["\n".join(block.split("\n")[1:]) for block in vtt.split("\n\n")[1:-1]]
    for body, cue in zip(bodies, expected, strict=True):
        bare = re.sub(r"</?u>", "", body)
        assert "<" not in bare
        assert html.unescape(body) == cue.text or "&" in cue.text
