"""From what was decoded of a window to its segments: the whole window, or its sentences once words have times."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from dragoman.audio.quiet import settle
from dragoman.audio.segment import Window
from dragoman.audio.waveform import Waveform
from dragoman.transcriber.result import Segment, Word, compression_ratio
from dragoman.transcriber.sentences import sentence_starts
from dragoman.transcriber.words import boundaries, spell, timed

if TYPE_CHECKING:
    from dragoman.transcriber.engine import Decoded, Engine

__all__ = ["segments_of"]


def segments_of(
    engine: "Engine", window: Window, samples: Waveform, decoded: "Decoded", first_id: int
) -> list[Segment]:
    """Return the segments of a window, numbered from `first_id` on; their tokens and texts joined are the window's.

    Without times of words, and with alternatives (which are those of a whole window), there is one.
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
    return list(_sentences(engine, whole, window.heard_from, samples, decoded))


def _sentences(
    engine: "Engine", whole: Segment, offset: float, samples: Waveform, decoded: "Decoded"
) -> Iterator[Segment]:
    assert decoded.alignment is not None
    spelling = spell(decoded.tokens, engine.text)
    if not spelling.words:
        yield whole
        return
    spans = settle(boundaries(spelling, decoded.alignment.begins), samples)
    words = timed(spelling, spans, decoded.log_probs, offset=offset)
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
