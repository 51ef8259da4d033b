"""From windows to segments: decoded, dropped if silent, joined where they overlap, numbered.

Windows are pushed as they arrive, so that files and live audio take one path. Not here: cutting audio into windows.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, starmap
from typing import NamedTuple

from dragoman.audio import SAMPLING_RATE
from dragoman.audio.segment import Window
from dragoman.audio.waveform import Waveform
from dragoman.errors import ConfigError
from dragoman.transcriber.aligner import check_alignable
from dragoman.transcriber.decoded import Decoded
from dragoman.transcriber.engine import Engine
from dragoman.transcriber.fallback import WindowBatch, decode
from dragoman.transcriber.guards import covers_little, fails, is_silence, repeats
from dragoman.transcriber.merging import merged
from dragoman.transcriber.options import TranscribeOptions
from dragoman.transcriber.prompt import PromptBuilder
from dragoman.transcriber.result import Segment
from dragoman.transcriber.scorers import scorers_for
from dragoman.transcriber.segmenting import Examined, examined, segments_of
from dragoman.transcriber.shorter import (
    are_better,
    shorter_windows,
    suspicion,
    with_short_texts,
)


class _Transcribed(NamedTuple):
    """A window, its samples and its transcript."""

    window: Window
    samples: Waveform
    decoded: Decoded


class WindowDecoder:
    """Decodes the windows of one recording, in order.

    Args:
        engine: The model.
        options: The user's options, with the checkpoint's values where they set none.
        name: What to call the recording in messages.
        examine: Called with everything that is known about each window.

    Raises:
        ConfigError: If an option does not fit the model.
    """

    def __init__(
        self,
        engine: Engine,
        options: TranscribeOptions,
        name: str,
        examine: Callable[[Examined], object] | None = None,
    ) -> None:
        if options.word_timestamps:
            check_alignable(engine)
        self._engine, self._options, self._name = engine, options, name
        self._scorers = scorers_for(engine, options)
        self._prompts = PromptBuilder(engine, options, name)
        self._examine = examine
        self._decode = engine.decode_windows or partial(decode, engine)
        self._windows = self._segments = 0
        self._end = 0.0  # of the last segment, in seconds
        self._held: _Transcribed | None = None  # the next window may repeat its end

    @property
    def language(self) -> str | None:
        """Code of the spoken language, as soon as it is known; `None` if the model takes none."""
        return self._prompts.language

    @property
    def windows_at_once(self) -> int:
        """Maximum number of windows in a batch."""
        return self._prompts.windows_at_once

    def push(self, batch: Sequence[tuple[Window, Waveform]]) -> list[Segment]:
        """Decode windows together and return the segments that are final."""
        segments = []
        for transcribed in self._transcribe(batch):
            for final in self._joined(transcribed):
                segments += self._segmented(final)
        return segments

    def finish(self) -> list[Segment]:
        """Return the segments of the window that was held back for the next one."""
        held, self._held = self._held, None
        return [] if held is None else self._segmented(held)

    def preview(self, samples: Waveform) -> str:
        """Return the transcript of a window that is not complete yet: a quick search, without guards."""
        quick = replace(self._options, beam_size=1, temperature=0.0, num_return_sequences=1, word_timestamps=False)
        prompt = self._prompts.prompt(samples, keep=False)
        batch = WindowBatch(waveforms=[samples], numbers=[0], prompt=prompt, scorers=self._scorers)
        (decoded,) = self._decode(batch, quick)
        return "" if is_silence(decoded, quick) else decoded.text

    def _transcribe(self, windows: Sequence[tuple[Window, Waveform]]) -> Iterator[_Transcribed]:
        """Decode windows and yield those with words."""
        waveforms = [samples for _, samples in windows]
        numbers = range(self._windows, self._windows + len(windows))
        self._windows += len(windows)
        prompt = self._prompts.prompt(waveforms[0])
        batch = WindowBatch(waveforms=waveforms, numbers=numbers, prompt=prompt, scorers=self._scorers)
        for transcribed in chain.from_iterable(self._decoded(windows, batch)):
            window, _, one = transcribed
            if is_silence(one, self._options):
                continue
            if one.truncated:
                self._warn_truncated(window.seconds[1], len(one.tokens))
            elif self._options.vad_filter and covers_little(one, self._options):
                self._warn_short(window.seconds, one)
            self._prompts.add(one)
            yield (
                transcribed
                if self._options.word_timestamps
                else transcribed._replace(decoded=replace(one, alignment=None))
            )

    def _decoded(self, windows: Sequence[tuple[Window, Waveform]], batch: WindowBatch) -> list[list[_Transcribed]]:
        """Decode windows at the first temperature, in shorter ones if that helps, or else at the next temperatures."""
        options = self._options
        first = replace(options, temperature=options.temperatures[0])
        found = [
            [_Transcribed(window, samples, one)]
            for (window, samples), one in zip(windows, self._decode(batch, first), strict=True)
        ]
        failed = []
        for row, (whole,) in enumerate(found):
            parts = self._in_parts(whole, batch.take([row]), first)
            if parts:
                found[row] = parts
            elif fails(whole.decoded, options) and not is_silence(whole.decoded, options):
                failed.append(row)
        if failed and len(options.temperatures) > 1:
            before = [found[row][0].decoded for row in failed]
            again = self._decode(batch.take(failed), options, before)
            for row, one in zip(failed, again, strict=True):
                found[row] = [found[row][0]._replace(decoded=one)]
        return found

    def _in_parts(self, whole: _Transcribed, batch: WindowBatch, options: TranscribeOptions) -> list[_Transcribed]:
        """Return the transcripts of shorter windows if that of a window is suspicious and they are better."""
        window, samples, one = whole
        reason = suspicion(one, samples, self._engine.text, options)
        if reason is None:
            return []
        gap = reason.gap
        parts = shorter_windows(window, samples, options, gap)
        if len(parts) < 2:
            return []
        shorter = replace(batch, waveforms=[part for _, part in parts], numbers=list(batch.numbers) * len(parts))
        decoded = self._decode(shorter, with_short_texts(parts, options))
        found: list[_Transcribed] = []
        for row, part in enumerate(starmap(_Transcribed, zip(*zip(*parts, strict=True), decoded, strict=True))):
            # One that is repetitive again is divided again; it is a third as long, so this ends soon.
            inner = self._in_parts(part, shorter.take([row]), options) if repeats(part.decoded, options) else []
            found += inner or [part]
        if are_better([part.decoded for part in found], one, options):
            return found
        if gap is not None and any(fails(part.decoded, options) for part in found):
            self._warn_skipped(window.audio_start + gap[0], window.audio_start + gap[1])
        return []

    def _joined(self, new: _Transcribed) -> list[_Transcribed]:
        """Take a window and return those that are final; what two windows repeat is kept once."""
        held, self._held = self._held, None
        if held is not None and new.window.before and held.window.end == new.window.start:
            shared = (held.window.after + new.window.before) / SAMPLING_RATE
            seconds = len(held.samples) / SAMPLING_RATE, len(new.samples) / SAMPLING_RATE
            left, right = merged(self._engine.text, held.decoded, new.decoded, shared, seconds)
            held, new = held._replace(decoded=left), new._replace(decoded=right)
        final = [] if held is None else [held]
        if new.window.after:
            self._held = new
            return final
        return [*final, new]

    def _segmented(self, transcribed: _Transcribed) -> list[Segment]:
        segments = segments_of(self._engine.text, *transcribed, self._segments, self._end)
        self._segments += len(segments)
        self._end = segments[-1].end if segments else self._end
        if self._examine is not None:
            self._examine(examined(self._engine.text, *transcribed, segments))
        return segments

    def _warn_short(self, times: tuple[float, float], decoded: Decoded) -> None:
        warnings.warn(
            f"{self._name}: words may be missing between {times[0]:.2f} s and {times[1]:.2f} s: the text has only "
            f"{len(decoded.text)} characters. A smaller `chunk_length_s` may help.",
            UserWarning,
            stacklevel=2,
        )

    def _warn_skipped(self, start: float, end: float) -> None:
        warnings.warn(
            f"{self._name}: words may be missing between {start:.2f} s and {end:.2f} s, where there is speech that the "
            "model has no likely words for.",
            UserWarning,
            stacklevel=2,
        )

    def _warn_truncated(self, end: float, tokens: int) -> None:
        warnings.warn(
            f"{self._name}: words may be missing before {end:.2f} s: the decoder reached its limit of {tokens} "
            "tokens. Use a smaller `chunk_length_s`, or a larger `max_new_tokens` if you set one.",
            UserWarning,
            stacklevel=2,
        )


def window_seconds(engine: Engine, options: TranscribeOptions) -> float:
    """Return the maximum window length.

    Raises:
        ConfigError: If it is more than the model takes.
    """
    seconds = options.chunk_length_s
    if seconds is None:
        return engine.window_seconds
    if engine.has_window_limit and seconds > engine.window_seconds:
        raise ConfigError(
            f"`chunk_length_s` must be at most {engine.window_seconds:g} for this model, which takes no longer input, "
            f"but is {seconds:g}."
        )
    return seconds


def cutting_rules(options: TranscribeOptions) -> dict[str, float]:
    """Return the arguments of `WindowCutter` for these options."""
    return {
        "threshold": options.vad_threshold if options.vad_filter else 0.0,  # at 0 everything counts as speech
        "min_speech_ms": options.vad_min_speech_duration_ms if options.vad_filter else 0.0,
        "max_speech_s": options.vad_max_speech_duration_s or math.inf,
        "min_silence_ms": options.vad_min_silence_duration_ms,
        "pad_ms": options.vad_speech_pad_ms,
        "overlap_s": options.stride_length_s,
    }
