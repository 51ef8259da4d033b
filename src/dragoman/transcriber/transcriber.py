"""`Transcriber`: recordings of any length to transcripts, in memory that does not grow with their length."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from dragoman.audio import SAMPLING_RATE
from dragoman.errors import ConfigError, did_you_mean
from dragoman.model.runner import Runner
from dragoman.spec.compute_type import ComputeType
from dragoman.transcriber.blocks import Audio
from dragoman.transcriber.engine import Engine
from dragoman.transcriber.live import LiveText, live_texts
from dragoman.transcriber.loading import load_engine, runner_class
from dragoman.transcriber.many import each_of
from dragoman.transcriber.options import TranscribeOptions
from dragoman.transcriber.result import ModelInfo, Transcript
from dragoman.transcriber.segment_stream import SegmentStream
from dragoman.transcriber.segmenting import Examined


class Transcriber:
    """Transcribes recordings with any speech encoder-decoder.

    Args:
        model: A folder or a hub id, a model of either backend, or a `dragoman.model.runner.Runner`; `None` for the
            default model (Whisper tiny.en).
        processor: The model's feature extractor and tokenizer; by default those of its folder.
        model_dir: Where to keep models downloaded from the hub, instead of the standard cache.
        revision: Branch, tag or commit on the hub.
        local_files_only: Never contact the hub.
        token: Hugging Face token, for private and gated models.
        device: `"auto"` (a GPU if there is one), `"cpu"`, `"cuda"`, `"cuda:1"`, …
        threads: Number of CPU threads, for the whole program; `None` leaves the backend's choice.
        copy_weights: Copy the weights, so that their file may be cut or overwritten while the model is in use.
        compute_type: `"default"` (float32), `"auto"`, `"bfloat16"`, `"float16"` or `"int8"`, for a model that is named.
        backend: `"torch"`, `"jax"`, or `"onnx"` for a folder that `dragoman export` wrote; `None` (or `"auto"`) is the
            first of these that is installed. A loaded model has its own.

    Raises:
        ModelNotFoundError: If the model or a file of it is not found.
        ConfigError: If an argument is invalid.
        CheckpointError: If the model's configuration or tensors are invalid.
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
        copy_weights: bool = False,
        compute_type: ComputeType = "default",
    ) -> None:
        if threads is not None and threads < 1:
            raise ConfigError(f"`threads` must be at least 1, but is {threads}.")
        if model is None or isinstance(model, str | os.PathLike):
            if threads is not None:
                runner_class(backend).set_threads(threads)
            source = {
                "revision": revision,
                "cache_dir": model_dir,
                "token": token,
                "local_files_only": local_files_only,
            }
            self._engine = load_engine(
                model, processor, device, source, backend, copy_weights=copy_weights, compute_type=compute_type
            )
            return
        if compute_type != "default":
            raise ConfigError("`compute_type` cannot be set for a model that is loaded. Load it with `dtype=`.")
        runner = _runner_of(model, backend, threads)
        if processor is None:
            raise ConfigError(
                "A model that is already loaded needs its `processor` too: AutoProcessor.from_pretrained."
            )
        name = runner.facts.config.name_or_path or type(runner.loaded).__name__
        self._engine = Engine(runner, processor, ModelInfo(name=name))

    @property
    def engine(self) -> Engine:
        """The model and its processor, as transcription uses them."""
        return self._engine

    @property
    def model(self) -> Any:
        """The `SpeechEncoderDecoderModel`, or whatever the runner has loaded."""
        return self._engine.runner.loaded

    @property
    def processor(self) -> Any:
        """Its feature extractor and tokenizer."""
        return self._engine.processor

    @property
    def aligns_words(self) -> bool:
        """Whether the model gives word timestamps: its decoder has cross-attention."""
        return self._engine.facts.has_cross_attention

    def transcribe(self, audio: Audio, *, sampling_rate: int | None = None, **options: Any) -> Transcript:
        """Transcribe one recording of any length.

        Args:
            audio: A path, the bytes of an audio file, a binary file object, an array (NumPy, PyTorch, JAX) of mono
                samples `[samples]`, or a list or iterator of such blocks, one after the other. Several recordings take
                several calls.
            sampling_rate: Sampling rate of samples that are passed, in hertz; `None` is 16 kHz. Files state their own.
            **options: Fields of `TranscribeOptions`: `language`, `beam_size`, `batch_size`, `vad_filter`, …

        Returns:
            The text, its segments with their times, and the model and options used.

        Raises:
            AudioError: If the audio cannot be read or used.
            ConfigError: If an option is unknown or invalid.
            OutOfMemoryError: If even one window does not fit into memory.
        """
        return self.stream_segments(audio, sampling_rate=sampling_rate, **options).transcript()

    def transcribe_many(
        self, recordings: Iterable[Audio], *, sampling_rate: int | None = None, **options: Any
    ) -> Iterator[Transcript | Exception]:
        """Transcribe several recordings, decoding windows of all of them together.

        Each transcript is that of `transcribe`; many short recordings take much less time.

        Args:
            recordings: Each as for `transcribe`. They are taken, in a thread, as room becomes free.
            sampling_rate: As for `transcribe`.
            **options: As for `transcribe`.

        Yields:
            For each recording, in order, its transcript, or the exception why it has none: one that cannot be read does
            not stop the others.

        Raises:
            ConfigError: If an option is unknown or invalid.
        """
        checked, beginning = _checked(options), Lock()

        def transcript_of(engine: Engine, audio: Audio) -> Transcript:
            with beginning:  # the first one loads the language model, if there is one
                stream = SegmentStream(engine, audio, sampling_rate, checked)
            return stream.transcript()

        return each_of(self._engine, recordings, transcript_of, checked.batch_size)

    def stream_segments(
        self,
        audio: Audio,
        *,
        sampling_rate: int | None = None,
        examine: Callable[[Examined], object] | None = None,
        **options: Any,
    ) -> SegmentStream:
        """Transcribe lazily: segments are yielded as they are decoded, before the rest of the audio is read.

        Args:
            audio: As for `transcribe`.
            sampling_rate: As for `transcribe`.
            examine: Called with everything that is known about each window (`dragoman.transcriber.plots` draws it).
            **options: As for `transcribe`.

        Raises:
            ConfigError: If an option is unknown or invalid. Errors in the audio are raised while iterating.
        """
        return SegmentStream(self._engine, audio, sampling_rate, _checked(options), examine)

    def stream(
        self,
        chunks: Iterable[np.ndarray[Any, Any]],
        *,
        sampling_rate: int = SAMPLING_RATE,
        interval_s: float = 1.0,
        **options: Any,
    ) -> Iterator[LiveText]:
        """Transcribe live audio: partial transcripts by local agreement, and final ones.

        Args:
            chunks: Mono samples as they arrive, of any length `[samples]`, floats or integers.
            sampling_rate: Sampling rate of the samples in hertz.
            interval_s: Seconds of new speech before the next partial transcript.
            **options: As for `transcribe`.

        Yields:
            `LiveText`s; `dragoman.transcriber.live` describes the policy and its bounds.

        Raises:
            AudioError: If a chunk is not a waveform.
            ConfigError: If an option is unknown or invalid.
        """
        return live_texts(self._engine, chunks, _checked(options), interval_s, sampling_rate)


def _checked(options: dict[str, Any]) -> TranscribeOptions:
    known = [field.name for field in fields(TranscribeOptions)]
    for name in options:
        if name not in known:
            raise ConfigError(f"`{name}` is not an option of transcription.{did_you_mean(name, known)}")
    return TranscribeOptions(**options)


def _runner_of(model: Any, backend: str | None, threads: int | None) -> Runner:
    """Return the runner of a loaded model, or the runner that was passed in its place.

    Raises:
        ConfigError: If it is neither, or an option contradicts it.
    """
    if isinstance(model, Runner):
        if backend is not None or threads is not None:
            raise ConfigError("`backend` and `threads` cannot be set for a runner. Set them where it is made.")
        return model
    own = getattr(model, "backend", None)
    if own is None:
        raise ConfigError(
            "`model` must be a folder, a hub id, a model of dragoman or a runner (`dragoman.model.runner.Runner`), but "
            f"is a {type(model).__name__}: {model!r:.80}."
        )
    if backend not in (None, "auto", own):
        raise ConfigError(f"`backend` is {backend!r}, but the model is one of {own!r}.")
    runner = runner_class(own)
    if threads is not None:
        runner.set_threads(threads)
    return runner(model)
