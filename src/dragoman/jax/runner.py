"""A JAX model as transcription uses it: NumPy arrays in, NumPy arrays out. Its twin is `dragoman.torch.runner`.

Shapes are rounded up as in `generate`, so that few programs serve windows of all lengths. Axes: rows (windows),
frames, tokens, vocab.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from dragoman.batch import rows_at_once
from dragoman.errors import ConfigError
from dragoman.jax.buckets import fill_rows, pad_to_bucket, rounded
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.jax.net.joint import Joint
from dragoman.jax.net.speech_encoder import EncoderOutput

__all__ = ["Runner"]

_LEAST_TOKENS = 16


class Runner:
    """A model, ready to hear and write; a `dragoman.transcriber.engine.Runner`.

    Args:
        model: The model.
    """

    def __init__(self, model: FlaxSpeechEncoderDecoderModel) -> None:
        self.model = model

    @classmethod
    def load(cls, folder: Path, device: Any) -> "Runner":
        """Load a checkpoint onto what `device` returned.

        Raises:
            CheckpointError: If the files of the checkpoint are impossible.
            MissingDependencyError: If the weights are `.bin` files, which only PyTorch reads.
        """
        return cls(FlaxSpeechEncoderDecoderModel.from_pretrained(folder, device=device))

    @staticmethod
    def device(name: str) -> Any:
        """Return the device that a name stands for; `"auto"` is JAX's own choice.

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
    def set_threads(count: int) -> None:
        """Compute on so many processors, in the whole program.

        Raises:
            ConfigError: If JAX has started already, with another number.
        """
        if os.environ.get("NPROC") == str(count):
            return
        own = jax.config.values["jax_num_cpu_devices"]  # which nobody may change once JAX has its threads
        try:
            for value in (1 if own != 1 else 2, own):
                jax.config.update("jax_num_cpu_devices", value)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise ConfigError("`threads` must be set before JAX computes anything in this program.") from error
        os.environ["NPROC"] = str(count)

    def encode(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> EncoderOutput:
        """Run the encoder over what a feature extractor returned."""
        model = self.model
        audio = inputs[model.encoder.main_input_name]
        heard = model.encoder.prepare(audio, inputs.get("attention_mask"))
        heard = pad_to_bucket(model, *heard, rounded(audio.shape[0], 2))
        return self.take(model.program(Joint.encode)(None, *heard), range(audio.shape[0]))

    def take(self, encoded: EncoderOutput, rows: Sequence[int]) -> EncoderOutput:
        """Return the encoder's output for some of its rows."""
        kept = EncoderOutput(last_hidden_state=encoded.last_hidden_state, lengths=encoded.lengths)
        found: EncoderOutput = jax.tree.map(lambda x: np.asarray(x)[list(rows)], kept)
        return found

    def generate(
        self, encoded: EncoderOutput, prompt: Int[np.ndarray[Any, Any], "rows tokens"], **options: Any
    ) -> tuple[Int[np.ndarray[Any, Any], "texts generated"], Float[np.ndarray[Any, Any], "texts generated"]]:
        """Write texts; the arguments are those of `generate`. Returns what was written and how likely it was.

        A second look tells how likely: the compiled search keeps no such record, and a search that does is slower.
        """
        texts = np.asarray(self.model.generate(encoder_outputs=encoded, decoder_input_ids=prompt, **options))
        heard = self.take(encoded, np.repeat(np.arange(len(prompt)), len(texts) // len(prompt)).tolist())
        # The padding of a model without end token is -1.
        log_probs = self.log_probs(heard, np.maximum(texts, 0))
        return texts[:, prompt.shape[1] :], log_probs[:, prompt.shape[1] - 1 :]

    def next_log_probs(
        self, encoded: EncoderOutput, prompt: Int[np.ndarray[Any, Any], "rows tokens"]
    ) -> Float[np.ndarray[Any, Any], "rows vocab"]:
        """Return how likely each token is after a prompt, as natural logarithms."""
        return self._scored(_next_log_probs, encoded, prompt)

    def log_probs(
        self, encoded: EncoderOutput, tokens: Int[np.ndarray[Any, Any], "rows length"]
    ) -> Float[np.ndarray[Any, Any], "rows length-1"]:
        """Return how likely each token but the first was after those before it, as natural logarithms."""
        size = self._rounded_length(tokens.shape[1], 1)
        found = self._in_parts(_log_probs, encoded, tokens, size, self.model.decoder.spec.vocab_size)
        return np.stack(list(found))[:, : tokens.shape[1] - 1]

    def cross_attention(
        self,
        encoded: EncoderOutput,
        tokens: Int[np.ndarray[Any, Any], "rows length"],
        heads: Sequence[tuple[int, int]],
    ) -> Iterator[Float[np.ndarray[Any, Any], "heads length frames"]]:
        """Yield for each row where some heads, pairs of layer and head, look when each token has been read."""
        spec, frames = self.model.decoder.spec.stack, encoded.last_hidden_state.shape[1]
        size = self._rounded_length(tokens.shape[1], 0)
        # All weights are computed, and the scores of the next tokens too.
        numbers = max(spec.num_layers * spec.block.num_heads * frames, self.model.decoder.spec.vocab_size)
        layers, places = np.array(heads, np.int32).T
        for looks in self._in_parts(_cross_attention, encoded, tokens, size, numbers, layers, places):
            yield looks[:, : tokens.shape[1]]

    def _rounded_length(self, length: int, beyond: int) -> int:
        """Return how many tokens to compute with; `beyond` of them are not read."""
        return min(rounded(length, 2, _LEAST_TOKENS), self.model.decoder.spec.num_positions + beyond)

    def _in_parts(
        self, score: Any, encoded: EncoderOutput, tokens: np.ndarray[Any, Any], size: int, numbers: int, *rest: Any
    ) -> Iterator[np.ndarray[Any, Any]]:
        """Yield something of each text, computed with `size` tokens, few rows at once if `numbers` a token are many."""
        # Padding stands behind the text, where the decoder does not look.
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
        return np.asarray(self.model.program(score)(None, encoded, tokens, *rest))[:count]

    @staticmethod
    def free_memory() -> None:
        """Give back what the last batch left behind, after memory ran out: JAX has done so."""


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
