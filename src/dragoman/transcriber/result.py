"""The result of a transcription: words and segments with times, and a transcript that records how it was made.

Lives here: the result types, as plain frozen values, and how texts of neighbouring segments are joined. Not here: files
(`writers`) and models.
"""

import math
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word with its timestamps and probability.

    Attributes:
        word: As in the text of its segment, with the blank before it, if any, and adjacent punctuation: the words of a
            segment joined are its text.
        start: In seconds from the beginning of the audio.
        end: In seconds; never before `start`, and never after the `start` of the next word.
        probability: Mean probability of its tokens, between 0 and 1.
    """

    word: str
    start: float
    end: float
    probability: float


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """Another transcript that the search found for a segment.

    Attributes:
        text: The words.
        tokens: Token ids, without prompt and end token.
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
        start: Start of its speech, in seconds from the beginning of the audio.
        end: End of its speech, in seconds; never before `start`.
        text: The words, without surrounding blanks; may be empty.
        tokens: Token ids that the decoder generated, without prompt and end token.
        avg_logprob: Mean natural-log probability of the generated tokens, end token included; `None` if the strategy
            gives none. Near 0 is confident, below -1 is doubtful.
        temperature: Sampling temperature of the transcript; 0 for a search.
        no_speech_prob: Probability that there is no speech; see `dragoman.transcriber.guards`.
        compression_ratio: Size of the text over its size compressed by zlib; above 2.4 it is probably repetitive.
        truncated: True if the decoder reached its length limit, so that words may be missing at the end.
        words: The words with their timestamps, if asked for (`word_timestamps`).
        alternatives: Other transcripts that the search found, best first, if asked for (`num_return_sequences`).
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
        """Geometric mean of the probabilities of the tokens, end token included, between 0 and 1."""
        return None if self.avg_logprob is None else math.exp(self.avg_logprob)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields with the names and order of Whisper's JSON; `seek` is the start in hundredths of a second.

        Words and alternatives are included if there are any.
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
    """Return a number that JSON can hold, or `None`."""
    return number if number is not None and math.isfinite(number) else None


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """The weights: the name or folder that was asked for, and the commit on the hub (`None` for a folder)."""

    name: str
    commit: str | None = None


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Seconds that a transcription took, without the time that its caller spent between segments.

    Attributes:
        reading: Decoding the audio file and voice activity detection.
        decoding: The model: encoder, search, alignment; with several recordings at once, this one's share.
    """

    reading: float
    decoding: float

    @property
    def total(self) -> float:
        """The sum of both."""
        return self.reading + self.decoding


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """The transcript of one recording.

    Attributes:
        text: The texts of all segments, joined.
        segments: The segments in order of time.
        language: Code of the spoken language if it was given or detected, else `None`.
        duration: Length of the audio in seconds.
        model: The weights.
        parameters: Every option, with the checkpoint's defaults filled in, so that the transcription can be repeated.
        timings: How long it took. It does not count in comparisons and is not in the JSON, so that a repetition writes
            the same file.
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
        """Return plain values for JSON: Whisper's `text`, `segments` and `language`, then ours.

        As Whisper's, the texts of the segments joined are the text: a blank before a segment belongs to it.
        """
        return {
            "text": self.text,
            "segments": list(self._segments_with_blanks()),
            "language": self.language,
            "duration": self.duration,
            "model": asdict(self.model),
            "parameters": dict(self.parameters),
        }

    def __iter__(self) -> Iterator[Any]:
        """Yield the segments and the transcript, for `segments, info = transcriber.transcribe(…)` of faster-whisper."""
        yield self.segments
        yield self

    def _segments_with_blanks(self) -> Iterator[dict[str, Any]]:
        before = ""
        for segment in self.segments:
            values = segment.to_dict()
            joined = join_texts((before[-1:], segment.text))
            if before and segment.text and joined[1:2] == " ":
                values["text"] = f" {segment.text}"
                if segment.words:
                    values["words"][0]["word"] = f" {segment.words[0].word}"
            before = segment.text.strip() or before
            yield values


def compression_ratio(text: str) -> float:
    """Return the zlib compression ratio of `text` (UTF-8): about 1 to 2 for speech, more for endless repetition."""
    data = text.encode("utf-8", errors="replace")
    return len(data) / len(zlib.compress(data))


def join_texts(texts: Iterable[str]) -> str:
    """Join the texts of neighbouring segments, with a blank between them unless their scripts have none between words.

    Chinese, Japanese and Thai have none.
    """
    joined = ""
    for text in filter(None, map(str.strip, texts)):
        joined += text if not joined or (is_unspaced(joined[-1]) and is_unspaced(text[0])) else f" {text}"
    return joined


def is_unspaced(character: str) -> bool:
    """Return whether a character belongs to a script without blanks between words."""
    if unicodedata.east_asian_width(character) in "WF":
        return not "\uac00" <= character <= "\ud7a3"  # Korean has blanks
    return any(first <= character <= last for first, last in _UNSPACED)


# Thai and Lao, Burmese, Khmer.
_UNSPACED = (("\u0e00", "\u0eff"), ("\u1000", "\u109f"), ("\u1780", "\u17ff"))
