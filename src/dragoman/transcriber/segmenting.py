"""From the transcript of a window to its segments: the whole window, or its sentences if words have timestamps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from dragoman.audio.segment import Window
from dragoman.audio.waveform import Waveform
from dragoman.transcriber.decoded import Alignment, Decoded
from dragoman.transcriber.result import Segment, Word, compression_ratio
from dragoman.transcriber.sentences import sentence_starts
from dragoman.transcriber.silences import snap_to_silences
from dragoman.transcriber.words import WordTokens, find_words, timed_words, word_boundaries


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A window with everything that is known about it, for plots and debugging.

    Attributes:
        start: In seconds from the beginning of the recording.
        samples: Its audio, at 16 kHz.
        segments: Its segments.
        tokens: The text of each token, one for each row of the alignment but the last, which belongs to the end token.
        log_probs: Natural-log probability of each token, and of the end token, if it was generated.
        alignment: When each token is spoken, if that was asked for.
    """

    start: float
    samples: Waveform
    segments: tuple[Segment, ...]
    tokens: tuple[str, ...]
    log_probs: tuple[float, ...]
    alignment: Alignment | None


def examined(
    text_of: Callable[[Sequence[int]], str],
    window: Window,
    samples: Waveform,
    decoded: Decoded,
    segments: Sequence[Segment],
) -> Examined:
    """Return everything that is known about a window."""
    return Examined(
        start=window.audio_start,
        samples=samples,
        segments=tuple(segments),
        tokens=tuple(text_of([token]) or f"({token})" for token in decoded.tokens),
        log_probs=decoded.log_probs,
        alignment=decoded.alignment,
    )


def segments_of(
    text_of: Callable[[Sequence[int]], str],
    window: Window,
    samples: Waveform,
    decoded: Decoded,
    first_id: int,
    not_before: float = 0.0,
) -> list[Segment]:
    """Return the segments of a window; joined, their tokens and texts are those of the window.

    Without word timestamps, or with alternatives, which belong to a whole window, there is one.

    Args:
        text_of: Turns tokens into text.
        window: Its place in the recording.
        samples: Its audio.
        decoded: Its transcript.
        first_id: Number of its first segment.
        not_before: End of the words before, in seconds: windows may overlap, words do not.
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
    word_tokens = find_words(decoded.tokens, text_of)
    if not word_tokens.words:
        return [whole]
    offset = window.audio_start
    spans = [
        (max(offset + begin, not_before), max(offset + end, not_before))
        for begin, end in snap_to_silences(word_boundaries(word_tokens, decoded.alignment.begins), samples)
    ]
    return list(_sentences(whole, decoded, word_tokens, timed_words(word_tokens, spans, decoded.log_probs)))


def _sentences(whole: Segment, decoded: Decoded, word_tokens: WordTokens, words: tuple[Word, ...]) -> Iterator[Segment]:
    starts = [0] if decoded.alternatives else sentence_starts(words)
    for place, (begin, end) in enumerate(zip(starts, [*starts[1:], len(words)], strict=True)):
        last = end == len(words)
        text = "".join(word.word for word in words[begin:end]).strip()
        first_token = word_tokens.first[begin] if begin else 0
        next_token = len(decoded.tokens) if last else word_tokens.first[end]
        # The end token counts with the last sentence.
        log_probs = decoded.log_probs[first_token : None if last else max(next_token, first_token + 1)]
        first, *others = words[begin:end]
        yield replace(
            whole,
            id=whole.id + place,
            start=first.start,
            end=words[end - 1].end,
            text=text,
            tokens=decoded.tokens[first_token:next_token],
            avg_logprob=sum(log_probs) / len(log_probs),
            compression_ratio=compression_ratio(text),
            truncated=whole.truncated and last,
            words=(replace(first, word=first.word.lstrip()), *others),  # the blank separates it from the last segment
        )
