"""The one place where transcription touches a model: waveforms in, tokens and their probabilities out.

Lives here: loading, batches, and what to do when memory runs out. Not here: audio files and windows; the backends, of
which only `Runner` is seen.
"""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import dragoman
from dragoman._lazy import require
from dragoman.assembly import whole_config
from dragoman.audio.waveform import Waveform
from dragoman.checkpoint.default_model import DEFAULT_MODEL_NAME, default_model_folder
from dragoman.checkpoint.folder import open_folder
from dragoman.checkpoint.source import commit_of, resolve
from dragoman.errors import CheckpointError, ConfigError, OutOfMemoryError
from dragoman.text.ctc import Wav2Vec2CTCTokenizer
from dragoman.transcriber.aligner import Alignment, align_tokens
from dragoman.transcriber.options import TranscribeOptions
from dragoman.transcriber.result import Alternative, ModelInfo

__all__ = ["SAMPLING_RATE", "Decoded", "Engine", "Runner", "blaming", "runner_of"]

SAMPLING_RATE = 16_000  # of every speech encoder here

# Encoders that do not say how much they take: the longest clips that they are usually fine-tuned on.
_USUAL_SECONDS = 20.0

_BACKENDS = {"torch": "dragoman.torch.runner", "jax": "dragoman.jax.runner"}

