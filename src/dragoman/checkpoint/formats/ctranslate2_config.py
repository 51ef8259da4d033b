"""The config.json and generation_config.json of a Whisper in CTranslate2's format."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dragoman.checkpoint.formats.ctranslate2 import Ct2File
from dragoman.errors import CheckpointError, UntrustedFileError
from dragoman.files import VOCABULARY_BYTES, read_json

EMBEDDING = "decoder/embeddings/weight"
PROJECTION = "decoder/projection/weight"

# CTranslate2's numbers of the activation functions.
_ACTIVATIONS = {0: "relu", 1: "gelu_new", 2: "silu", 3: "gelu", 4: "quick_gelu"}

# Flags that change the network; the Whisper of `transformers` has only these values.
_FLAGS = {"decoder/pre_norm": 1, "decoder/alibi": 0, "decoder/start_from_zero_embedding": 0}

# OpenAI's rule: English-only vocabularies have 51,864 entries, multilingual ones at least one more.
_MULTILINGUAL_FROM = 51_865

_LANGUAGE = re.compile(r"<\|[a-z]{2,3}\|>")


def num_layers(container: Ct2File, side: str) -> int:
    layer = re.compile(rf"{side}/layer_(\d{{1,4}})/")
    return 1 + max((int(found[1]) for found in map(layer.match, container.keys()) if found), default=-1)


def is_tied(container: Ct2File) -> bool:
    return PROJECTION not in container or container.same(PROJECTION, EMBEDDING)


def whisper_config(container: Ct2File) -> dict[str, Any]:
    """Return the fields of a Whisper `config.json` that the container determines: the sizes.

    Raises:
        CheckpointError: If the container is not a Whisper, or computes something else than the one in `transformers`.
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
            "layers": num_layers(container, side),
            "attention_heads": _setting(container, f"{side}/num_heads", 0),
            "ffn_dim": _shape(container, f"{side}/layer_0/ffn/linear_0/weight", 2)[0],
        }.items()
    }
    for side in ("encoder", "decoder"):
        heads = sizes[f"{side}_attention_heads"]
        if heads < 1 or width % heads:
            raise UntrustedFileError(f"{path}: its {side} of width {width} has {heads} heads. Convert the model again.")
    return {
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        "is_encoder_decoder": True,
        "vocab_size": _shape(container, EMBEDDING, 2)[0],
        "num_mel_bins": num_mel_bins,
        "d_model": width,
        **sizes,
        "max_source_positions": _shape(container, "encoder/position_encodings/encodings", 2)[0],
        "max_target_positions": _shape(container, "decoder/position_encodings/encodings", 2)[0],
        "activation_function": _ACTIVATIONS[activation],
        "scale_embedding": bool(_setting(container, "decoder/scale_embeddings", 0)),
        "tie_word_embeddings": is_tied(container),
    }


def _setting(container: Ct2File, key: str, default: int) -> int:
    """Return a whole number stored without dimensions."""
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


def whisper_generation_config(folder: Path, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `generation_config.json` of a CTranslate2 Whisper folder.

    Token ids are looked up by their text in tokenizer.json; suppressed tokens and alignment heads come from the
    container's own config.json. Decoding is without timestamps; a multilingual model detects the language.

    Args:
        folder: Holds model.bin, config.json and tokenizer.json.
        sizes: The result of `whisper_config`.

    Raises:
        ModelNotFoundError: If one of the files is missing.
        UntrustedFileError: If a token is missing, or an id is not in the vocabulary.
    """
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
    data = read_json(path, max_bytes=VOCABULARY_BYTES)
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


def _own_settings(path: Path, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of decoding in the container's config.json, under their names in `transformers`."""
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
    """Return `ids` if they are whole numbers from 0 to `size - 1`."""
    found = list(ids) if isinstance(ids, Iterable) else [ids]
    for number in found:
        if type(number) is not int or not 0 <= number < size:
            raise UntrustedFileError(f"{path} has the number {number!r:.50}, but only 0 to {size - 1} fit this model.")
    return found
