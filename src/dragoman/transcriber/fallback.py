"""Decoding a batch of windows: temperature fallback, and smaller batches when memory runs out.

Not here: the guards that decide whether a transcript fails (`guards`).
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from dragoman.audio import SAMPLING_RATE
from dragoman.audio.speech import speech_probability
from dragoman.audio.waveform import Waveform
from dragoman.errors import OutOfMemoryError, is_out_of_memory
from dragoman.generation.scorers.fusion import Scorer
from dragoman.text.whisper import WhisperTokenizer
from dragoman.transcriber.aligner import aligned
from dragoman.transcriber.decoded import Decoded
from dragoman.transcriber.engine import Engine
from dragoman.transcriber.guards import best_of, fails, is_silence
from dragoman.transcriber.options import TranscribeOptions
from dragoman.transcriber.result import Alternative
from dragoman.transcriber.shorter import may_skip_speech

# Some decoders can hold 131,072 tokens, but a transcript of more than 50 tokens per second of speech, even of single
# letters, has lost the speech long before. A short window may have as many tokens as Whisper has for 30 s.
_TOKENS_PER_SECOND, _MIN_LENGTH_LIMIT = 50, 448

# A sampled transcript may ramble to its limit, `best_of` times at each temperature, so the limit after a failed search
# is lower: 25 tokens per second of audio, which even single letters do not reach, and no fewer than 32. It must not
# depend on the other windows of a batch, so that the batch size changes nothing.
_SAMPLED_PER_SECOND, _MIN_SAMPLED = 25, 32

# Average log-probability below which a short window is encoded whole. Of 120 clips, 16 % were, and the word error rate
# was 12.9 % with it, 13.9 % without it and 12.4 % for whole windows.
_SURE = -0.5

# Whisper's no-speech token, by the names that its files have given it.
_NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")


@dataclass(frozen=True, kw_only=True)
class WindowBatch:
    """Windows to decode together.

    Attributes:
        waveforms: Mono samples at 16 kHz of each.
        numbers: Place of each in the recording: seeds of sampling, so that the batch size changes nothing.
        prompt: Tokens that each transcript starts with, the start token included.
        scorers: Extra scores added to the decoder's log-probabilities.
    """

    waveforms: Sequence[Waveform]
    numbers: Sequence[int]
    prompt: Sequence[int]
    scorers: Sequence[Scorer]

    def take(self, rows: Sequence[int]) -> "WindowBatch":
        """Return some of the windows."""
        return replace(
            self, waveforms=[self.waveforms[row] for row in rows], numbers=[self.numbers[row] for row in rows]
        )


class Windows(NamedTuple):
    """The arguments of `decode` for the windows of one recording.

    Attributes:
        batch: The windows.
        options: How they are decoded.
        failed: What a search has found for each, and the guards refused; none before the first.
    """

    batch: WindowBatch
    options: TranscribeOptions
    failed: Sequence[Decoded] = ()

    @property
    def key(self) -> object:
        """What windows of several recordings must have in common to be decoded together."""
        return tuple(self.batch.prompt), repr(self.options), bool(self.failed)


def decode_together(engine: Engine, several: Sequence[Windows]) -> list[list[Decoded]]:
    """Decode the windows of several recordings, which have one key, as one batch; return them for each recording."""
    batches = [one.batch for one in several]
    joined = replace(
        batches[0],
        waveforms=[samples for one in batches for samples in one.waveforms],
        numbers=[number for one in batches for number in one.numbers],
    )
    failed = [decoded for one in several for decoded in one.failed]
    found = iter(decode(engine, joined, several[0].options, failed))
    return [[next(found) for _ in one.waveforms] for one in batches]


def decode(
    engine: Engine, batch: WindowBatch, options: TranscribeOptions, failed: Sequence[Decoded] = ()
) -> list[Decoded]:
    """Decode windows together; in halves if memory runs out.

    Args:
        engine: The model.
        batch: The windows.
        options: The user's options.
        failed: The transcripts of all windows at the first temperature, if that has been tried.

    Raises:
        OutOfMemoryError: If even one window does not fit.
    """
    count = len(batch.waveforms)
    try:
        return _decode(engine, batch, options, failed)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        engine.runner.free_memory()
        if count == 1:
            seconds = len(batch.waveforms[0]) / SAMPLING_RATE
            raise OutOfMemoryError(
                f"A single window of {seconds:.0f} s does not fit into memory with {options.beam_size} beams. "
                "Use fewer beams, a smaller `chunk_length_s`, a smaller model, or another device."
            ) from error
    half = count // 2
    warnings.warn(
        f"{count} windows at once do not fit into memory; going on with {half}. A smaller `batch_size` avoids this.",
        UserWarning,
        stacklevel=2,
    )
    return [
        one
        for rows in (range(half), range(half, count))
        for one in decode(engine, batch.take(rows), options, failed and [failed[row] for row in rows])
    ]


def _decode(engine: Engine, batch: WindowBatch, options: TranscribeOptions, before: Sequence[Decoded]) -> list[Decoded]:
    """Decode windows at one temperature after the other, each until its transcript passes the guards.

    Short windows whose transcripts are not likely enough are encoded whole and searched again.
    """
    short = options.short_windows and not before
    encoded = engine.encode(batch.waveforms, short=short)
    no_speech = _no_speech_probs(engine, encoded, batch.waveforms)
    limit = _length_limit(engine, encoded, batch, options)
    seconds = [len(samples) / SAMPLING_RATE for samples in batch.waveforms]
    tried: list[list[Decoded]] = [[one] for one in before] or [[] for _ in batch.waveforms]
    failed: Sequence[int] = range(len(tried))
    for attempt, temperature in list(enumerate(options.temperatures))[bool(before) :]:
        for most, rows in _rows_by_limit(failed, seconds, limit, sampled=bool(attempt and temperature)):
            memory = engine.runner.take(encoded, rows) if attempt else encoded
            found = _search(engine, memory, batch.take(rows), options, most, temperature, attempt)
            for row, one in zip(rows, found, strict=True):
                tried[row].append(replace(one, no_speech_prob=no_speech[row], seconds=seconds[row]))
        last = [(row, tried[row][-1]) for row in failed]
        failed = [row for row, one in last if fails(one, options) and not is_silence(one, options)]
        if not failed:
            break
    best = [best_of(several, options) if row in failed else several[-1] for row, several in enumerate(tried)]
    unsure = [row for row, one in enumerate(best) if one.avg_logprob < _SURE] if short else []
    if unsure:
        whole = _decode(engine, batch.take(unsure), replace(options, short_windows=False), [])
        for row, one in zip(unsure, whole, strict=True):
            best[row] = one
    return _with_alignments(engine, encoded, batch, best, options)


def _with_alignments(
    engine: Engine, encoded: Any, batch: WindowBatch, best: list[Decoded], options: TranscribeOptions
) -> list[Decoded]:
    """Align the transcripts if words need times, or else those that may have skipped speech."""
    if options.word_timestamps:
        return aligned(engine, encoded, batch.waveforms, batch.prompt, best)
    known = engine.facts.has_cross_attention and engine.facts.generation.alignment_heads  # of others, it means little
    rows = [row for row, one in enumerate(best) if known and may_skip_speech(one, options)]
    if not rows:
        return best
    waveforms = [batch.waveforms[row] for row in rows]
    taken = engine.runner.take(encoded, rows)
    found = aligned(engine, taken, waveforms, batch.prompt, [best[row] for row in rows])
    return [found[rows.index(row)] if row in rows else one for row, one in enumerate(best)]


def _rows_by_limit(
    rows: Sequence[int], seconds: Sequence[float], limit: int, *, sampled: bool
) -> list[tuple[int, Sequence[int]]]:
    """Return the rows that share a length limit, with it; when sampling, a window's limit depends on it alone."""
    if not sampled:
        return [(limit, rows)]
    groups: dict[int, list[int]] = {}
    for row in rows:
        rounded = 2 ** math.ceil(math.log2(max(seconds[row], 1.0)))  # few limits, so that most windows stay together
        groups.setdefault(min(limit, max(rounded * _SAMPLED_PER_SECOND, _MIN_SAMPLED)), []).append(row)
    return list(groups.items())


