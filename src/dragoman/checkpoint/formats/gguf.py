"""Text models in a GGUF file: the same model under Hugging Face's names.

`GgufFile.config` says what config.json would say, and `GgufTensors` shows the tensors as `model.safetensors` would hold
them, in float32 whatever they were quantised to. The container and its number formats are read by ggml's own package.
"""

from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from dragoman._lazy import require
from dragoman.checkpoint.keymap import KeyMap, Rename
from dragoman.errors import CheckpointError, UntrustedFileError

__all__ = ["GgufFile", "GgufTensors", "open_gguf"]

# fmt: off
_KEYS = KeyMap((
    # theirs                                ours: Hugging Face's
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
# By our field, the metadata behind the name of the architecture, and what may be absent.
_SIZES = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
_ARCHITECTURES = ("llama", "qwen2", "qwen3")


class GgufFile:
    """The metadata of a GGUF file, and its tensors as they lie there.

    Args:
        path: The file.

    Raises:
        MissingDependencyError: If the package `gguf` is not installed.
        UntrustedFileError: If it is no GGUF file, or it is corrupt.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._gguf = require("gguf", "Reading a .gguf file")
        try:
            reader = self._gguf.GGUFReader(path)
            self.metadata: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
            self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        except MemoryError:
            raise
        except Exception as error:  # the package checks little, so a corrupt file may raise anything
            raise UntrustedFileError(
                f"{path} is no GGUF file, or it is corrupt ({error}). Download it again."
            ) from error

    @property
    def architecture(self) -> str:
        """What kind of model it is, in ggml's words.

        Raises:
            CheckpointError: If dragoman does not read that kind from GGUF.
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
        """What config.json would say.

        Raises:
            CheckpointError: If a size is missing.
        """
        kind, meta = self.architecture, self.metadata
        missing = [f"{kind}.{name}" for name in _SIZES.values() if f"{kind}.{name}" not in meta]
        if missing or "token_embd.weight" not in self.tensors:
            raise CheckpointError(
                f"{self.path} lacks {', '.join(missing) or 'token_embd.weight'}. Download or convert it again."
            )
        config = {field: meta[f"{kind}.{name}"] for field, name in _SIZES.items()}
        width = meta.get(f"{kind}.attention.key_length")
        ids = {f"{word}_token_id": meta.get(f"tokenizer.ggml.{name}_token_id") for word, name in _IDS.items()}
        return {
            **config,
            **{name: value for name, value in ids.items() if value is not None},
            **({} if width is None else {"head_dim": width}),
            "model_type": kind,
            "vocab_size": int(self.tensors["token_embd.weight"].shape[1]),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": float(meta.get(f"{kind}.rope.freq_base", 10_000.0)),
            },
            "tie_word_embeddings": "output.weight" not in self.tensors,
        }

    def read(self, name: str) -> np.ndarray[Any, Any]:
        """Return a copy of a tensor in float32, `[out, in]`."""
        tensor = self.tensors[name]
        return np.array(self._gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)


_IDS = {"bos": "bos", "eos": "eos", "pad": "padding"}


def open_gguf(path: Path) -> GgufFile:
    """Open a GGUF file. It takes seconds, so the last one stays open: model and tokenizer are asked for in turn.

    Args:
        path: The file; one that has changed since is opened anew.

    Raises:
        MissingDependencyError: If the package `gguf` is not installed.
        UntrustedFileError: If it is no GGUF file, or it is corrupt.
    """
    try:
        state = path.stat()
    except OSError:
        return GgufFile(path)  # which says what is wrong
    return _opened(path, state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _opened(path: Path, *state: int) -> GgufFile:
    return GgufFile(path)


class GgufTensors:
    """The tensors of a GGUF file as a `TensorFile` with Hugging Face's names.

    Args:
        file: The open file.

    Raises:
        CheckpointError: If it holds a model that dragoman does not read from GGUF, or tensors without a place.
    """

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        self._config = file.config
        strange = [name for name in file.tensors if _KEYS.rule_for(name) is None]
        if strange:
            raise CheckpointError(
                f"{file.path} holds tensors without a place in a {file.architecture} model: {', '.join(strange[:5])}. "
                "Load the checkpoint that it was converted from."
            )
        self._names = {_KEYS.ours(name)[0]: name for name in file.tensors}

    def keys(self) -> list[str]:
        """Return the names of all tensors, sorted."""
        return sorted(self._names)

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it."""
        return tuple(int(size) for size in reversed(self._file.tensors[self._names[key]].shape))

    def dtype(self, key: str) -> str:
        """Return the type of the numbers that `read` returns."""
        return "float32"

    def read(self, key: str) -> np.ndarray[Any, Any]:
        """Return a copy of a tensor."""
        array = self._file.read(self._names[key])
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(key.split(".")[-2])
        if heads is None or self._config["model_type"] != "llama":
            return array
        # ggml turns neighbouring numbers of a head of Llama, Hugging Face numbers half a head apart
        rows = self._config[heads]
        return array.reshape(rows, -1, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Forget the tensors; what was read stays valid."""
        self._names = {}
