"""Text models in a GGUF file, under the names of `transformers`.

`GgufFile.config` is the equivalent of config.json; tensors are float32 for every quantisation. The container and its
number formats are read by ggml's own package.
"""

from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np

from dragoman._lazy import require
from dragoman.checkpoint.formats.gguf_counts import check_counts
from dragoman.checkpoint.keymap import KeyMap, Rename
from dragoman.errors import CheckpointError, UntrustedFileError

# fmt: off
_KEYS = KeyMap((
    # GGUF                                  transformers
    Rename("token_embd.weight",             "model.embed_tokens.weight"),
    Rename("output_norm.weight",            "model.norm.weight"),
    Rename("output.weight",                 "lm_head.weight"),
    Rename("blk.{i}.attn_norm.weight",      "model.layers.{i}.input_layernorm.weight"),
    Rename("blk.{i}.attn_q.*",              "model.layers.{i}.self_attn.q_proj.*"),
    Rename("blk.{i}.attn_k.*",              "model.layers.{i}.self_attn.k_proj.*"),
    Rename("blk.{i}.attn_v.*",              "model.layers.{i}.self_attn.v_proj.*"),
    Rename("blk.{i}.attn_output.*",         "model.layers.{i}.self_attn.o_proj.*"),
    Rename("blk.{i}.attn_q_norm.weight",    "model.layers.{i}.self_attn.q_norm.weight"),
    Rename("blk.{i}.attn_k_norm.weight",    "model.layers.{i}.self_attn.k_norm.weight"),
    Rename("blk.{i}.ffn_norm.weight",       "model.layers.{i}.post_attention_layernorm.weight"),
    Rename("blk.{i}.ffn_gate.*",            "model.layers.{i}.mlp.gate_proj.*"),
    Rename("blk.{i}.ffn_up.*",              "model.layers.{i}.mlp.up_proj.*"),
    Rename("blk.{i}.ffn_down.*",            "model.layers.{i}.mlp.down_proj.*"),
))
# fmt: on
# Config field -> metadata key after the name of the architecture.
_SIZES = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
_IDS = {"bos": "bos", "eos": "eos", "pad": "padding"}
_ARCHITECTURES = ("llama", "qwen2", "qwen3")


class GgufFile:
    """A GGUF file as a `TensorFile` with the names of `transformers`, and its metadata.

    Other models than the supported ones raise a `CheckpointError` when their configuration or a tensor is read.

    Args:
        path: The file.

    Raises:
        MissingDependencyError: If the package `gguf` is not installed.
        UntrustedFileError: If it is not a GGUF file, or is corrupt.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._gguf = require("gguf", "Reading a .gguf file")
        try:
            check_counts(path)
            reader = self._gguf.GGUFReader(path)
            self.metadata: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
            self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        except MemoryError:
            raise
        except Exception as error:  # the package checks little, so a corrupt file may raise anything
            raise UntrustedFileError(
                f"{path} is not a GGUF file, or is corrupt ({error}). Download it again."
            ) from error

    @property
    def architecture(self) -> str:
        """The kind of model, by its name in ggml.

        Raises:
            CheckpointError: If this kind is not supported.
        """
        found = self.metadata.get("general.architecture")
        if found not in _ARCHITECTURES or "rope_freqs.weight" in self.tensors:
            scaled = " with scaled rotary positions" if "rope_freqs.weight" in self.tensors else ""
            raise CheckpointError(
                f"{self.path} holds a {found!r} model{scaled}; dragoman reads {', '.join(_ARCHITECTURES)} from GGUF. "
                "Load the checkpoint that it was converted from."
            )
        return str(found)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The equivalent of config.json.

        Raises:
            CheckpointError: If a size is missing.
        """
        kind, meta = self.architecture, self.metadata
        missing = [f"{kind}.{name}" for name in _SIZES.values() if f"{kind}.{name}" not in meta]
        if missing or "token_embd.weight" not in self.tensors:
            raise CheckpointError(
                f"{self.path} lacks {', '.join(missing) or 'token_embd.weight'}. Download or convert it again."
            )
        shape, base = self.tensors["token_embd.weight"].shape, meta.get(f"{kind}.rope.freq_base", 10_000.0)
        if len(shape) != 2 or not isinstance(base, int | float):
            raise CheckpointError(
                f"In {self.path}, token_embd.weight must be a matrix and {kind}.rope.freq_base a number, but they have "
                f"the shape {list(map(int, shape))} and the value {base!r:.40}. Download or convert it again."
            )
        config = {field: meta[f"{kind}.{name}"] for field, name in _SIZES.items()}
        width = meta.get(f"{kind}.attention.key_length")
        ids = {f"{word}_token_id": meta.get(f"tokenizer.ggml.{name}_token_id") for word, name in _IDS.items()}
        return {
            **config,
            **{name: value for name, value in ids.items() if value is not None},
            **({} if width is None else {"head_dim": width}),
            "model_type": kind,
            "vocab_size": int(shape[1]),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": float(base),
            },
            "tie_word_embeddings": "output.weight" not in self.tensors,
        }

    @cached_property
    def _names(self) -> Mapping[str, str]:
        """The name of each tensor in the file, by its name in `transformers`."""
        kind = self.architecture
        unknown = [name for name in self.tensors if _KEYS.rule_for(name) is None]
        if unknown:
            raise CheckpointError(
                f"{self.path} holds tensors unknown in a {kind} model: {', '.join(unknown[:5])}. "
                "Load the checkpoint that it was converted from."
            )
        return {_KEYS.ours(name)[0]: name for name in self.tensors}

    def keys(self) -> list[str]:
        return sorted(self._names)

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(int(size) for size in reversed(self.tensors[self._names[key]].shape))

    def dtype(self, key: str) -> str:
        return "float32"

    def read(self, key: str) -> np.ndarray[Any, Any]:
        tensor = self.tensors[self._names[key]]
        array = np.array(self._gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(key.split(".")[-2])
        if heads is None or self.architecture != "llama":
            return array
        # ggml rotates neighbouring channels of a head of Llama, `transformers` channels half a head apart
        return array.reshape(self.config[heads], -1, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Keep the file open for the next reader; see `open_gguf`."""


def open_gguf(path: Path) -> GgufFile:
    """Open a GGUF file. As this takes seconds, the last file stays open: model and tokenizer are read one by one.

    Args:
        path: The file; it is opened again if it has changed.

    Raises:
        MissingDependencyError: If the package `gguf` is not installed.
        UntrustedFileError: If it is not a GGUF file, or is corrupt.
    """
    try:
        state = path.stat()
    except OSError:
        return GgufFile(path)  # which raises the error
    return _opened(path, state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _opened(path: Path, *state: int) -> GgufFile:
    return GgufFile(path)
