"""Whisper in CTranslate2's container: the same model under Hugging Face's names.

`whisper_config` and `whisper_generation_config` say what config.json and generation_config.json would say, and
`WhisperTensors` shows the tensors as `model.safetensors` would hold them: what comes after cannot tell the difference.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from dragoman.checkpoint.formats.ctranslate2 import Ct2File
from dragoman.errors import CheckpointError, UntrustedFileError, did_you_mean
from dragoman.files import read_json

__all__ = ["WhisperTensors", "whisper_config", "whisper_generation_config"]

_EMBEDDING = "decoder/embeddings/weight"
_PROJECTION = "decoder/projection/weight"

# CTranslate2's numbers of the activation functions.
_ACTIVATIONS = {0: "relu", 1: "gelu_new", 2: "silu", 3: "gelu", 4: "quick_gelu"}

# Flags that change the maths; Hugging Face's Whisper has only these values.
_FLAGS = {"decoder/pre_norm": 1, "decoder/alibi": 0, "decoder/start_from_zero_embedding": 0}

# OpenAI's rule: English-only vocabularies have 51,864 entries, multilingual ones at least one more.
_MULTILINGUAL_FROM = 51_865

_LANGUAGE = re.compile(r"<\|[a-z]{2,3}\|>")

_MAX_TOKENIZER_BYTES = 64 * 2**20


@dataclass(frozen=True)
class _Source:
    """Where a tensor is: in one of several equal parts, along the first axis, of a variable."""

    key: str
    part: int = 0
    parts: int = 1


class WhisperTensors:
    """The tensors of a Whisper container as a `TensorFile` with the names of `WhisperForConditionalGeneration`.

    CTranslate2 fuses q, k and v into one matrix and gives k a bias of zeros; here they are apart, and k has none.
    `proj_out.weight` is there only if it is not the embedding.

    Args:
        container: The open container; closing these tensors closes it.

    Raises:
        CheckpointError: If the container is no Whisper, or one that Hugging Face's Whisper cannot express.
    """

    def __init__(self, container: Ct2File) -> None:
        whisper_config(container)  # refuses what is no Whisper
        self._container = container
        self._sources = dict(_sources(container))
        needed = {source.key for source in self._sources.values()}
        held = set(container.keys())
        if needed - held:
            raise CheckpointError(
                f"{container.path} lacks {_some(needed - held)}. Download or convert the model again."
            )
        # What has no dimensions is a setting; `whisper_config` reads those that matter.
        unknown = {key for key in held - needed - {_PROJECTION} if container.shape(key)}
        if unknown:
            raise CheckpointError(
                f"{container.path} holds tensors that Whisper has no place for: {_some(unknown)}. "
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
        """Return the names of all tensors, sorted."""
        return sorted(self._sources)

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it."""
        source = self._source(key)
        first, *others = self._container.shape(source.key)
        return (first // source.parts, *others)

    def dtype(self, key: str) -> str:
        """Return the type of the numbers that `read` returns, for instance "float16"."""
        return self._container.dtype(self._source(key).key)

    def read(self, key: str) -> np.ndarray[Any, Any]:
        """Return a copy of a tensor."""
        return self._read(self._source(key))

    def _read(self, source: _Source) -> np.ndarray[Any, Any]:
        size = self._container.shape(source.key)[0] // source.parts
        return self._container.read(source.key, slice(source.part * size, (source.part + 1) * size))

    def _source(self, key: str) -> _Source:
        if key not in self._sources:
            raise CheckpointError(f"{self._container.path} holds no tensor {key!r}.{did_you_mean(key, self._sources)}")
        return self._sources[key]

    def __enter__(self) -> Self:
        """Return the tensors themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the container; what was read stays valid."""
        self._container.__exit__(kind, error, trace)


def _sources(container: Ct2File) -> Iterator[tuple[str, _Source]]:
    """Yield Hugging Face's name and the place of every tensor, the biases of k included."""
    for side in ("encoder", "decoder"):
        for layer in range(_num_layers(container, side)):
            yield from _layer(f"{side}/layer_{layer}", f"model.{side}.layers.{layer}", cross=side == "decoder")
        yield from _norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        yield f"model.{side}.embed_positions.weight", _Source(f"{side}/position_encodings/encodings")
    yield from _linear("encoder/conv1", ["model.encoder.conv1"])
    yield from _linear("encoder/conv2", ["model.encoder.conv2"])
    yield "model.decoder.embed_tokens.weight", _Source(_EMBEDDING)
    if not _is_tied(container):
        yield "proj_out.weight", _Source(_PROJECTION)


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


def _num_layers(container: Ct2File, side: str) -> int:
    layer = re.compile(rf"{side}/layer_(\d{{1,4}})/")
    return 1 + max((int(found[1]) for found in map(layer.match, container.keys()) if found), default=-1)


def _is_tied(container: Ct2File) -> bool:
    return _PROJECTION not in container or container.same(_PROJECTION, _EMBEDDING)


def whisper_config(container: Ct2File) -> dict[str, Any]:
    """Return the fields of a Whisper config.json that the container determines: the sizes.

    Raises:
        CheckpointError: If the container is no Whisper, or computes otherwise than Hugging Face's.
    """
    path = container.path
    if container.spec != "WhisperSpec":
        raise CheckpointError(f"{path} holds a {container.spec!r}; of CTranslate2's models only Whisper is supported.")
    for flag, value in _FLAGS.items():
        if _setting(container, flag, value) != value:
            raise CheckpointError(f"{flag!r} of {path} must be {value} for a Whisper. Convert the model again.")
    activation = _setting(container, "decoder/activation", 3)
    if activation not in _ACTIVATIONS:
        raise CheckpointError(f"{path} has the unknown activation function {activation}. Known: {_ACTIVATIONS}.")
    width, num_mel_bins, _ = _shape(container, "encoder/conv1/weight", 3)
    sizes = {
        f"{side}_{field}": value
        for side in ("encoder", "decoder")
        for field, value in {
            "layers": _num_layers(container, side),
            "attention_heads": _setting(container, f"{side}/num_heads", 0),
            "ffn_dim": _shape(container, f"{side}/layer_0/ffn/linear_0/weight", 2)[0],
        }.items()
    }
    for side in ("encoder", "decoder"):
        heads = sizes[f"{side}_attention_heads"]
        if heads < 1 or width % heads:
            raise UntrustedFileError(f"{path} says that its {side} of width {width} has {heads} heads.")
    return {
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        "is_encoder_decoder": True,
        "vocab_size": _shape(container, _EMBEDDING, 2)[0],
        "num_mel_bins": num_mel_bins,
        "d_model": width,
        **sizes,
        "max_source_positions": _shape(container, "encoder/position_encodings/encodings", 2)[0],
        "max_target_positions": _shape(container, "decoder/position_encodings/encodings", 2)[0],
        "activation_function": _ACTIVATIONS[activation],
        "scale_embedding": bool(_setting(container, "decoder/scale_embeddings", 0)),
        "tie_word_embeddings": _is_tied(container),
    }


def _setting(container: Ct2File, key: str, default: int) -> int:
    """Return a whole number without dimensions."""
    if key not in container:
        return default
    if container.shape(key) or not container.dtype(key).startswith("int"):
        raise UntrustedFileError(f"{key!r} of {container.path} must be one whole number. Convert the model again.")
    return int(container.read(key))


def _shape(container: Ct2File, key: str, rank: int) -> tuple[int, ...]:
    shape = container.shape(key)
    if len(shape) != rank:
        raise UntrustedFileError(f"{key!r} of {container.path} must have {rank} dimensions, but has the shape {shape}.")
    return shape


def whisper_generation_config(folder: str | Path) -> dict[str, Any]:
    """Return what the generation_config.json of a CTranslate2 Whisper folder would say.

    Token ids are looked up by their text in tokenizer.json; what to suppress and which heads align come from the
    container's own config.json. Decoding is without timestamps; a multilingual model chooses the language itself.

    Args:
        folder: Holds model.bin, config.json and tokenizer.json.

    Raises:
        ModelNotFoundError: If one of the files is missing.
        UntrustedFileError: If a token is missing, or an id is not one of the vocabulary.
    """
    folder = Path(folder)
    with Ct2File(folder / "model.bin") as container:
        sizes = whisper_config(container)
    tokens = _tokens(folder / "tokenizer.json", sizes["vocab_size"])
    end, no_timestamps = tokens["<|endoftext|>"], tokens["<|notimestamps|>"]
    config: dict[str, Any] = {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": tokens["<|startoftranscript|>"],
        "no_timestamps_token_id": no_timestamps,
        "prev_sot_token_id": tokens.get("<|startofprev|>"),
        "max_length": sizes["max_target_positions"],
        "return_timestamps": False,
        "is_multilingual": sizes["vocab_size"] >= _MULTILINGUAL_FROM,
        "forced_decoder_ids": [[1, no_timestamps]],
    }
    if config["is_multilingual"]:
        config["lang_to_id"] = {text: number for text, number in tokens.items() if _LANGUAGE.fullmatch(text)}
        config["task_to_id"] = {task: tokens[f"<|{task}|>"] for task in ("transcribe", "translate")}
        config["forced_decoder_ids"] = [[1, None], [2, tokens["<|transcribe|>"]], [3, no_timestamps]]
    return config | _own_settings(folder / "config.json", sizes)


def _tokens(path: Path, vocab_size: int) -> dict[str, int]:
    """Return the ids of the special tokens by their text."""
    data = read_json(path, max_bytes=_MAX_TOKENIZER_BYTES)
    model, added = data.get("model"), data.get("added_tokens")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    found: dict[Any, Any] = dict(vocab) if isinstance(vocab, dict) else {}
    for token in added if isinstance(added, list) else []:
        if isinstance(token, dict):
            found[token.get("content")] = token.get("id")
    special = {text: number for text, number in found.items() if isinstance(text, str) and text.startswith("<|")}
    needed = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"]
    if vocab_size >= _MULTILINGUAL_FROM:
        needed += ["<|transcribe|>", "<|translate|>"]
    missing = [text for text in needed if text not in special]
    if missing:
        raise UntrustedFileError(f"{path} has no token {', '.join(missing)}: it is not the tokenizer of this Whisper.")
    _expect_ids(special.values(), vocab_size, path)
    return special


def _own_settings(path: Path, sizes: dict[str, Any]) -> dict[str, Any]:
    """Return what the container's config.json says about decoding, under Hugging Face's names."""
    theirs = read_json(path)
    ours: dict[str, Any] = {}
    for key, name in (("suppress_ids", "suppress_tokens"), ("suppress_ids_begin", "begin_suppress_tokens")):
        if theirs.get(key) is not None:
            ours[name] = _expect_ids(theirs[key], sizes["vocab_size"], path)
    heads = theirs.get("alignment_heads")
    if heads is not None:
        for pair in heads if isinstance(heads, list) else [heads]:
            if not isinstance(pair, list) or len(pair) != 2:
                raise UntrustedFileError(
                    f'"alignment_heads" of {path} must be pairs of layer and head, not {pair!r:.50}.'
                )
            _expect_ids(pair[:1], sizes["decoder_layers"], path)
            _expect_ids(pair[1:], sizes["decoder_attention_heads"], path)
        ours["alignment_heads"] = heads
    return ours


def _expect_ids(ids: Any, size: int, path: Path) -> list[int]:
    """Return `ids` if they are whole numbers from 0 to below `size`."""
    found = list(ids) if isinstance(ids, Iterable) else [ids]
    for number in found:
        if type(number) is not int or not 0 <= number < size:
            raise UntrustedFileError(f"{path} has the number {number!r:.50}, but only 0 to {size - 1} fit this model.")
    return found


def _some(names: Iterable[str]) -> str:
    first, *others = sorted(names)
    return f"{first!r} and {len(others)} more tensors" if others else repr(first)
