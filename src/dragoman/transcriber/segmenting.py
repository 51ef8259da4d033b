"""From what was decoded of a window to its segments: the whole window, or its sentences once words have times."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dragoman.audio.segment import Window
from dragoman.audio.waveform import Waveform
from dragoman.transcriber.aligner import Alignment
from dragoman.transcriber.quiet import settle
from dragoman.transcriber.result import Segment, Word, compression_ratio
from dragoman.transcriber.sentences import sentence_starts
from dragoman.transcriber.words import Spelling, boundaries, spell, timed

if TYPE_CHECKING:
    from dragoman.transcriber.engine import Decoded, Engine

__all__ = ["Examined", "examined", "segments_of"]


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A window with everything that is known of it, for those who look into it.

    Attributes:
        start: In seconds from the beginning of the recording.
        samples: What was heard, at 16 kHz.
        segments: What came of it.
        tokens: How each token reads, as the rows of the alignment; the end of the text is the row after them.
        alignment: When each token was heard, if that was asked for.
    """

    start: float
    samples: Waveform
    segments: tuple[Segment, ...]
    tokens: tuple[str, ...]
    alignment: Alignment | None


def examined(
    engine: "Engine", window: Window, samples: Waveform, decoded: "Decoded", segments: Sequence[Segment]
) -> Examined:
    """Return what is known of a window."""
    return Examined(
        start=window.heard_from,
        samples=samples,
        segments=tuple(segments),
        tokens=tuple(engine.text([token]) or f"({token})" for token in decoded.tokens),
        alignment=decoded.alignment,
    )


def segments_of(
    engine: "Engine", window: Window, samples: Waveform, decoded: "Decoded", first_id: int, not_before: float = 0.0
) -> list[Segment]:
    """Return the segments of a window; their tokens and texts joined are the window's.

    Without times of words, and with alternatives (which are those of a whole window), there is one.

    Args:
        engine: Turns tokens into text.
        window: Where it is.
        samples: What was heard.
        decoded: What was made of it.
        first_id: Number of its first segment.
        not_before: Where the words before end, in seconds: windows may overlap, words do not.
    """
    start, end = window.seconds
    whole = Segment(
        id=first_id,
        start=start,
        end=end,
        text=decoded.text,
        tokens=decoded.tokens,
        temperature=decoded.temperature,
        avg_logprob=decoded.avg_logprob,
        compression_ratio=compression_ratio(decoded.text),
        no_speech_prob=decoded.no_speech_prob,
        truncated=decoded.truncated,
        alternatives=decoded.alternatives,
    )
    if decoded.alignment is None:
        return [whole]
    spelling = spell(decoded.tokens, engine.text)
    if not spelling.words:
        return [whole]
    offset = window.heard_from
    spans = [
        (max(offset + begin, not_before), max(offset + end, not_before))
        for begin, end in settle(boundaries(spelling, decoded.alignment.begins), samples)
    ]
    return list(_sentences(whole, decoded, spelling, timed(spelling, spans, decoded.log_probs)))


def _sentences(whole: Segment, decoded: "Decoded", spelling: Spelling, words: tuple[Word, ...]) -> Iterator[Segment]:
    starts = [0] if decoded.alternatives else sentence_starts(words)
    for place, (begin, end) in enumerate(zip(starts, [*starts[1:], len(words)], strict=True)):
        last = end == len(words)
        text = "".join(word.word for word in words[begin:end]).strip()
        first_token = spelling.first[begin] if begin else 0
        next_token = len(decoded.tokens) if last else spelling.first[end]
        # The end mark counts with what it ends.
        log_probs = decoded.log_probs[first_token : None if last else max(next_token, first_token + 1)]
        yield replace(
            whole,
            id=whole.id + place,
            start=words[begin].start,
            end=words[end - 1].end,
            text=text,
            tokens=decoded.tokens[first_token:next_token],
            avg_logprob=sum(log_probs) / len(log_probs),
            compression_ratio=compression_ratio(text),
            truncated=whole.truncated and last,
            words=_without_blank(words[begin:end]),
        )


def _without_blank(words: tuple[Word, ...]) -> tuple[Word, ...]:
    """Return the words of a segment, the first one without the blank that parted it from the segment before."""
    return (replace(words[0], word=words[0].word.lstrip()), *words[1:])
