"""The one place where transcription touches a model: waveforms in, tokens and their probabilities out.

Lives here: loading, devices, batches, and what to do when memory runs out. Not here: audio files and windows.
"""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import dragoman
from dragoman._lazy import require
from dragoman.audio.waveform import Waveform
from dragoman.checkpoint.default_model import DEFAULT_MODEL_NAME, default_model_folder
from dragoman.checkpoint.source import commit_of, resolve
from dragoman.errors import CheckpointError, ConfigError, OutOfMemoryError
from dragoman.text.ctc import Wav2Vec2CTCTokenizer
from dragoman.transcriber.options import TranscribeOptions
from dragoman.transcriber.result import ModelInfo

__all__ = ["SAMPLING_RATE", "Decoded", "Engine", "blaming"]

SAMPLING_RATE = 16_000  # of every speech encoder here

# Encoders that do not say how much they take: the longest clips that they are usually fine-tuned on.
_USUAL_SECONDS = 20.0

# Scores that are held at once when probabilities are read off: 256 MiB as float32.
_LOGITS_AT_ONCE = 2**26

_log = logging.getLogger("dragoman")


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What the decoder wrote for one window.

    Attributes:
        text: The words.
        tokens: Their ids, without prompt and end.
        avg_logprob: Mean log-probability of what was generated, the end included.
        truncated: Whether the length limit cut the text off.
    """

    text: str
    tokens: tuple[int, ...]
    avg_logprob: float
    truncated: bool


class Engine:
    """A model and its processor, ready to decode batches of windows.

    Args:
        model: A `SpeechEncoderDecoderModel`.
        processor: Its feature extractor and tokenizer.
        info: The model's name and commit, for results.
    """

    def __init__(self, model: Any, processor: Any, info: ModelInfo) -> None:
        self.model = model.eval()
        self.processor = processor
        self.info = info
        self.tokenizer = processor.tokenizer
        self._torch = require("torch", "Transcription")

    @classmethod
    def load(cls, name: str | os.PathLike[str] | None, processor: Any, device: str, source: dict[str, Any]) -> "Engine":
        """Load a checkpoint and move it to a device.

        Args:
            name: A folder or a hub id; `None` for the default model.
            processor: Used instead of the checkpoint's own.
            device: `"auto"`, `"cpu"`, `"cuda"`, `"cuda:1"`, …
            source: Options of `dragoman.checkpoint.source.resolve`.

        Raises:
            ConfigError: If there is no such device.
            CheckpointError: If the files of the checkpoint are impossible.
            ModelNotFoundError: If it, or a file of it, is nowhere.
        """
        place = pick_device(device)
        folder = default_model_folder() if name is None else resolve(os.fspath(name), **source)
        info = ModelInfo(name=DEFAULT_MODEL_NAME if name is None else os.fspath(name), commit=commit_of(folder))
        _log.info("Loading %s on %s.", info.name, place)
        with blaming(info.name):
            if processor is None:  # first, since it is quick and what is missing is then said at once
                processor = dragoman.AutoProcessor.from_pretrained(folder)
            model = dragoman.SpeechEncoderDecoderModel.from_pretrained(folder, device=place)
        return cls(model, processor, info)

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
            return_tensors="pt",
            return_attention_mask=True,
            **({} if self.has_window_limit else {"padding": True}),
        )
        audio = inputs[self.model.encoder.main_input_name].to(self.model.device, self.model.dtype)
        mask = None if self.has_window_limit else inputs["attention_mask"].to(self.model.device)
        with self._torch.inference_mode():
            return self.model.encode(audio, mask)

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
            self._torch.cuda.empty_cache()
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
        # Never the file's own `max_length`: it was set for clips, and would cut off windows without a word.
        sequences = self.model.generate(
            encoder_outputs=encoded,
            decoder_input_ids=self._torch.tensor([prompt] * len(waveforms), device=self.model.device),
            max_new_tokens=limit,
            num_beams=options.beam_size,
            num_return_sequences=1,
            do_sample=False,
            **self.search_options(options),
        )
        texts = [self._until_end(ids) for ids in sequences[:, len(prompt) :].tolist()]
        forced = self.model.generation_config.forced_eos_token_id is not None
        for (ids, ended), avg_logprob in zip(
            texts, self._avg_logprobs(encoded, sequences, len(prompt), [len(ids) for ids, _ in texts]), strict=True
        ):
            yield Decoded(
                text=self._text(ids),
                tokens=tuple(ids[:-1] if ended else ids),
                avg_logprob=avg_logprob,
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
        with self._torch.inference_mode():
            logits = self.model(
                encoder_outputs=self.encode([waveform]),
                decoder_input_ids=self._torch.tensor([prompt], device=self.model.device),
            ).logits[0, -1]
        return candidates[int(logits[list(candidates)].argmax())]

    def _until_end(self, ids: list[int]) -> tuple[list[int], bool]:
        """Return the ids up to the first end token, which is kept, and whether there is one."""
        end = self.model.config.special_id("eos_token_id")
        ends = set(end if isinstance(end, list) else [end])
        for place, token in enumerate(ids):
            if token in ends:
                return ids[: place + 1], True
        return ids, False

    def _text(self, ids: Sequence[int]) -> str:
        # A CTC tokenizer merges equal neighbours, which frames repeat and a text decoder means.
        kept = {"group_tokens": False} if isinstance(self.tokenizer, Wav2Vec2CTCTokenizer) else {}
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, **kept)).strip()

    def _avg_logprobs(self, encoded: Any, sequences: Any, start: int, lengths: Sequence[int]) -> list[float]:
        """Return the mean log-probability of what was generated, read off in one pass over the finished texts.

        Args:
            encoded: The encoder's output.
            sequences: int `[rows, length]`, prompt included, padded after the end.
            start: Length of the prompt.
            lengths: How many generated tokens of each row count.
        """
        tokens = sequences.clamp(min=0)  # the padding of a model without end token is -1
        vocab_size = self.model.config.decoder.text_spec().vocab_size
        rows = max(1, _LOGITS_AT_ONCE // (tokens.shape[1] * vocab_size))
        means: list[float] = []
        for first in range(0, len(tokens), rows):
            part = slice(first, first + rows)
            with self._torch.inference_mode():
                logits = self.model(
                    encoder_outputs=_rows_of(encoded, part), decoder_input_ids=tokens[part, :-1]
                ).logits[:, start - 1 :]
                chosen = logits.gather(-1, tokens[part, start:, None])[..., 0] - logits.logsumexp(-1)
            means += [float(row[:n].mean()) for row, n in zip(chosen.float(), lengths[part], strict=True)]
        return means


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


def pick_device(name: str) -> str:
    """Return the device that a name stands for; `"auto"` is the first GPU, or the processor where there is none.

    Raises:
        ConfigError: If there is no such device.
    """
    torch = require("torch", "Transcription")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"`device` must be auto, cpu, cuda or cuda:N, but is {name!r}.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"`device` is {name!r}, but PyTorch sees {torch.cuda.device_count()} GPUs here. Use auto or cpu."
        )
    return name


def _rows_of(encoded: Any, rows: slice) -> Any:
    lengths = encoded.lengths
    states = encoded.last_hidden_state[rows]
    return replace(encoded, last_hidden_state=states, lengths=None if lengths is None else lengths[rows])


def _is_out_of_memory(error: BaseException) -> bool:
    # PyTorch has a class for the GPU only; for the processor it raises a plain RuntimeError.
    return isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "allocate memory" in str(error)
