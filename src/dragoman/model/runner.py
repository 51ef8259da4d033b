"""The interface between transcription and whatever runs a model: NumPy arrays in, NumPy arrays out.

Lives here: `Runner`, which each backend implements and anybody may, and the facts and the language model that one
offers. Not here: loading from a folder or the hub, windows and prompts (`dragoman.transcriber`).

Axes: rows (windows), tokens, frames, vocab.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np

from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.api.outputs import EncoderOutput
from dragoman.generation.alignment import pick_heads
from dragoman.generation.decoder import StepDecoder
from dragoman.generation.options import GenerationConfig
from dragoman.spec.compute_type import ComputeType, NumberType
from dragoman.spec.speech import SpeechEncoderSpec
from dragoman.spec.text import TextDecoderSpec

Array: TypeAlias = "np.ndarray[Any, Any]"


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The facts about a model that transcription depends on.

    Attributes:
        config: Configuration of the whole model, its special ids included.
        generation: The checkpoint's own generation options (`generation_config.json`).
        speech: The encoder.
        text: The decoder.
    """

    config: SpeechEncoderDecoderConfig
    generation: GenerationConfig
    speech: SpeechEncoderSpec
    text: TextDecoderSpec

    @classmethod
    def of(cls, model: Any) -> Self:
        """Return the facts about a `SpeechEncoderDecoderModel` or its JAX twin."""
        return cls(
            config=model.config, generation=model.generation_config, speech=model.encoder.spec, text=model.decoder.spec
        )

    def special_id(self, name: str) -> Any:
        """Return a special id of the generation options; of the configuration, if those know no model."""
        knows = self.generation.special_ids is self.config.special_ids
        return getattr(self.generation, name) if knows else self.config.special_id(name)

    @property
    def start_id(self) -> int | None:
        """The token that a transcript starts with."""
        start: int | list[int] | None = self.special_id("decoder_start_token_id")
        start = self.special_id("bos_token_id") if start is None else start
        return start[0] if isinstance(start, list) else start

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that end a transcript."""
        end = self.special_id("eos_token_id")
        return () if end is None else tuple(end) if isinstance(end, list) else (end,)

    @property
    def has_cross_attention(self) -> bool:
        """Whether the decoder attends to the encoder's states, rather than reading them as a prefix."""
        return self.text.stack.block.cross_attn is not None

    def alignment_heads(self) -> tuple[tuple[int, int], ...]:
        """Return the cross-attention heads to align with, as (layer, head) pairs.

        Raises:
            CheckpointError: If the generation options name heads that the decoder does not have.
        """
        stack = self.text.stack
        return pick_heads(self.generation.alignment_heads, stack.num_layers, stack.block.self_attn.num_heads)


class FusionModel(NamedTuple):
    """A language model for shallow fusion.

    Attributes:
        decoder: Scores the next token.
        vocab_size: Number of tokens.
        bos_token_id: The token that its texts start with, if it has one.
    """

    decoder: StepDecoder[Any]
    vocab_size: int
    bos_token_id: int | None


def start_of(prompt: Array) -> int | list[int]:
    """Return the `decoder_start_token_id` with which `generate` takes prompts int `[rows, tokens]` as they are.

    It puts the start id before a prompt that does not begin with it, but a Whisper reads the text before a window
    before its start id.
    """
    starts: list[int] = prompt[:, 0].tolist()
    return starts[0] if len(set(starts)) == 1 else starts


