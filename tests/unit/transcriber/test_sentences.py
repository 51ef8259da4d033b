import pytest

from dragoman.transcriber.result import Word
from dragoman.transcriber.sentences import sentence_starts


def spoken(text: str, seconds: float = 0.5, pauses: dict[int, float] | None = None) -> list[Word]:
    """Words of equal length, with pauses before some of them."""
    words, now = [], 0.0
    for number, word in enumerate(text.split()):
        now += (pauses or {}).get(number, 0.0)
        words.append(Word(word=word if number == 0 else f" {word}", start=now, end=now + seconds, probability=1.0))
        now += seconds
    return words


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("One two three. Four five six.", [0, 3]),
        ("One two three, four five six", [0]),
        ("Yes. One two three.", [0]),  # half a second is no segment
        ("Ask Mr. King about it now.", [0]),
        ('He said: "Go on!" Then he left.', [0, 4]),
        ("أين هو الآن؟ لا أعرف ذلك.", [0, 3]),
        ("他 在 哪里？ 我 不 知道。", [0, 3]),
        ("It costs 3.5 pounds a day", [0]),
    ],
)
def test_segments_begin_with_sentences(text, starts):
    assert sentence_starts(spoken(text)) == starts


def test_a_pause_splits_segments():
    assert sentence_starts(spoken("one two three four", pauses={1: 0.9, 3: 0.7})) == [0, 1]


def test_without_words_there_are_no_segments():
    assert sentence_starts([]) == []