_log = logging.getLogger("dragoman")


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What the decoder wrote for one window.

    Attributes:
        text: The words.
        tokens: Their ids, without prompt and end.
        log_probs: Natural-log probability of each generated token, the end included.
        truncated: Whether the length limit cut the text off.
        alternatives: What else the search found, the best first.
        alignment: When each token was heard, if that was asked for.
    """

    text: str
    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    truncated: bool
    alternatives: tuple[Alternative, ...] = ()
    alignment: Alignment | None = None

    @property
    def avg_logprob(self) -> float:
        """Mean log-probability of what was generated, the end included."""
        return sum(self.log_probs) / len(self.log_probs)


class Runner(Protocol):
    """A model of either backend: NumPy arrays in, NumPy arrays out. What `encode` returns is the backend's own.

    Attributes:
        model: A `SpeechEncoderDecoderModel`, or its twin in JAX.
    """

    model: Any

    def __init__(self, model: Any) -> None:
        """Take a model that is loaded already."""
        ...

    @classmethod
    def load(cls, folder: Path, device: Any) -> "Runner":
        """Load a checkpoint onto what `device` returned."""
        ...

    @staticmethod
    def device(name: str) -> Any:
        """Return the device that a name stands for; raise a `ConfigError` if there is none."""
        ...

    @staticmethod
    def set_threads(count: int) -> None:
        """Compute on so many processors, in the whole program."""
        ...

    def encode(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Any:
        """Run the encoder over what a feature extractor returned."""
        ...

    def take(self, encoded: Any, rows: Sequence[int]) -> Any:
        """Return the encoder's output for some of its rows."""
        ...

    def generate(self, encoded: Any, prompt: np.ndarray[Any, Any], **options: Any) -> np.ndarray[Any, Any]:
        """Write texts behind a prompt `[rows, tokens]`, which is part of what is returned, `[rows, length]`."""
        ...

    def next_log_probs(self, encoded: Any, prompt: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return how likely each token is after a prompt `[rows, tokens]`: natural logarithms, `[rows, vocab]`."""
        ...

    def log_probs(self, encoded: Any, tokens: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return how likely each token of `[rows, length]` but the first was: natural logarithms, one less a row."""
        ...

    def cross_attention(
        self, encoded: Any, tokens: np.ndarray[Any, Any], heads: Sequence[tuple[int, int]]
    ) -> np.ndarray[Any, Any]:
        """Return where heads (layer, head) look when each token of `[rows, length]` has been read.

        Attention weights, `[rows, heads, length, frames]`.
        """
        ...

    @staticmethod
    def free_memory() -> None:
        """Give back what the last batch left behind, after memory ran out."""
        ...


class Engine:
    """A model and its processor, ready to decode batches of windows.

    Args:
        runner: The model, in whatever backend.
        processor: Its feature extractor and tokenizer.
        info: The model's name and commit, for results.
    """

    def __init__(self, runner: Runner, processor: Any, info: ModelInfo) -> None:
        self.runner = runner
        self.model = runner.model
        self.processor = processor
        self.info = info
        self.tokenizer = processor.tokenizer

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str] | None,
        processor: Any,
        device: str,
        source: dict[str, Any],
        backend: str | None = None,
    ) -> "Engine":
        """Load a checkpoint and move it to a device.

        Args:
            name: A folder or a hub id; `None` for the default model.
            processor: Used instead of the checkpoint's own.
            device: `"auto"`, `"cpu"`, `"cuda"`, `"cuda:1"`, …
            source: Options of `dragoman.checkpoint.source.resolve`.
            backend: See `runner_of`.

        Raises:
            ConfigError: If there is no such device or backend.
            CheckpointError: If the files of the checkpoint are impossible.
            ModelNotFoundError: If it, or a file of it, is nowhere.
        """
        runner = runner_of(backend)
        place = runner.device(device)
        folder = default_model_folder() if name is None else resolve(os.fspath(name), **source)
        info = ModelInfo(name=DEFAULT_MODEL_NAME if name is None else os.fspath(name), commit=commit_of(folder))
        _log.info("Loading %s on %s.", info.name, place)
        with blaming(info.name):
            # What is quick comes first, so that whatever is missing or unknown is said at once.
            whole_config(open_folder(folder), info.name, {})
            if processor is None:
                processor = dragoman.AutoProcessor.from_pretrained(folder)
            return cls(runner.load(folder, place), processor, info)

    @property
    def sampling_rate(self) -> int:
        """Samples a second of the waveforms."""
        return SAMPLING_RATE

    @property
    def inputs_per_second(self) -> float:
        """Samples, or spectrogram frames, that the encoder takes a second."""
        return SAMPLING_RATE / (self.processor.feature_extractor.hop_length if self.has_window_limit else 1)

    @property
    def window_seconds(self) -> float:
        """The longest window that the model takes (Whisper: 30 s) or is at home with."""
        return float(self.processor.feature_extractor.chunk_length) if self.has_window_limit else _USUAL_SECONDS

    @property
    def has_window_limit(self) -> bool:
        """Whether longer windows would be cut off by the feature extractor."""
        return bool(self.model.encoder.main_input_name == "input_features")

    def encode(self, waveforms: Sequence[Waveform]) -> Any:
        """Run the encoder over windows and return its output; what is too short for a single frame gets silence."""
        least = 1 if self.has_window_limit else self.model.encoder.spec.shortest_input
        waveforms = [np.pad(samples, (0, max(0, least - len(samples)))) for samples in waveforms]
        inputs = self.processor.feature_extractor(
            waveforms,
            sampling_rate=SAMPLING_RATE,
            return_tensors="np",
            return_attention_mask=not self.has_window_limit,
            **({} if self.has_window_limit else {"padding": True}),
        )
        return self.runner.encode(inputs)

    def decode(self, waveforms: Sequence[Waveform], options: TranscribeOptions, prompt: Sequence[int]) -> list[Decoded]:
        """Decode windows together; in halves if memory runs out.

        Args:
            waveforms: Mono samples at 16 kHz.
            options: Of the search.
            prompt: Tokens that each text begins with, the start token included (`own_prompt`, or language and task).

        Raises:
            OutOfMemoryError: If even one window does not fit.
        """
        try:
            return list(self._decode(waveforms, options, prompt))
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            self.runner.free_memory()
            if len(waveforms) == 1:
                seconds = len(waveforms[0]) / SAMPLING_RATE
                raise OutOfMemoryError(
                    f"A single window of {seconds:.0f} s does not fit into memory with {options.beam_size} beams. "
                    "Use fewer beams, a smaller `chunk_length_s`, a smaller model, or another device."
                ) from error
        half = len(waveforms) // 2
        warnings.warn(
            f"{len(waveforms)} windows at once do not fit into memory; going on with {half}. "
            "A smaller `batch_size` spares the attempt.",
            UserWarning,
            stacklevel=2,
        )
        parts = waveforms[:half], waveforms[half:]
        return [decoded for part in parts for decoded in self.decode(part, options, prompt)]

    def _decode(
        self, waveforms: Sequence[Waveform], options: TranscribeOptions, prompt: Sequence[int]
    ) -> Iterator[Decoded]:
        encoded = self.encode(waveforms)
        room = self.model.config.decoder.text_spec().num_positions - len(prompt)
        limit = min(options.max_new_tokens or room, room)
        copies = options.num_return_sequences
        # Never the file's own `max_length`: it was set for clips, and would cut off windows without a word.
        sequences = self.runner.generate(
            encoded,
            np.asarray([prompt] * len(waveforms)),
            max_new_tokens=limit,
            num_beams=options.beam_size,
            num_return_sequences=copies,
            do_sample=False,
            **self.search_options(options),
        )
        heard = encoded if copies == 1 else self.runner.take(encoded, [row // copies for row in range(len(sequences))])
        found = list(self._hypotheses(heard, sequences, len(prompt), limit))
        best = found[::copies]
        alignments: Sequence[Alignment | None] = [None] * len(best)
        if options.word_timestamps:
            lengths, texts = [len(samples) for samples in waveforms], [one.tokens for one in best]
            alignments = align_tokens(self, encoded, lengths, [prompt] * len(best), texts)
        for place, (one, alignment) in enumerate(zip(best, alignments, strict=True)):
            others = found[place * copies + 1 : (place + 1) * copies]
            yield replace(one, alignment=alignment, alternatives=tuple(map(_alternative, others)))

    def _hypotheses(self, encoded: Any, sequences: Any, start: int, limit: int) -> Iterator[Decoded]:
        """Return what was written behind prompts of `start` tokens, with its probabilities, read off in one pass."""
        tokens = np.maximum(sequences, 0)  # the padding of a model without end token is -1
        log_probs = self.runner.log_probs(encoded, tokens)[:, start - 1 :]
        forced = self.model.generation_config.forced_eos_token_id is not None
        for row, values in zip(sequences[:, start:].tolist(), log_probs.tolist(), strict=True):
            ids, ended = self._until_end(row)
            yield Decoded(
                text=self.text(ids),
                tokens=tuple(ids[:-1] if ended else ids),
                log_probs=tuple(values[: len(ids)]),
                truncated=not ended or (forced and len(ids) >= limit),
            )

    def search_options(self, options: TranscribeOptions) -> dict[str, Any]:
        """Return the options of the search that a checkpoint may have its own values for, the user's winning."""
        own = self.model.generation_config
        return {
            name: getattr(own, name) if getattr(options, name) is None else getattr(options, name)
            for name in ("length_penalty", "repetition_penalty", "no_repeat_ngram_size")
        }

    def own_prompt(self) -> list[int]:
        """Return the tokens that the model's texts begin with when nobody chooses others.

        Raises:
            ConfigError: If the model has no start token.
        """
        start = self.model.config.special_id("decoder_start_token_id")
        if start is None:
            raise ConfigError(
                f"{self.info.name} does not say which token a text starts with. Set `decoder_start_token_id` in its "
                "config.json, for BERT's kin to the id of [CLS]."
            )
        forced = sorted(self.model.generation_config.forced_decoder_ids or [])
        return [start[0] if isinstance(start, list) else start, *(token for _, token in forced if token is not None)]

    def likeliest(self, waveform: Waveform, prompt: Sequence[int], candidates: Sequence[int]) -> int:
        """Return which of some tokens the model finds most likely after a prompt."""
        (log_probs,) = self.runner.next_log_probs(self.encode([waveform]), np.asarray([prompt]))
        return candidates[int(log_probs[list(candidates)].argmax())]

    def _until_end(self, ids: list[int]) -> tuple[list[int], bool]:
        """Return the ids up to the first end token, which is kept, and whether there is one."""
        end = self.model.config.special_id("eos_token_id")
        ends = set(end if isinstance(end, list) else [end])
        for place, token in enumerate(ids):
            if token in ends:
                return ids[: place + 1], True
        return ids, False

    def text(self, ids: Sequence[int]) -> str:
        """Return what tokens write, without special ones and surrounding blanks."""
        # A CTC tokenizer merges equal neighbours, which frames repeat and a text decoder means.
        kept = {"group_tokens": False} if isinstance(self.tokenizer, Wav2Vec2CTCTokenizer) else {}
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, **kept)).strip()


