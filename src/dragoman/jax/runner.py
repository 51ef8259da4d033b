"""A JAX model as transcription uses it: NumPy arrays in, NumPy arrays out. Its twin is `dragoman.torch.runner`.

Shapes are rounded up as in `generate`, so that few programs serve windows of all lengths. Axes: rows (windows),
frames, tokens, vocab.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from dragoman.api.outputs import EncoderOutput
from dragoman.batch import rows_at_once
from dragoman.errors import ConfigError
from dragoman.jax.buckets import fill_rows, pad_to_bucket, rounded
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.jax.net.joint import Joint
from dragoman.jax.steps import LanguageModel
from dragoman.model.runner import BackendRunner, FusionModel, start_of
from dragoman.spec.compute_type import ComputeType, NumberType, number_type

_MIN_TOKENS = 16


class Runner(BackendRunner):
    """Runs a JAX model; `dragoman.model.runner` describes the methods."""

    _model: FlaxSpeechEncoderDecoderModel

    @classmethod
    def load(
        cls, folder: Path, device: Any, *, copy_weights: bool = False, number_type: NumberType = "float32"
    ) -> Self:
        options = {"device": device, "copy_weights": copy_weights, "torch_dtype": number_type}
        return cls(FlaxSpeechEncoderDecoderModel.from_pretrained(folder, **options))

    @staticmethod
    def device(name: str) -> Any:
        """Return the device of this name; `"auto"` is JAX's own choice.

        Raises:
            ConfigError: If there is no such device.
        """
        platform, _, number = name.partition(":")
        try:
            return jax.devices()[0] if name == "auto" else jax.devices(platform)[int(number or 0)]
        except (RuntimeError, ValueError, IndexError) as error:
            seen = ", ".join(f"{device.platform}:{device.id}" for device in jax.devices())
            raise ConfigError(f"`device` is {name!r}, but JAX sees {seen} here. Use auto, or one of these.") from error

    @staticmethod
    def number_type(compute_type: ComputeType, device: Any) -> NumberType:
        on_cpu = device.platform == "cpu"
        return number_type(compute_type, on_cpu=on_cpu, fast_bfloat16=not on_cpu, has_int8=False)

    @staticmethod
    def abilities() -> str:
        """Return JAX's version and its devices."""
        return f"JAX {jax.__version__}, on {', '.join(map(str, jax.devices()))}"

    @staticmethod
    def set_threads(count: int) -> None:
        """Set the number of CPU threads, for the whole program.

        Raises:
            ConfigError: If JAX has already started with another number.
        """
        if os.environ.get("NPROC") == str(count):
            return
        own = jax.config.values["jax_num_cpu_devices"]  # which cannot be changed once JAX has its threads
        try:
            for value in (1 if own != 1 else 2, own):
                jax.config.update("jax_num_cpu_devices", value)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise ConfigError("`threads` must be set before JAX computes anything in this program.") from error
        os.environ["NPROC"] = str(count)

    def encode(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> EncoderOutput:
        model = self._model
        audio = inputs[model.encoder.main_input_name]
        prepared = model.encoder.prepare(audio, inputs.get("attention_mask"))
        padded = pad_to_bucket(model.encoder, *prepared, rounded(audio.shape[0], 2))
        encoded = jax.tree.map(np.asarray, model.program(Joint.encode)(None, *padded))
        kept: EncoderOutput = self.take(encoded, range(audio.shape[0]))
        return kept

    def generate(
        self, encoded: EncoderOutput, prompt: Int[np.ndarray[Any, Any], "rows tokens"], **options: Any
    ) -> tuple[Int[np.ndarray[Any, Any], "sequences generated"], Float[np.ndarray[Any, Any], "sequences generated"]]:
        """Generate transcripts; the arguments are those of `generate`. Returns tokens and their log-probabilities.

        The log-probabilities come from a second pass: the compiled search does not record them, and one that does is
        slower.
        """
        options["decoder_start_token_id"] = start_of(prompt)
        tokens = np.asarray(self._model.generate(encoder_outputs=encoded, decoder_input_ids=prompt, **options))
        memory = self.take(encoded, np.repeat(np.arange(len(prompt)), len(tokens) // len(prompt)).tolist())
        # The padding of a model without an end token is -1.
        log_probs = self.log_probs(memory, np.maximum(tokens, 0))
        return tokens[:, prompt.shape[1] :], log_probs[:, prompt.shape[1] - 1 :]

    def next_log_probs(
        self, encoded: EncoderOutput, prompt: Int[np.ndarray[Any, Any], "rows tokens"]
    ) -> Float[np.ndarray[Any, Any], "rows vocab"]:
        return self._scored(_next_log_probs, encoded, prompt)

    def log_probs(
        self, encoded: EncoderOutput, tokens: Int[np.ndarray[Any, Any], "rows length"]
    ) -> Float[np.ndarray[Any, Any], "rows length-1"]:
        """Return the natural-log probability of each token but the first, given those before it."""
        size = self._rounded_length(tokens.shape[1], 1)
        found = self._in_parts(_log_probs, encoded, tokens, size, self._model.decoder.spec.vocab_size)
        return np.stack(list(found))[:, : tokens.shape[1] - 1]

    def cross_attention(
        self, encoded: EncoderOutput, tokens: Int[np.ndarray[Any, Any], "rows length"], heads: Sequence[tuple[int, int]]
    ) -> Iterator[Float[np.ndarray[Any, Any], "heads length frames"]]:
        spec, frames = self._model.decoder.spec, encoded.last_hidden_state.shape[1]
        size = self._rounded_length(tokens.shape[1], 0)
        # Memory holds the weights of all heads, and the logits.
        numbers = max(spec.stack.num_layers * spec.stack.block.self_attn.num_heads * frames, spec.vocab_size)
        layers, places = np.array(heads, np.int32).T
        for weights in self._in_parts(_cross_attention, encoded, tokens, size, numbers, layers, places):
            yield weights[:, : tokens.shape[1]]

    def _rounded_length(self, length: int, beyond: int) -> int:
        """Return the number of tokens to compute with, of which the decoder does not read the last `beyond`."""
        return min(rounded(length, 2, _MIN_TOKENS), self._model.decoder.spec.num_positions + beyond)

    def _in_parts(
        self, score: Any, encoded: EncoderOutput, tokens: np.ndarray[Any, Any], size: int, numbers: int, *rest: Any
    ) -> Iterator[np.ndarray[Any, Any]]:
        """Yield `score` of each row, padded to `size` tokens; fewer rows at once if a token takes many `numbers`."""
        # Padding comes after the transcript, where the causal mask hides it.
        padded = np.pad(tokens, ((0, 0), (0, size - tokens.shape[1])))
        rows = rows_at_once(size * numbers)
        for first in range(0, len(padded), rows):
            some = padded[first : first + rows]
            yield from self._scored(score, self.take(encoded, range(first, first + len(some))), some, *rest)

    def _scored(
        self, score: Any, encoded: EncoderOutput, tokens: np.ndarray[Any, Any], *rest: Any
    ) -> np.ndarray[Any, Any]:
        count = len(tokens)
        rows = rounded(count, 2)
        encoded, tokens = jax.tree.map(lambda x: fill_rows(x, rows), (encoded, tokens.astype(np.int32)))
        return np.asarray(self._model.program(score)(None, encoded, tokens, *rest))[:count]

    def language_model(self, name: str) -> FusionModel:
        steps = LanguageModel.load(name)
        return FusionModel(steps, steps.decoder.spec.vocab_size, steps.decoder.config.bos_token_id)

    def free_memory(self) -> None:
        """Release what the last batch left behind, after memory ran out: JAX has done so."""


def _next_log_probs(joint: Joint, encoded: EncoderOutput, tokens: Int[Array, "rows tokens"]) -> Array:
    logits = joint(None, None, encoded, tokens).logits
    assert logits is not None
    return jax.nn.log_softmax(logits[:, -1].astype(jnp.float32))


def _log_probs(joint: Joint, encoded: EncoderOutput, tokens: Int[Array, "rows length"]) -> Array:
    logits = joint(None, None, encoded, tokens[:, :-1]).logits
    assert logits is not None
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    return jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1)[..., 0]


def _cross_attention(
    joint: Joint,
    encoded: EncoderOutput,
    tokens: Int[Array, "rows length"],
    layers: Int[Array, " heads"],
    heads: Int[Array, " heads"],
) -> Array:
    weights = joint(None, None, encoded, tokens, weights=True).cross_attentions
    assert weights is not None
    arrays = [layer for layer in weights if layer is not None]
    # [layers, rows, heads of a layer, length, frames] -> [rows, heads, length, frames]
    return jnp.moveaxis(jnp.stack(arrays)[layers, :, heads], 0, 1).astype(jnp.float32)
