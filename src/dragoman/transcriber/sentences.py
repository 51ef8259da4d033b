"""Where the transcript of a window is split into readable segments: at the ends of sentences, and at pauses."""

from collections.abc import Iterator, Sequence

from dragoman.transcriber.result import Word

PAUSE = 0.8  # seconds between two words that always split segments
_MIN_SECONDS = 1.0  # a shorter sentence has no segment of its own, unless a pause splits it off

_ENDS = tuple(".!?…。！？｡؟۔।॥။។")
_CLOSERS = "\"'”’»)]}」』）】"


def sentence_starts(words: Sequence[Word]) -> list[int]:
    """Return the numbers of the words with which a segment begins, 0 first.

    A segment ends with a sentence or at a pause of 0.8 s. A full stop after a short capitalised word ("Mr.") does not
    end a sentence, and a sentence of less than a second is joined with the next one.
    """
    return list(_starts(words))


def _starts(words: Sequence[Word]) -> Iterator[int]:
    begin = 0
    for number, word in enumerate(words):
        if number == 0:
            yield 0
            continue
        last = words[number - 1]
        long_enough = last.end - words[begin].start >= _MIN_SECONDS
        if word.start - last.end >= PAUSE or (long_enough and ends_sentence(last.word.strip())):
            begin = number
            yield number


def ends_sentence(word: str) -> bool:
    """Return whether a sentence ends with a word."""
    bare = word.rstrip(_CLOSERS)
    if not bare.endswith(_ENDS):
        return False
    return not (bare.endswith(".") and len(bare) <= 4 and bare[0].isupper())