@runtime_checkable
class Runner(Protocol):
    """A loaded model. What `encode` returns is opaque: it is only passed back to the same runner."""

    @property
    def facts(self) -> ModelFacts:
        """The facts about the model."""
        ...

    @property
    def loaded(self) -> Any:
        """The backend's own model object."""
        ...

    def encode(self, inputs: Mapping[str, Array]) -> Any:
        """Run the encoder on the output of a feature extractor."""
        ...

    def take(self, encoded: Any, rows: Sequence[int]) -> Any:
        """Return some rows of an encoder output."""
        ...

    def max_text_length(self, encoded: Any) -> int:
        """Return how many tokens the decoder can hold for this encoder output, the prompt included."""
        ...

    def generate(self, encoded: Any, prompt: Array, **options: Any) -> tuple[Array, Array]:
        """Generate transcripts from a prompt int `[rows, tokens]`.

        Args:
            encoded: The encoder output.
            prompt: The tokens that each transcript starts with.
            **options: `scorers` and `seed` as of `dragoman.generation.loop.generate`, and fields of `GenerationConfig`.

        Returns:
            The generated tokens `[rows * num_return_sequences, generated]`, and the natural-log probability of each,
            which is undefined after the end of a transcript.
        """
        ...

    def next_log_probs(self, encoded: Any, prompt: Array) -> Array:
        """Return the natural-log probability of each token after a prompt int `[rows, tokens]`, as `[rows, vocab]`."""
        ...

    def cross_attention(self, encoded: Any, tokens: Array, heads: Sequence[tuple[int, int]]) -> Iterator[Array]:
        """Yield for each row the cross-attention weights `[heads, length, frames]` of some (layer, head) pairs.

        Args:
            encoded: The encoder output.
            tokens: What the decoder reads, int `[rows, length]`.
            heads: Which heads.
        """
        ...

    def language_model(self, name: str) -> FusionModel:
        """Load a causal language model from a folder or the hub.

        Raises:
            ModelNotFoundError: If it is not found.
            ConfigError: If it is not a text model.
            CheckpointError: If its tensors do not fit.
        """
        ...

    def free_memory(self) -> None:
        """Release what the last batch left behind, after memory ran out."""
        ...


class BackendRunner(Runner, Protocol):
    """A runner of one of our own models, which it also loads."""

    _model: Any

    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def facts(self) -> ModelFacts:
        return ModelFacts.of(self._model)

    @property
    def loaded(self) -> Any:
        return self._model

    def take(self, encoded: Any, rows: Sequence[int]) -> Any:
        kept, lengths = np.asarray(rows), encoded.lengths
        states = encoded.last_hidden_state[kept]
        return EncoderOutput(last_hidden_state=states, lengths=None if lengths is None else lengths[kept])

    def max_text_length(self, encoded: Any) -> int:
        most: int = self._model.max_text_length(encoded.last_hidden_state.shape[1])
        return most

    def generate(self, encoded: Any, prompt: Any, **options: Any) -> tuple[Any, Any]:
        found = self._model.generate(
            encoder_outputs=encoded,
            decoder_input_ids=prompt,
            decoder_start_token_id=start_of(prompt),
            return_dict_in_generate=True,
            token_log_probs=True,
            **options,
        )
        return found.sequences[:, prompt.shape[1] :], found.token_log_probs

    @classmethod
    def load(
        cls, folder: Path, device: Any, *, copy_weights: bool = False, number_type: NumberType = "float32"
    ) -> Self:
        """Load a checkpoint onto what `device` returned, to compute in what `number_type` returned.

        `copy_weights` is as of `LoadOptions`.

        Raises:
            CheckpointError: If the files of the checkpoint are invalid.
            MissingDependencyError: If the weights are `.bin` files, which only PyTorch reads.
        """
        ...

    @staticmethod
    def device(name: str) -> Any:
        """Return the device of this name.

        Raises:
            ConfigError: If there is none.
        """
        ...

    @staticmethod
    def number_type(compute_type: ComputeType, device: Any) -> NumberType:
        """Return the number type that a compute type stands for on what `device` returned.

        Raises:
            ConfigError: If there is no such type, or the device does not compute in it.
        """
        ...

    @staticmethod
    def abilities() -> str:
        """Return the framework's version and what it computes on here, in one line."""
        ...

    @staticmethod
    def set_threads(count: int) -> None:
        """Set the number of CPU threads, for the whole program."""
        ...
