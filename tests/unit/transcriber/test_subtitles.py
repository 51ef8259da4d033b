import pytest

from dragoman.errors import ConfigError
from dragoman.transcriber.layout import Layout
from dragoman.transcriber.result import Segment, Word
from dragoman.transcriber.subtitles import cues


def segment(*words: tuple[str, float, float]) -> Segment:
    made = tuple(
        Word(word=text if place == 0 else f" {text}", start=start, end=end, probability=0.9)
        for place, (text, start, end) in enumerate(words)
    )
    return Segment(
        id=0, start=words[0][1], end=words[-1][2], text="".join(word.word for word in made).strip(), words=made
    )


TALK = segment(("Every", 1.0, 1.5), ("voice", 1.5, 2.0), ("is", 2.0, 2.2), ("different,", 2.5, 3.0), ("yes.", 3.5, 4.0))


def shown(layout: Layout, *segments: Segment) -> list[tuple[int, int, str]]:
    return [tuple(cue) for cue in cues(segments, layout)]


def test_a_segment_is_a_cue():
    assert shown(Layout(), TALK) == [(1000, 4000, "Every voice is different, yes.")]


def test_max_line_width():
    assert shown(Layout(max_line_width=14), TALK) == [(1000, 4000, "Every voice is\ndifferent,\nyes.")]


def test_max_line_count():
    assert shown(Layout(max_line_width=14, max_line_count=2), TALK) == [
        (1000, 3000, "Every voice is\ndifferent,"),
        (3500, 4000, "yes."),
    ]


def test_max_words_per_line():
    assert shown(Layout(max_words_per_line=2), TALK) == [
        (1000, 2000, "Every voice"),
        (2000, 3000, "is different,"),
        (3500, 4000, "yes."),
    ]
    assert shown(Layout(max_words_per_line=3, max_line_count=2), TALK) == [
        (1000, 4000, "Every voice is\ndifferent, yes.")
    ]


def test_a_word_that_is_too_long_has_its_own_line():
    assert shown(Layout(max_line_width=3), TALK)[0][2].split("\n") == ["Every", "voice", "is", "different,", "yes."]


def test_words_are_underlined_as_they_are_spoken():
    assert shown(Layout(highlight_words=True, max_words_per_line=3), TALK) == [
        (1000, 1500, "<u>Every</u> voice is"),
        (1500, 2000, "Every <u>voice</u> is"),
        (2000, 2200, "Every voice <u>is</u>"),
        (2500, 3000, "<u>different,</u> yes."),
        (3000, 3500, "different, yes."),
        (3500, 4000, "different, <u>yes.</u>"),
    ]


def test_arabic_keeps_its_order_and_marks_have_no_width():
    arabic = segment(("أَهْلاً", 0, 1), ("وَسَهْلاً", 1, 2), ("بِكُم", 2, 3))
    assert shown(Layout(max_line_width=11), arabic) == [(0, 3000, "أَهْلاً وَسَهْلاً\nبِكُم")]
    assert shown(Layout(highlight_words=True), arabic)[1][2] == "أَهْلاً <u>وَسَهْلاً</u> بِكُم"


def test_words_without_timestamps_share_the_time_of_their_segment():
    plain = Segment(id=0, start=0, end=8, text="one two")
    assert shown(Layout(max_words_per_line=1), plain) == [(0, 3429, "one"), (3429, 8000, "two")]
    chinese = Segment(id=0, start=0, end=4, text="你好。再见")
    assert shown(Layout(max_line_width=3), chinese) == [(0, 4000, "你好。\n再见")]


def test_overlapping_cues_are_cut():
    other = Segment(id=1, start=3.8, end=5, text="No.")
    assert shown(Layout(), other, TALK) == [(1000, 3800, "Every voice is different, yes."), (3800, 5000, "No.")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_line_width": 0}, "`max_line_width` must be at least 1, but is 0."),
        ({"max_words_per_line": -1, "max_line_count": 0}, "max_line_count.*max_words_per_line"),
        ({"max_line_count": 2}, "`max_line_count` needs `max_line_width` or `max_words_per_line`"),
    ],
)
def test_invalid_layouts_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Layout(**options)