def _length_limit(engine: Engine, encoded: Any, batch: WindowBatch, options: TranscribeOptions) -> int:
    """Return how many tokens a transcript may have: at most what the decoder can hold."""
    seconds = max(map(len, batch.waveforms)) / SAMPLING_RATE
    wanted = options.max_new_tokens or max(round(seconds * _TOKENS_PER_SECOND), _MIN_LENGTH_LIMIT)
    return min(wanted, engine.runner.max_text_length(encoded) - len(batch.prompt))


def _search(
    engine: Engine,
    encoded: Any,
    batch: WindowBatch,
    options: TranscribeOptions,
    limit: int,
    temperature: float,
    attempt: int,
) -> Iterator[Decoded]:
    """Decode windows once, up to `limit` tokens each: by beam search, or by sampling at a temperature above 0."""
    copies = max(options.best_of if temperature else 1, options.num_return_sequences)
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "num_beams": 1}
    # Never the file's own `max_length`: it was set for clips, and would silently cut off windows.
    ids, log_probs = engine.runner.generate(
        encoded,
        np.asarray([batch.prompt] * len(batch.numbers)),
        max_new_tokens=limit,
        num_return_sequences=copies,
        scorers=batch.scorers,
        seed=[number * 100 + attempt for number in batch.numbers],
        **(sampling if temperature else {"do_sample": False, "num_beams": options.beam_size}),
        **engine.search_options(options),
        **engine.suppressed_tokens(options),
    )
    transcripts = [
        replace(_decoded(engine, tokens, own, limit), temperature=temperature)
        for tokens, own in zip(ids.tolist(), log_probs.tolist(), strict=True)
    ]
    for first in range(0, len(transcripts), copies):
        found = transcripts[first : first + copies]
        if temperature:  # a beam search returns them in order
            found.sort(key=lambda one: -one.avg_logprob)
        others = found[1 : options.num_return_sequences]
        yield replace(found[0], alternatives=tuple(map(_alternative, others)))


