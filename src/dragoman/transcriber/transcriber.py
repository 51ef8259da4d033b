"""`Transcriber`: recordings of any length to transcripts, in memory that does not grow with their length."""

import io
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from dragoman.audio.reading.io import stream_audio
from dragoman.audio.reading.source import AudioSource
from dragoman.audio.segment import Window, speech_windows
from dragoman.audio.waveform import Waveform, as_float32, as_waveform
from dragoman.errors import AudioError, ConfigError, did_you_mean
from dragoman.transcriber.decoding import WindowDecoder, cutting_rules, window_seconds
from dragoman.transcriber.engine import SAMPLING_RATE, Engine, runner_of
from dragoman.transcriber.live import LiveText, live_texts
from dragoman.transcriber.options import TranscribeOptions
from dragoman.transcriber.result import ModelInfo, Segment, Timings, Transcript, join_texts
from dragoman.transcriber.segmenting import Examined

__all__ = ["SegmentStream", "Transcriber"]

Audio: TypeAlias = "AudioSource | np.ndarray[Any, Any] | Iterable[np.ndarray[Any, Any]]"


class Transcriber:
    """Turns recordings into text with any speech encoder-decoder.

    Args:
        model: A folder, a hub id, or a model of either backend; `None` for the default model (Whisper tiny.en).
        processor: The model's feature extractor and tokenizer; by default those of its folder.
        model_dir: Where models from the hub are kept, instead of the standard cache.
        revision: Branch, tag or commit on the hub.
        local_files_only: Never ask the hub.
        token: Hub token, for private and gated models.
        device: `"auto"` (a GPU if there is one), `"cpu"`, `"cuda"`, `"cuda:1"`, …
        threads: Threads of the processor, for the whole program; `None` leaves the backend's choice.
        backend: `"torch"` or `"jax"`; `None` is PyTorch where it is installed, JAX where only that is. A model that
            is loaded already brings its own.

    Raises:
        ModelNotFoundError: If the model or a file of it is nowhere.
        ConfigError: If an argument is impossible.
        CheckpointError: If the model's files are: its configuration, its tensors.
        MissingDependencyError: If the backend or the default model's package is not installed.

    Example:
        >>> transcript = Transcriber().transcribe("speech.wav")
        >>> print(transcript.text)
    """

    def __init__(
        self,
        model: Any = None,
        processor: Any = None,
        *,
        model_dir: str | Path | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        token: str | None = None,
        device: str = "auto",
        threads: int | None = None,
        backend: str | None = None,
    ) -> None:
        named = model is None or isinstance(model, str | os.PathLike)
        if not named and getattr(model, "backend", None) is None:
            raise ConfigError(
                "`model` must be a model of dragoman, or the name of a folder or of a model on the hub, but is a "
                f"{type(model).__name__}: {model!r:.80}."
            )
        if not named and backend not in (None, model.backend):
            raise ConfigError(f"`backend` is {backend!r}, but the model that was given is one of {model.backend!r}.")
        backend = backend if named else model.backend
        if threads is not None:
            if threads < 1:
                raise ConfigError(f"`threads` must be at least 1, but is {threads}.")
            runner_of(backend).set_threads(threads)
        if named:
            source = {
                "revision": revision,
                "cache_dir": model_dir,
                "token": token,
                "local_files_only": local_files_only,
            }
            self._engine = Engine.load(model, processor, device, source, backend)
        else:
            if processor is None:
                raise ConfigError(
                    "A model that is loaded already needs its `processor` too: AutoProcessor.from_pretrained."
                )
            info = ModelInfo(name=model.config.name_or_path or type(model).__name__)
            self._engine = Engine(runner_of(backend)(model), processor, info)

    @property
    def model(self) -> Any:
        """The `SpeechEncoderDecoderModel`."""
        return self._engine.model

    @property
    def processor(self) -> Any:
        """Its feature extractor and tokenizer."""
        return self._engine.processor

    def transcribe(self, audio: Audio, **options: Any) -> Transcript:
        """Transcribe one recording of any length.

        Args:
            audio: A path, the bytes of an audio file, a binary file object, mono samples `[samples]` at 16 kHz, or a
                list or iterator of such blocks, one after the other. Several recordings take several calls.
            **options: Fields of `TranscribeOptions`: `language`, `beam_size`, `batch_size`, `vad_filter`, …

        Returns:
            The text, its segments with times, and what it was made with.

        Raises:
            AudioError: If the audio cannot be read or used.
            ConfigError: If an option is unknown or impossible.
            OutOfMemoryError: If even one window does not fit into memory.
        """
        return self.stream_segments(audio, **options).transcript()

    def stream_segments(
        self, audio: Audio, *, examine: Callable[[Examined], object] | None = None, **options: Any
    ) -> "SegmentStream":
        """Transcribe lazily: segments come as they are decoded, while the rest of the audio is not even read yet.

        Args:
            audio: As for `transcribe`.
            examine: Is shown each window with all that is known of it (`dragoman.transcriber.plots` draws it).
            **options: As for `transcribe`.

        Raises:
            ConfigError: If an option is unknown or impossible. What is wrong with the audio is raised on the way.
        """
        return SegmentStream(self._engine, audio, _checked(options), examine)

    def stream(
        self, chunks: Iterable[np.ndarray[Any, Any]], *, interval_s: float = 1.0, **options: Any
    ) -> Iterator[LiveText]:
        """Transcribe while somebody speaks: partial texts by local agreement, and final ones.

        Args:
            chunks: Mono samples at 16 kHz as they come, pieces of any length `[samples]`, floats or integers.
            interval_s: How much speech must come before it is decoded again for a partial text, in seconds.
            **options: As for `transcribe`.

        Yields:
            `LiveText`s; the policy and its bounds are in `dragoman.transcriber.live`.

        Raises:
            AudioError: If a chunk is no waveform.
            ConfigError: If an option is unknown or impossible.
        """
        return live_texts(self._engine, chunks, _checked(options), interval_s)


