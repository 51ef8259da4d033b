"""The tensors of a Whisper in CTranslate2's container, as its `model.safetensors` would hold them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from dragoman.checkpoint.formats.ctranslate2 import Ct2File
from dragoman.checkpoint.formats.ctranslate2_config import EMBEDDING, PROJECTION, is_tied, num_layers, whisper_config
from dragoman.errors import CheckpointError, UntrustedFileError, did_you_mean


@dataclass(frozen=True)
class _Source:
    """The place of a tensor: one of `parts` equal parts of a variable, along the first axis."""

    key: str
    part: int = 0
    parts: int = 1


class WhisperTensors:
    """The tensors of a Whisper container as a `TensorFile` with the names of `WhisperForConditionalGeneration`.

    CTranslate2 fuses q, k and v into one matrix and gives k a bias of zeros; here they are separate, and k has no bias.
    `proj_out.weight` exists only if it differs from the embedding.

    Args:
        container: The open container; closing these tensors closes it.

    Raises:
        CheckpointError: If the container is not a Whisper, or differs from the network in `transformers`.
    """

    def __init__(self, container: Ct2File) -> None:
        whisper_config(container)  # raises an error for other models
        self._container = container
        self._sources = dict(_sources(container))
        needed = {source.key for source in self._sources.values()}
        held = set(container.keys())
        if needed - held:
            raise CheckpointError(
                f"{container.path} lacks {_some(needed - held)}. Download or convert the model again."
            )
        # A variable without dimensions is a setting; `whisper_config` reads those that matter.
        unknown = {key for key in held - needed - {PROJECTION} if container.shape(key)}
        if unknown:
            raise CheckpointError(
                f"{container.path} holds tensors that do not belong to a Whisper: {_some(unknown)}. "
                "Load the checkpoint that it was converted from."
            )
        for key, source in list(self._sources.items()):
            self._check(key, source)
            if key.endswith("k_proj.bias"):
                del self._sources[key]
                if self._read(source).any():
                    raise CheckpointError(f"{key} in {container.path} is not zero, but Whisper's k has no bias.")

    def _check(self, key: str, source: _Source) -> None:
        shape, numbers = self._container.shape(source.key), self._container.dtype(source.key)
        if not numbers.startswith("float") or not shape or shape[0] % source.parts:
            raise UntrustedFileError(
                f"{source.key!r} of {self._container.path}, {numbers} of shape {shape}, cannot be {key!r}. "
                "Download or convert the model again."
            )

    def keys(self) -> list[str]:
        return sorted(self._sources)

    def shape(self, key: str) -> tuple[int, ...]:
        source = self._source(key)
        first, *others = self._container.shape(source.key)
        return (first // source.parts, *others)

    def dtype(self, key: str) -> str:
        return self._container.dtype(self._source(key).key)

    def read(self, key: str) -> np.ndarray[Any, Any]:
        return self._read(self._source(key))

    def _read(self, source: _Source) -> np.ndarray[Any, Any]:
        size = self._container.shape(source.key)[0] // source.parts
        return self._container.read(source.key, slice(source.part * size, (source.part + 1) * size))

    def _source(self, key: str) -> _Source:
        if key not in self._sources:
            raise CheckpointError(f"{self._container.path} holds no tensor {key!r}.{did_you_mean(key, self._sources)}")
        return self._sources[key]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._container.__exit__(*error)


def _sources(container: Ct2File) -> Iterator[tuple[str, _Source]]:
    """Yield the name in `transformers` and the place of every tensor, the biases of k included."""
    for side in ("encoder", "decoder"):
        for layer in range(num_layers(container, side)):
            yield from _layer(f"{side}/layer_{layer}", f"model.{side}.layers.{layer}", cross=side == "decoder")
        yield from _norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        yield f"model.{side}.embed_positions.weight", _Source(f"{side}/position_encodings/encodings")
    yield from _linear("encoder/conv1", ["model.encoder.conv1"])
    yield from _linear("encoder/conv2", ["model.encoder.conv2"])
    yield "model.decoder.embed_tokens.weight", _Source(EMBEDDING)
    if not is_tied(container):
        yield "proj_out.weight", _Source(PROJECTION)


def _layer(theirs: str, ours: str, *, cross: bool) -> Iterator[tuple[str, _Source]]:
    yield from _linear(f"{theirs}/self_attention/linear_0", [f"{ours}.self_attn.{x}_proj" for x in "qkv"])
    yield from _linear(f"{theirs}/self_attention/linear_1", [f"{ours}.self_attn.out_proj"])
    yield from _norm(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
    if cross:
        yield from _linear(f"{theirs}/attention/linear_0", [f"{ours}.encoder_attn.q_proj"])
        yield from _linear(f"{theirs}/attention/linear_1", [f"{ours}.encoder_attn.{x}_proj" for x in "kv"])
        yield from _linear(f"{theirs}/attention/linear_2", [f"{ours}.encoder_attn.out_proj"])
        yield from _norm(f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm")
    yield from _linear(f"{theirs}/ffn/linear_0", [f"{ours}.fc1"])
    yield from _linear(f"{theirs}/ffn/linear_1", [f"{ours}.fc2"])
    yield from _norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")


def _linear(theirs: str, ours: list[str]) -> Iterator[tuple[str, _Source]]:
    for part, name in enumerate(ours):
        yield f"{name}.weight", _Source(f"{theirs}/weight", part, len(ours))
        yield f"{name}.bias", _Source(f"{theirs}/bias", part, len(ours))


def _norm(theirs: str, ours: str) -> Iterator[tuple[str, _Source]]:
    yield f"{ours}.weight", _Source(f"{theirs}/gamma")
    yield f"{ours}.bias", _Source(f"{theirs}/beta")


def _some(names: Iterable[str]) -> str:
    first, *others = sorted(names)
    return f"{first!r} and {len(others)} more tensors" if others else repr(first)
