"""`OnnxSpeechEncoderDecoderModel`: a model whose networks are graphs that ONNX Runtime runs.

Axes: batch, samples (or mels and spectrogram frames), frames, tokens.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Int

from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.api.outputs import EncoderOutput
from dragoman.checkpoint.ctc_head import read_ctc_head
from dragoman.checkpoint.source import resolve
from dragoman.errors import AudioError, CheckpointError, GenerationError
from dragoman.files import find_json, read_json
from dragoman.generation.inherited import read_options
from dragoman.generation.loop import generate
from dragoman.generation.request import Request
from dragoman.generation.result import GenerationResult
from dragoman.model.arguments import prepare_audio
from dragoman.model.configs import whole_config
from dragoman.model.generate import GenerateMethods
from dragoman.onnx.arrays import ARRAYS
from dragoman.onnx.session import Graphs, Value, value_of
from dragoman.onnx.steps import GraphDecoder
from dragoman.spec import Padding, SpeechEncoderSpec, TextDecoderSpec


class _Encoder:
    """What `generate` asks of an encoder besides its graph."""

    def __init__(self, spec: SpeechEncoderSpec) -> None:
        self.spec, self.main_input_name = spec, spec.input_name

    def prepare(self, inputs: Any, attention_mask: Any) -> tuple[Any, Any]:
        return prepare_audio(ARRAYS, self.spec, Padding.EXACT, inputs, attention_mask)


class _Decoder:
    """What `generate` asks of a decoder besides its graph."""

    def __init__(self, spec: TextDecoderSpec) -> None:
        self.spec = spec


class _Bridge:
    """How many of the decoder's positions the speech takes."""

    def __init__(self, config: SpeechEncoderDecoderConfig) -> None:
        self._spec = config.bridge_spec()

    def length(self, frames: int) -> int:
        return 0 if self._spec is None else self._spec.length(frames)


class OnnxSpeechEncoderDecoderModel(GenerateMethods):
    """An exported model: `generate` as of `SpeechEncoderDecoderModel`, over NumPy arrays and without PyTorch.

    Args:
        folder: A folder that `dragoman export` wrote.
        threads: Number of CPU threads; `None` leaves the choice to ONNX Runtime.

    Raises:
        ModelNotFoundError: If the folder or its graphs are missing.
        CheckpointError: If a graph cannot be read or does not fit the configuration.

    Example:
        >>> model = OnnxSpeechEncoderDecoderModel.from_pretrained("exported")
        >>> model.generate(input_values=audio, num_beams=5)
    """

    backend = "onnx"
    _arrays = ARRAYS

    def __init__(self, folder: Path, *, threads: int | None = None) -> None:
        self.graphs = Graphs(folder, threads)
        self.config = whole_config(read_json(folder / "config.json"), folder, {})
        self.config.name_or_path = str(folder)
        self.encoder = _Encoder(self.config.encoder.speech_spec())
        self.decoder = _Decoder(self.config.decoder.text_spec())
        self.bridge = _Bridge(self.config)
        path = folder / "generation_config.json"
        self.generation_config = read_options(self.config, find_json(path) if path.is_file() else None)
        facts, stack = self.graphs.facts, self.decoder.spec.stack
        expected = stack.num_layers, stack.block.self_attn.kv_heads, stack.block.self_attn.head_dim
        if (facts.num_layers, facts.kv_heads, facts.head_dim) != expected:
            raise CheckpointError(f"The graphs in {folder} are of another model than its config.json. Export it again.")
        self.ctc_scoring_head = read_ctc_head(folder, self.decoder.spec.vocab_size, self.encoder.spec.output_width)
        self.graphs.load(("encoder", "memory", "decoder"))

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, threads: int | None = None, **source: Any) -> Self:
        """Load an exported model from a folder or the hub; `source` is as of `dragoman.checkpoint.source.resolve`."""
        return cls(resolve(str(name_or_path), **source), threads=threads)

    def encode(
        self, inputs: Float[np.ndarray[Any, Any], "..."], lengths: Int[np.ndarray[Any, Any], " batch"] | None = None
    ) -> EncoderOutput:
        """Run the encoder on prepared audio.

        Args:
            inputs: Waveforms `[batch, samples]`, or spectrograms; padding on the right.
            lengths: Valid samples per row; `None` if all are.
        """
        spec, size = self.encoder.spec, inputs.shape[self.encoder.spec.frontend.time_axis]
        if spec.window is not None and spec.frontend.frame_lengths(size) > spec.window:
            raise AudioError(
                f"The graphs encode one window, of {spec.window} frames, but got {size} frames of spectrogram. Cut "
                "longer audio, as `dragoman transcribe` does, or use PyTorch or JAX."
            )
        read = {self.encoder.main_input_name: value_of(inputs.astype(np.float32))}
        if self.graphs.facts.masked:
            if lengths is None:
                lengths = np.full(inputs.shape[0], inputs.shape[self.encoder.spec.frontend.time_axis])
            read["lengths"] = value_of(lengths.astype(np.int64))
        out = {name: value.numpy() for name, value in self.graphs.run("encoder", read).items()}
        return EncoderOutput(last_hidden_state=out["states"], lengths=out.get("frame_lengths"))

    def memory_for(self, encoded: EncoderOutput) -> dict[str, Value]:
        """Return what the decoder reads of the speech."""
        states = encoded.last_hidden_state
        read = {"states": value_of(states.astype(np.float32))}
        if self.graphs.facts.masked:
            lengths = encoded.lengths
            lengths = np.full(states.shape[0], states.shape[1]) if lengths is None else lengths
            read["frame_lengths"] = value_of(lengths.astype(np.int64))
        return self.graphs.run("memory", read)

    def _search(
        self, request: Request, seed: int | Sequence[int] | None, **own: Any
    ) -> tuple[GenerationResult, EncoderOutput]:
        _refuse(request)
        inputs, lengths, encoded = request.speech
        if encoded is None:
            encoded = self.encode(inputs, lengths)
        decoder = GraphDecoder(self.graphs, self.memory_for(encoded))
        seed = random.getrandbits(31) if seed is None else seed
        return generate(
            decoder, request.prompt, request.settings, seed=seed, **request.loop_options(self, encoded)
        ), encoded


def _refuse(request: Request) -> None:
    """Refuse what the graphs do not give.

    Raises:
        GenerationError: If the request needs it.
    """
    settings, mask = request.settings, request.prompt_mask
    reasons = {
        "`output_attentions`": settings.output_attentions,
        "`output_hidden_states`": settings.output_hidden_states,
        "`penalty_alpha` (contrastive search)": settings.penalty_alpha,
        "`assistant_model`": request.draft is not None,
        "prompts of different lengths": mask is not None and not mask.all(),
    }
    found = [name for name, wanted in reasons.items() if wanted]
    if found:
        raise GenerationError(
            f"ONNX graphs return logits alone, which is not enough for {' and '.join(found)}. Leave that out, or use "
            "the PyTorch or the JAX model."
        )
