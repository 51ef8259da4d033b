"""Subtitles without a layout: cues that end with sentences and at pauses, of a readable length."""

import pytest

from dragoman.transcriber.layout import Layout
from dragoman.transcriber.result import Segment, Word
from dragoman.transcriber.subtitles import cues

TEXT = (
    "The interpreter had been waiting at the harbour since the early morning, because nobody had told her that the "
    "ship was late. Yes. It came at noon. Every voice on board was different, and every one of them wanted to be "
    "heard before the others, so she listened to all of them and wrote down what they said about the long journey "
    "over the sea. Then they left. No! She stayed."
)


def spoken(text: str, seconds_a_word: float = 0.35, pause_after: str = "") -> Segment:
    words, now = [], 0.0
    for number, word in enumerate(text.split()):
        words.append(Word(word=f" {word}" if number else word, start=now, end=now + seconds_a_word, probability=0.9))
        now += seconds_a_word + (1.5 if word == pause_after else 0)
    return Segment(id=0, start=0, end=now, text=text, words=tuple(words))


@pytest.mark.parametrize("seconds_a_word", [0.2, 0.35, 0.6, 1.3])
@pytest.mark.parametrize("timed", [True, False])
def test_cues_are_readable(seconds_a_word, timed):
    one = spoken(TEXT, seconds_a_word)
    shown = cues([one if timed else Segment(id=0, start=0, end=one.end, text=TEXT)], Layout())
    assert " ".join(cue.text.replace("\n", " ") for cue in shown) == TEXT
    for cue in shown:
        assert len(cue.text.split("\n")) <= 2
        assert all(len(line) <= 42 for line in cue.text.split("\n"))
        assert 1000 <= cue.end - cue.start <= 7000, cue


def test_cues_end_with_sentences_and_at_pauses():
    shown = cues([spoken("She came at nine o'clock. Then she waited for an hour. Nobody came.", 0.5)], Layout())
    assert [cue.text for cue in shown] == ["She came at nine o'clock.", "Then she waited for an hour.", "Nobody came."]
    shown = cues([spoken("She came and then she left", 0.5, pause_after="came")], Layout())
    assert [tuple(cue) for cue in shown] == [(0, 1000, "She came"), (2500, 4500, "and then she left")]


def test_short_words_stay_for_a_second():
    shown = cues([Segment(id=0, start=3, end=3.2, text="Yes.")], Layout())
    assert [tuple(cue) for cue in shown] == [(3000, 4000, "Yes.")]


def test_segments_are_joined_if_one_is_too_short():
    first = Segment(id=0, start=0, end=0.4, text="Yes.")
    shown = cues([first, Segment(id=1, start=0.4, end=2, text="I know.")], Layout())
    assert [tuple(cue) for cue in shown] == [(0, 2000, "Yes. I know.")]
    shown = cues(
        [Segment(id=0, start=0, end=0.4, text="好。"), Segment(id=1, start=0.4, end=2, text="我知道。")], Layout()
    )
    assert [cue.text for cue in shown] == ["好。我知道。"]


def test_words_can_be_highlighted_in_readable_cues():
    shown = cues([spoken(TEXT)], Layout(highlight_words=True))
    assert all(len(line) <= 42 + len("<u></u>") for cue in shown for line in cue.text.split("\n"))
    assert sum("<u>" in cue.text for cue in shown) == len(TEXT.split())
