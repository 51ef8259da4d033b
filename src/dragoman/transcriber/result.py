"""What a transcription gives: segments with times, joined to a transcript that records how it was made.

Lives here: the result types, as plain frozen values, and how texts of neighbouring segments are joined. Not here: files
(`writers.py`) and models.
"""

import math
import unicodedata
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["ModelInfo", "Segment", "Transcript", "compression_ratio", "join_texts"]


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
        compression_ratio: Size of the text over its size compressed by zlib; above 2.4 it is likely to repeat itself.
        truncated: True if the decoder reached its length limit, so that words may be missing at the end.
    """

    id: int
    start: float
    end: float
    text: str
    tokens: tuple[int, ...] = ()
    avg_logprob: float | None = None
    compression_ratio: float = 0.0
    truncated: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in the names and order of whisper's JSON; `seek` is the start in hundredths of a second."""
        values = asdict(self)
        known = self.avg_logprob is not None and math.isfinite(self.avg_logprob)
        return {
            "id": values.pop("id"),
            "seek": round(self.start * 100),
            **values,
            "tokens": list(self.tokens),
            "avg_logprob": self.avg_logprob if known else None,
        }


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Which weights spoke: the name or folder that was asked for, and the commit on the hub (`None` for a folder)."""

    name: str
    commit: str | None = None


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
    """

    text: str
    segments: tuple[Segment, ...]
    language: str | None
    duration: float
    model: ModelInfo
    parameters: dict[str, Any]

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
        joined += text if not joined or (_unspaced(joined[-1]) and _unspaced(text[0])) else f" {text}"
    return joined


def _unspaced(character: str) -> bool:
    wide = (
        unicodedata.east_asian_width(character) in "WF" and not "\uac00" <= character <= "\ud7a3"
    )  # Korean has blanks
    return wide or "\u0e00" <= character <= "\u0e7f"