def _alternative(decoded: Decoded) -> Alternative:
    return Alternative(text=decoded.text, tokens=decoded.tokens, avg_logprob=decoded.avg_logprob)


@contextmanager
def blaming(checkpoint: str) -> Iterator[None]:
    """Tell impossible values in the files of a checkpoint from those that the user typed: other words, other exit code.

    Raises:
        CheckpointError: In place of a `ConfigError`.
    """
    try:
        yield
    except ConfigError as error:
        raise CheckpointError(f"{checkpoint}: {error}") from error


def runner_of(backend: str | None) -> type[Runner]:
    """Return what runs models in a backend; `None` is PyTorch where it is installed, JAX where only that is.

    Raises:
        ConfigError: If there is no such backend.
        MissingDependencyError: If it is not installed.
    """
    if backend is None:
        backend = next((name for name in _BACKENDS if find_spec(name)), "torch")
    if backend not in _BACKENDS:
        raise ConfigError(f"`backend` must be {' or '.join(_BACKENDS)}, but is {backend!r}.")
    found: type[Runner] = require(_BACKENDS[backend], "Transcription").Runner
    return found


def _is_out_of_memory(error: BaseException) -> bool:
    # PyTorch has a class for the GPU only; for the processor it raises a plain RuntimeError, as JAX does for all.
    known = isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__
    return known or "allocate memory" in str(error) or "RESOURCE_EXHAUSTED" in str(error)
