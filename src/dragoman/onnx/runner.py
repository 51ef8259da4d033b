"""An exported model as transcription uses it.

Axes: rows (windows), frames, tokens, vocab.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import onnxruntime as ort
from jaxtyping import Float, Int

from dragoman.api.outputs import EncoderOutput
from dragoman.batch import rows_at_once
from dragoman.errors import ConfigError
from dragoman.generation.arrays import ops_of
from dragoman.model.runner import BackendRunner
from dragoman.onnx.model import OnnxSpeechEncoderDecoderModel
from dragoman.onnx.session import value_of
from dragoman.onnx.short_windows import SHORT, Silence, encode_short, encode_silence
from dragoman.onnx.steps import GraphDecoder
from dragoman.spec.compute_type import ComputeType, NumberType


class Runner(BackendRunner):
    """Runs an exported model; `dragoman.model.runner` describes the methods."""

    _model: OnnxSpeechEncoderDecoderModel
    _threads: ClassVar[int | None] = None

    @classmethod
    def load(
        cls, folder: Path, device: Any, *, copy_weights: bool = False, number_type: NumberType = "float32"
    ) -> Self:
        """Load a folder that `dragoman export` wrote; ONNX Runtime decides what it copies."""
        return cls(OnnxSpeechEncoderDecoderModel(folder, threads=cls._threads))

    @staticmethod
    def device(name: str) -> str:
        """Return the device of this name: the CPU.

        Raises:
            ConfigError: If it is another one.
        """
        if name not in ("auto", "cpu"):
            raise ConfigError(f"`device` is {name!r}, but exported graphs run on the CPU here. Use auto or cpu.")
        return "cpu"

    @staticmethod
    def number_type(compute_type: ComputeType, device: Any) -> NumberType:
        """Return the number type of the graphs.

        Raises:
            ConfigError: If it is to be another one.
        """
        if compute_type not in ("default", "auto", "float32"):
            raise ConfigError(
                f"`compute_type` is {compute_type!r}, but graphs have the type that they were exported in."
            )
        return "float32"

    @staticmethod
    def abilities() -> str:
        """Return the version of ONNX Runtime and what it computes on."""
        return f"ONNX Runtime {ort.__version__}, on the CPU"

    @staticmethod
    def set_threads(count: int) -> None:
        """Set the number of CPU threads, for models that are loaded later."""
        Runner._threads = count

    def encode(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> EncoderOutput:
        encoder = self._model.encoder
        return self._model.encode(*encoder.prepare(inputs[encoder.main_input_name], inputs.get("attention_mask")))

    def next_log_probs(
        self, encoded: EncoderOutput, prompt: Int[np.ndarray[Any, Any], "rows tokens"]
    ) -> Float[np.ndarray[Any, Any], "rows vocab"]:
        logits = GraphDecoder(self._model.graphs, self._model.memory_for(encoded)).start(prompt).logits
        log_probs: np.ndarray[Any, Any] = ops_of(logits).log_softmax(logits)
        return log_probs

    def cross_attention(
        self,
        encoded: EncoderOutput,
        tokens: Int[np.ndarray[Any, Any], "rows length"],
        heads: Sequence[tuple[int, int]],
    ) -> Iterator[Float[np.ndarray[Any, Any], "heads length frames"]]:
        stack, frames = self._model.decoder.spec.stack, encoded.last_hidden_state.shape[1]
        rows = rows_at_once(tokens.shape[1] * stack.num_layers * stack.block.self_attn.num_heads * frames)
        layers, places = (list(side) for side in zip(*heads, strict=True))
        for first in range(0, len(tokens), rows):
            some = tokens[first : first + rows]
            memory = self._model.memory_for(self.take(encoded, range(first, first + len(some))))
            read = {"tokens": value_of(some.astype(np.int64)), **memory}
            weights = self._model.graphs.run("alignment", read)["weights"].numpy()
            # [layers, rows, heads of a layer, length, frames] -> [rows, heads, length, frames]
            yield from np.moveaxis(weights[layers, :, places], 0, 1)

    def language_model(self, name: str) -> NoReturn:
        raise ConfigError(
            f"The language model {name} runs in PyTorch or JAX, not in ONNX Runtime. Leave it out, or choose the "
            "backend torch or jax."
        )

    @property
    def encodes_short_windows(self) -> bool:
        return self._model.graphs.has(SHORT)

    def encode_silence(self, features: np.ndarray[Any, Any]) -> Silence:
        return encode_silence(self._model.graphs, self._model.encoder.spec, features)

    def encode_short(self, features: np.ndarray[Any, Any], silence: Silence) -> EncoderOutput:
        states = encode_short(self._model.graphs, self._model.encoder.spec, features, silence)
        return EncoderOutput(last_hidden_state=states)

    def joined(self, encoded: Sequence[EncoderOutput]) -> EncoderOutput:
        return EncoderOutput(last_hidden_state=np.concatenate([one.last_hidden_state for one in encoded]))

    def free_memory(self) -> None:
        """Release what the last batch left behind, after memory ran out: ONNX Runtime has done so."""