def _checked(options: dict[str, Any]) -> TranscribeOptions:
    known = [field.name for field in fields(TranscribeOptions)]
    for name in options:
        if name not in known:
            raise ConfigError(f"`{name}` is not an option of transcription.{did_you_mean(name, known)}")
    return TranscribeOptions(**options)


class SegmentStream(Iterator[Segment]):
    """The segments of one recording, made while they are asked for."""

    def __init__(
        self,
        engine: Engine,
        audio: Audio,
        options: TranscribeOptions,
        examine: Callable[[Examined], object] | None = None,
    ) -> None:
        self._engine = engine
        self._options = replace(options, **engine.search_options(options))
        name = str(audio) if isinstance(audio, str | os.PathLike) else "the audio"
        self._decoder = WindowDecoder(engine, self._options, name, examine)
        self._samples_read = 0
        self._windows = speech_windows(
            self._counted(_blocks(audio)), window_seconds(engine, options), **cutting_rules(options)
        )
        self._made: list[Segment] = []
        self._reading = self._decoding = 0.0  # seconds
        self._source = self._segments()

    @property
    def language(self) -> str | None:
        """Code of the spoken language, as soon as it is known; `None` if the model takes none."""
        return self._decoder.language

    @property
    def position(self) -> float:
        """Seconds of audio that are done."""
        return self._made[-1].end if self._made else 0.0

    @property
    def duration(self) -> float:
        """Seconds of audio read so far; the length of the recording once the segments are exhausted."""
        return self._samples_read / SAMPLING_RATE

    def __next__(self) -> Segment:
        segment = next(self._source)
        self._made.append(segment)
        return segment

    def transcript(self) -> Transcript:
        """Decode what is left and return the whole, the segments that were taken before included."""
        for _ in self:
            pass
        return Transcript(
            text=join_texts(segment.text for segment in self._made),
            segments=tuple(self._made),
            language=self.language,
            duration=self.duration,
            model=self._engine.info,
            parameters=asdict(self._options),
            timings=Timings(reading=self._reading, decoding=self._decoding),
        )

    def _counted(self, blocks: Iterable[Waveform]) -> Iterator[Waveform]:
        for block in blocks:
            self._samples_read += len(block)
            yield block

    def _segments(self) -> Iterator[Segment]:
        while batch := self._next_windows(self._decoder.windows_at_once):
            begin = time.perf_counter()
            segments = self._decoder.push(batch)
            self._decoding += time.perf_counter() - begin
            yield from segments
        yield from self._decoder.finish()

    def _next_windows(self, most: int) -> list[tuple[Window, Waveform]]:
        begin = time.perf_counter()
        batch = list(islice(self._windows, most))
        self._reading += time.perf_counter() - begin
        return batch


def _blocks(audio: Audio) -> Iterable[Waveform]:
    if isinstance(audio, np.ndarray):
        return iter([as_waveform(audio, sampling_rate=SAMPLING_RATE)])
    if isinstance(audio, list | tuple | Iterator) and not isinstance(audio, io.IOBase):  # files are iterators of lines
        return map(_block, audio)
    return stream_audio(cast(AudioSource, audio), sampling_rate=SAMPLING_RATE)


def _block(samples: Any) -> Waveform:
    if isinstance(samples, str | os.PathLike | bytes):
        raise AudioError(
            f"`transcribe` takes one recording, a file or blocks of samples, but a list holds {samples!r:.80}. "
            "Call it once for each file."
        )
    return as_float32(samples)