def _decoded(engine: Engine, tokens: list[int], log_probs: list[float], limit: int) -> Decoded:
    facts = engine.facts
    ends = facts.end_ids
    end = next((place for place, token in enumerate(tokens) if token in ends), None)
    first = engine.first_of_text(tokens[:end])
    ids = tokens[first:] if end is None else tokens[first : end + 1]
    forced = facts.generation.forced_eos_token_id is not None
    return Decoded(
        text=engine.text(ids),
        tokens=tuple(tokens[first:end]),
        log_probs=tuple(log_probs[first : first + len(ids)]),
        truncated=end is None or (forced and len(ids) >= limit),
    )


def _alternative(decoded: Decoded) -> Alternative:
    return Alternative(text=decoded.text, tokens=decoded.tokens, avg_logprob=decoded.avg_logprob)


def _no_speech_probs(engine: Engine, encoded: Any, waveforms: Sequence[Waveform]) -> list[float]:
    """Return the no-speech probability of each window; see `guards`."""
    vocabulary = engine.tokenizer.get_vocab() if isinstance(engine.tokenizer, WhisperTokenizer) else {}
    token = next((vocabulary[name] for name in _NO_SPEECH if name in vocabulary), None)
    if token is None:
        return [1 - speech_probability(samples) for samples in waveforms]
    log_probs = engine.runner.next_log_probs(encoded, np.asarray([engine.own_prompt()[:1]] * len(waveforms)))
    return [float(p) for p in np.exp(log_probs[:, token])]
