"""The one place where transcription touches a model: waveforms in, tokens and their probabilities out.

Lives here: loading, batches, what to do when memory runs out or a text fails its guards. Not here: audio files and
windows; the guards themselves (`guards`); the backends, of which only `Runner` is seen.
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
from dragoman.audio.speech import speech_probability
from dragoman.audio.waveform import Waveform
from dragoman.checkpoint.folder import open_folder
from dragoman.checkpoint.formats.default_model import DEFAULT_MODEL_NAME, default_model_folder
from dragoman.checkpoint.source import resolve
from dragoman.errors import CheckpointError, ConfigError, DragomanError, OutOfMemoryError
from dragoman.generation.scorers.fusion import Scorer
from dragoman.hub import commit_of
from dragoman.model.assembly import whole_config
from dragoman.text.ctc import Wav2Vec2CTCTokenizer
from dragoman.text.whisper import WhisperTokenizer
from dragoman.transcriber.aligner import Alignment, align_tokens
from dragoman.transcriber.guards import best_of, fails, is_silence
from dragoman.transcriber.options import TranscribeOptions
from dragoman.transcriber.result import Alternative, ModelInfo

__all__ = ["SAMPLING_RATE", "Decoded", "Engine", "Runner", "Search", "blaming", "runner_of"]

SAMPLING_RATE = 16_000  # of every speech encoder here

# Encoders that do not say how much they take: the longest clips that they are usually fine-tuned on.
_USUAL_SECONDS = 20.0

# Some decoders can hold 131,072 tokens, but a text has lost the speech long before: nobody says as much as this in a
# second, not even in letters. A short window may have as many as Whisper has for 30 s.
_TOKENS_PER_SECOND, _TOKENS_OF_ANY = 50, 448

# Whisper's token for "nobody speaks", by the names that its files have given it.
_NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")

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
        temperature: Of the sampling, 0 for a search.
        no_speech_prob: How likely it is that nobody speaks.
        alternatives: What else the search found, the best first.
        alignment: When each token was heard, if that was asked for.
    """

    text: str
    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    truncated: bool
    temperature: float = 0.0
    no_speech_prob: float = 0.0
    alternatives: tuple[Alternative, ...] = ()
    alignment: Alignment | None = None

    @property
    def avg_logprob(self) -> float:
        """Mean log-probability of what was generated, the end included."""
        return sum(self.log_probs) / len(self.log_probs)


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a batch of windows is decoded with, besides the options.

    Attributes:
        prompt: Tokens that each text begins with, the start token included (`own_prompt`, or language and task).
        scorers: What has a say beside the decoder.
        numbers: Of the windows in the recording: the seeds of sampling, so that batches change nothing.
    """

    prompt: Sequence[int]
    scorers: Sequence[Scorer]
    numbers: Sequence[int]

    def only(self, places: Sequence[int]) -> "Search":
        """Return the search of some windows of the batch."""
        return replace(self, numbers=[self.numbers[place] for place in places])


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

    def generate(
        self, encoded: Any, prompt: np.ndarray[Any, Any], **options: Any
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Write texts behind a prompt `[rows, tokens]`.

        Returns:
            What was written, `[texts, generated]`, and how likely each token of it was: natural logarithms of the same
            shape, which mean nothing behind the end of a text.
        """
        ...

    def next_log_probs(self, encoded: Any, prompt: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return how likely each token is after a prompt `[rows, tokens]`: natural logarithms, `[rows, vocab]`."""
        ...

    def cross_attention(
        self, encoded: Any, tokens: np.ndarray[Any, Any], heads: Sequence[tuple[int, int]]
    ) -> Iterator[np.ndarray[Any, Any]]:
        """Yield for each row where heads (layer, head) look when each token of `[rows, length]` has been read.

        Attention weights, `[heads, length, frames]`.
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
        self.language_model: tuple[object, Scorer] | None = None  # the last one, and what it was asked for by

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
            if processor is None:  # first, since it is quick and what is missing is then said at once
                processor = _processor_of(folder, info.name)
            return cls(runner.load(folder, place), processor, info)

    @property
    def sampling_rate(self) -> int:
        """Samples a second of the waveforms."""
        return SAMPLING_RATE

    @property
    def inputs_per_second(self) -> float:
        """Samples, or frames of a spectrogram or filter bank, that the encoder takes a second."""
        return float(self.processor.feature_extractor.inputs_per_second)

    @property
    def window_seconds(self) -> float:
        """The longest window that the model takes (Whisper: 30 s) or is at home with."""
        return float(self.processor.feature_extractor.chunk_length) if self.has_window_limit else _USUAL_SECONDS

    @property
    def has_window_limit(self) -> bool:
        """Whether longer windows would be cut off by the feature extractor."""
        return not self.model.encoder.spec.frontend.masked

    def encode(self, waveforms: Sequence[Waveform]) -> Any:
        """Run the encoder over windows and return its output; what is too short for a single frame gets silence."""
        extractor = self.processor.feature_extractor
        least = 1 if self.has_window_limit else extractor.samples_for(self.model.encoder.spec.shortest_input)
        waveforms = [np.pad(samples, (0, max(0, least - len(samples)))) for samples in waveforms]
        inputs = extractor(
            waveforms,
            sampling_rate=SAMPLING_RATE,
            return_tensors="np",
            return_attention_mask=not self.has_window_limit,
            **({} if self.has_window_limit else {"padding": True}),
        )
        return self.runner.encode(inputs)

    def decode(self, waveforms: Sequence[Waveform], options: TranscribeOptions, search: "Search") -> list[Decoded]:
        """Decode windows together; in halves if memory runs out.

        Args:
            waveforms: Mono samples at 16 kHz.
            options: Of the search and of its guards.
            search: What else is the same for all windows, and their seeds.

        Raises:
            OutOfMemoryError: If even one window does not fit.
        """
        try:
            return self._decode(waveforms, options, search)
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
        places = range(half), range(half, len(waveforms))
        parts = ([waveforms[i] for i in part] for part in places), (search.only(part) for part in places)
        return [one for part, its_search in zip(*parts, strict=True) for one in self.decode(part, options, its_search)]

    def _decode(self, waveforms: Sequence[Waveform], options: TranscribeOptions, search: "Search") -> list[Decoded]:
        """Decode windows at one temperature after the other, each until its text passes the guards."""
        encoded = self.encode(waveforms)
        no_speech = self._no_speech_probs(encoded, waveforms)
        limit = self._limit(encoded, waveforms, options, search.prompt)
        tried: list[list[Decoded]] = [[] for _ in waveforms]
        todo = list(range(len(waveforms)))
        for attempt, temperature in enumerate(options.temperatures):
            heard = self.runner.take(encoded, todo) if attempt else encoded
            found = self._search(heard, options, search.only(todo), limit, temperature, attempt)
            for place, one in zip(todo, found, strict=True):
                tried[place].append(replace(one, no_speech_prob=no_speech[place]))
            last = [(place, tried[place][-1]) for place in todo]
            todo = [place for place, one in last if fails(one, options) and not is_silence(one, options)]
            if not todo:
                break
        best = [best_of(texts, options) if place in todo else texts[-1] for place, texts in enumerate(tried)]
        return self._aligned(encoded, waveforms, search.prompt, best) if options.word_timestamps else best

    def _limit(
        self, encoded: Any, waveforms: Sequence[Waveform], options: TranscribeOptions, prompt: Sequence[int]
    ) -> int:
        """Return how many tokens the text of a window may have: never more than the decoder has room for."""
        seconds = max(map(len, waveforms)) / SAMPLING_RATE
        most = options.max_new_tokens or max(round(seconds * _TOKENS_PER_SECOND), _TOKENS_OF_ANY)
        room: int = self.model.max_text_length(encoded.last_hidden_state.shape[1])
        return min(most, room - len(prompt))

    def _search(
        self, encoded: Any, options: TranscribeOptions, search: "Search", limit: int, temperature: float, attempt: int
    ) -> Iterator[Decoded]:
        """Decode windows once, texts of `limit` tokens: with beams, or sampled at a temperature above 0."""
        prompt, rows = search.prompt, len(search.numbers)
        copies = max(options.best_of if temperature else 1, options.num_return_sequences)
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "num_beams": 1}
        # Never the file's own `max_length`: it was set for clips, and would cut off windows without a word.
        ids, log_probs = self.runner.generate(
            encoded,
            np.asarray([prompt] * rows),
            max_new_tokens=limit,
            num_return_sequences=copies,
            scorers=search.scorers,
            seed=[number * 100 + attempt for number in search.numbers],
            **(sampling if temperature else {"do_sample": False, "num_beams": options.beam_size}),
            **self.search_options(options),
        )
        texts = [
            replace(self._decoded(tokens, own, limit), temperature=temperature)
            for tokens, own in zip(ids.tolist(), log_probs.tolist(), strict=True)
        ]
        for first in range(0, len(texts), copies):
            found = texts[first : first + copies]
            if temperature:  # a search has its own order
                found.sort(key=lambda one: -one.avg_logprob)
            others = found[1 : options.num_return_sequences]
            yield replace(found[0], alternatives=tuple(map(_alternative, others)))

    def _decoded(self, tokens: list[int], log_probs: list[float], limit: int) -> Decoded:
        ids, ended = self._until_end(tokens)
        forced = self.model.generation_config.forced_eos_token_id is not None
        return Decoded(
            text=self.text(ids),
            tokens=tuple(ids[:-1] if ended else ids),
            log_probs=tuple(log_probs[: len(ids)]),
            truncated=not ended or (forced and len(ids) >= limit),
        )

    def _aligned(
        self, encoded: Any, waveforms: Sequence[Waveform], prompt: Sequence[int], texts: list[Decoded]
    ) -> list[Decoded]:
        """Return the texts of windows with the times of their tokens."""
        lengths, tokens = [len(samples) for samples in waveforms], [one.tokens for one in texts]
        found = align_tokens(self, encoded, lengths, [prompt] * len(texts), tokens)
        return [replace(one, alignment=alignment) for one, alignment in zip(texts, found, strict=True)]

    def _no_speech_probs(self, encoded: Any, waveforms: Sequence[Waveform]) -> list[float]:
        """Return how likely it is that nobody speaks in each window; see `guards`."""
        vocabulary = self.tokenizer.get_vocab() if isinstance(self.tokenizer, WhisperTokenizer) else {}
        token = next((vocabulary[name] for name in _NO_SPEECH if name in vocabulary), None)
        if token is None:
            return [1 - speech_probability(samples) for samples in waveforms]
        log_probs = self.runner.next_log_probs(encoded, np.asarray([self.own_prompt()[:1]] * len(waveforms)))
        return [float(p) for p in np.exp(log_probs[:, token])]

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
        first = self.model.config.special_id("forced_bos_token_id")
        return [
            start[0] if isinstance(start, list) else start,
            *([] if first is None else [first]),
            *(token for _, token in forced if token is not None),
        ]

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


def _processor_of(folder: Path, name: str) -> Any:
    """Return the processor of a checkpoint; where there is none, what is wrong with the model itself says more."""
    try:
        return dragoman.AutoProcessor.from_pretrained(folder)
    except DragomanError:
        whole_config(open_folder(folder).config, name, {})
        raise


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
