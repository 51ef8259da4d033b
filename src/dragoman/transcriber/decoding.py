"""From windows to segments: what is decoded, told from silence, joined where windows overlap, and numbered.

Windows are pushed as they come, so that files and live audio go the same way. Not here: cutting audio into windows.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from dragoman.audio.segment import Window
from dragoman.audio.vad import SAMPLING_RATE
from dragoman.audio.waveform import Waveform
from dragoman.errors import ConfigError
from dragoman.transcriber.aligner import check_alignable
from dragoman.transcriber.engine import Decoded, Engine, Search
from dragoman.transcriber.guards import is_silence
from dragoman.transcriber.merging import merged
from dragoman.transcriber.options import TranscribeOptions
from dragoman.transcriber.prompt import PromptWriter
from dragoman.transcriber.result import Segment
from dragoman.transcriber.scorers import scorers_for
from dragoman.transcriber.segmenting import Examined, examined, segments_of

__all__ = ["WindowDecoder", "cutting_rules", "window_seconds"]


class _Heard(NamedTuple):
    """A window, its samples and what was decoded of it."""

    window: Window
    samples: Waveform
    decoded: Decoded


class WindowDecoder:
    """Decodes the windows of one recording, in order.

    Args:
        engine: The model.
        options: What the user asked for; those of the search complete.
        name: What to call the recording.
        examine: Is given everything that is known of each window.

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
        self._writer = PromptWriter(engine, options, name)
        self._examine = examine
        self._windows = self._segments = 0
        self._end = 0.0  # of the last segment, in seconds
        self._held: _Heard | None = None  # its end may be said again by the next one

    @property
    def language(self) -> str | None:
        """Code of the spoken language, as soon as it is known; `None` if the model takes none."""
        return self._writer.language

    @property
    def windows_at_once(self) -> int:
        """How many windows may be pushed together."""
        return self._writer.windows_at_once

    def push(self, batch: Sequence[tuple[Window, Waveform]]) -> list[Segment]:
        """Decode windows together and return the segments that are final."""
        segments = []
        for heard in self._hear(batch):
            for final in self._joined(heard):
                segments += self._segmented(final)
        return segments

    def finish(self) -> list[Segment]:
        """Return the segments that were waiting for more."""
        held, self._held = self._held, None
        return [] if held is None else self._segmented(held)

    def preview(self, samples: Waveform) -> str:
        """Return what has been said in a window that is not complete yet: a quick search, without guards."""
        quick = replace(self._options, beam_size=1, temperature=0.0, num_return_sequences=1, word_timestamps=False)
        search = Search(prompt=self._writer.prompt(samples, keep=False), scorers=self._scorers, numbers=(0,))
        (decoded,) = self._engine.decode([samples], quick, search)
        return "" if is_silence(decoded, quick) else decoded.text

    def _hear(self, batch: Sequence[tuple[Window, Waveform]]) -> Iterator[_Heard]:
        """Return the windows that have words."""
        waveforms = [samples for _, samples in batch]
        numbers = range(self._windows, self._windows + len(batch))
        self._windows += len(batch)
        search = Search(prompt=self._writer.prompt(waveforms[0]), scorers=self._scorers, numbers=numbers)
        decoded = self._engine.decode(waveforms, self._options, search)
        for (window, samples), one in zip(batch, decoded, strict=True):
            if is_silence(one, self._options):
                continue
            if one.truncated:
                self._warn_truncated(window.seconds[1], len(one.tokens))
            self._writer.heard(one)
            yield _Heard(window, samples, one)

    def _joined(self, new: _Heard) -> list[_Heard]:
        """Take a window and return those that are final, with what two of them both say said once."""
        held, self._held = self._held, None
        if held is not None and new.window.before and held.window.end == new.window.start:
            shared = (held.window.after + new.window.before) / SAMPLING_RATE
            seconds = len(held.samples) / SAMPLING_RATE, len(new.samples) / SAMPLING_RATE
            left, right = merged(self._engine, held.decoded, new.decoded, shared, seconds)
            held, new = held._replace(decoded=left), new._replace(decoded=right)
        final = [] if held is None else [held]
        if new.window.after:
            self._held = new
            return final
        return [*final, new]

    def _segmented(self, heard: _Heard) -> list[Segment]:
        segments = segments_of(self._engine, *heard, self._segments, self._end)
        self._segments += len(segments)
        self._end = segments[-1].end if segments else self._end
        if self._examine is not None:
            self._examine(examined(self._engine, *heard, segments))
        return segments

    def _warn_truncated(self, end: float, tokens: int) -> None:
        warnings.warn(
            f"{self._name}: words may be missing before {end:.2f} s: the decoder reached its limit of {tokens} "
            "tokens. Use a smaller `chunk_length_s`, or a larger `max_new_tokens` if you set one.",
            UserWarning,
            stacklevel=2,
        )


def window_seconds(engine: Engine, options: TranscribeOptions) -> float:
    """Return how long windows may be.

    Raises:
        ConfigError: If the model does not see as much as was asked for.
    """
    seconds = options.chunk_length_s
    if seconds is None:
        return engine.window_seconds
    if engine.has_window_limit and seconds > engine.window_seconds:
        raise ConfigError(
            f"`chunk_length_s` must be at most {engine.window_seconds:g} for this model, which sees no more at once, "
            f"but is {seconds:g}."
        )
    return seconds


def cutting_rules(options: TranscribeOptions) -> dict[str, float]:
    """Return the rules of `WindowCutter` that the options ask for."""
    return {
        "threshold": options.vad_threshold if options.vad_filter else 0.0,  # at 0 everything passes for speech
        "min_speech_ms": options.vad_min_speech_duration_ms if options.vad_filter else 0.0,
        "max_speech_s": options.vad_max_speech_duration_s or math.inf,
        "min_silence_ms": options.vad_min_silence_duration_ms,
        "pad_ms": options.vad_speech_pad_ms,
        "reach_s": options.stride_length_s,
    }
