"""What a transcription gives: words and segments with times, joined to a transcript that records how it was made.

Lives here: the result types, as plain frozen values, and how texts of neighbouring segments are joined. Not here: files
(`writers.py`) and models.
"""

import math
import unicodedata
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = [
    "Alternative",
    "ModelInfo",
    "Segment",
    "Timings",
    "Transcript",
    "Word",
    "compression_ratio",
    "is_unspaced",
    "join_texts",
]


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word, when it was said, and how sure the model is of it.

    Attributes:
        word: As it is written in the text of its segment, with the blank before it, if there is one, and the
            punctuation that touches it: the words of a segment joined are its text.
        start: In seconds from the beginning of the audio.
        end: In seconds; never before `start`, and never after the `start` of the next word.
        probability: Mean of the probabilities, between 0 and 1, of the tokens that write it.
    """

    word: str
    start: float
    end: float
    probability: float


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """Another text that the search found for a segment.

    Attributes:
        text: The words.
        tokens: Token ids, without prompt and end marks.
        avg_logprob: As of `Segment`; comparable with the segment's own.
    """

    text: str
    tokens: tuple[int, ...]
    avg_logprob: float

    @property
    def confidence(self) -> float:
        """As of `Segment`."""
        return math.exp(self.avg_logprob)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of speech and its words.

    Attributes:
        id: Number of the segment in its transcript, from 0.
        start: Where its speech begins, in seconds from the beginning of the audio.
        end: Where its speech ends, in seconds; never before `start`.
        text: The words, without surrounding blanks. Empty if the model heard none.
        tokens: Token ids that the decoder generated, without prompt and end marks.
        avg_logprob: Mean natural-log probability of the generated tokens, end mark included; `None` if the strategy
            gives none. Near 0 is sure, below -1 is doubtful.
        temperature: Of the sampling that gave the text; 0 for a search.
        no_speech_prob: How likely it is that nobody speaks; see `dragoman.transcriber.guards`.
        compression_ratio: Size of the text over its size compressed by zlib; above 2.4 it is likely to repeat itself.
        truncated: True if the decoder reached its length limit, so that words may be missing at the end.
        words: The words with their times, if they were asked for (`word_timestamps`).
        alternatives: What else the search found, the best first, if it was asked for (`num_return_sequences`).
    """

    id: int
    start: float
    end: float
    text: str
    tokens: tuple[int, ...] = ()
    temperature: float = 0.0
    avg_logprob: float | None = None
    compression_ratio: float = 0.0
    no_speech_prob: float | None = None
    truncated: bool = False
    words: tuple[Word, ...] = ()
    alternatives: tuple[Alternative, ...] = ()

    @property
    def confidence(self) -> float | None:
        """Between 0 and 1: the geometric mean of the probabilities of the tokens, end mark included."""
        return None if self.avg_logprob is None else math.exp(self.avg_logprob)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in the names and order of whisper's JSON; `seek` is the start in hundredths of a second.

        Words and alternatives are there if there are any.
        """
        values = asdict(self)
        words, alternatives = values.pop("words"), values.pop("alternatives")
        return {
            "id": values.pop("id"),
            "seek": round(self.start * 100),
            **values,
            "tokens": list(self.tokens),
            "avg_logprob": _finite(self.avg_logprob),
            "confidence": _finite(self.confidence),
            **({"words": words} if words else {}),
            **({"alternatives": alternatives} if alternatives else {}),
        }


def _finite(number: float | None) -> float | None:
    """Return what JSON can hold."""
    return number if number is not None and math.isfinite(number) else None


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Which weights spoke: the name or folder that was asked for, and the commit on the hub (`None` for a folder)."""

    name: str
    commit: str | None = None


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Seconds that a transcription took, without the time its caller spent between segments.

    Attributes:
        reading: For decoding the audio file and finding the speech in it.
        decoding: For the model: encoder, search, alignment.
    """

    reading: float
    decoding: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.reading + self.decoding


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """The words of one recording.

    Attributes:
        text: All segments joined.
        segments: The segments, by time.
        language: Code of the spoken language if it was given or detected, else `None`.
        duration: Length of the audio in seconds.
        model: The weights that were used.
        parameters: Every option the decoding ran with, so that it can be repeated.
        timings: How long it took. Two transcripts that differ in nothing else are equal, and JSON leaves it out, so
            that a repetition writes the same file.
    """

    text: str
    segments: tuple[Segment, ...]
    language: str | None
    duration: float
    model: ModelInfo
    parameters: dict[str, Any]
    timings: Timings | None = field(default=None, compare=False)

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of all segments."""
        return tuple(word for segment in self.segments for word in segment.words)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: whisper's `text`, `segments`, `language`, then ours."""
        return {
            "text": self.text,
            "segments": [segment.to_dict() for segment in self.segments],
            "language": self.language,
            "duration": self.duration,
            "model": asdict(self.model),
            "parameters": dict(self.parameters),
        }


def compression_ratio(text: str) -> float:
    """Return how many times smaller zlib makes `text` (UTF-8): about 1 to 2 for speech, more for endless repetition."""
    data = text.encode("utf-8", errors="replace")
    return len(data) / len(zlib.compress(data))


def join_texts(texts: Iterable[str]) -> str:
    """Join texts of neighbouring segments, with a blank between them unless both sides are written without blanks.

    Chinese, Japanese and Thai put none between words, so none is invented where two segments meet.
    """
    joined = ""
    for text in filter(None, map(str.strip, texts)):
        joined += text if not joined or (is_unspaced(joined[-1]) and is_unspaced(text[0])) else f" {text}"
    return joined


def is_unspaced(character: str) -> bool:
    """Return whether a character belongs to a script that puts no blanks between words."""
    if unicodedata.east_asian_width(character) in "WF":
        return not "\uac00" <= character <= "\ud7a3"  # Korean has blanks
    return any(first <= character <= last for first, last in _UNSPACED)


# Thai and Lao, Burmese, Khmer.
_UNSPACED = (("\u0e00", "\u0eff"), ("\u1000", "\u109f"), ("\u1780", "\u17ff"))
