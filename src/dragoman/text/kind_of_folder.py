"""The kind of the tokenizer in a folder: named by its files, that of the model, or what the files suggest."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dragoman.errors import ModelNotFoundError, TokenizerError, did_you_mean
from dragoman.files import VOCABULARY_BYTES, as_path, read_bytes
from dragoman.text.builders import File
from dragoman.text.kinds import GENERAL, KINDS, Kind, kind_named

TOKENIZER_FILES = (
    "tokenizer.json, vocab.txt, vocab.json with merges.txt, vocab.json, vocab.json with source.spm and target.spm, "
    "sentencepiece.bpe.model, spiece.model or tokenizer.model"
)


def vocabulary_bytes(path: Path) -> bytes:
    """Return the content of a vocabulary file."""
    return read_bytes(path, VOCABULARY_BYTES, TokenizerError)


def kind_of(folder: Path, name: str) -> Kind:
    """Return the kind with the name given in the files or by the user."""
    kind = kind_named(name)
    if kind is None and (folder / "tokenizer.json").is_file():
        return GENERAL  # a tokenizer.json is complete
    if kind is None:
        raise TokenizerError(
            f"{folder} has a tokenizer of the class {name!r} without a tokenizer.json; without one, only these "
            f"classes are known: {', '.join(KINDS)}.{did_you_mean(name, KINDS)}"
        )
    return kind if kind.files or (folder / "tokenizer.json").is_file() else guessed_kind(folder)


def inferred_kind(folder: Path, config: Mapping[str, Any], class_of: Mapping[str, str]) -> Kind:
    """Return the kind of the model type; in a composite model the decoder comes first."""
    parts = [part for part in (config.get("decoder"), config, config.get("encoder")) if isinstance(part, Mapping)]
    names = [part.get(field) for part in parts for field in ("tokenizer_class", "model_type")]
    for kind in (kind_named(class_of.get(name, name)) for name in names if isinstance(name, str)):
        if kind is not None and has_files(folder, kind):
            return kind
    return guessed_kind(folder)


def guessed_kind(folder: Path) -> Kind:
    """Return the kind that the files suggest.

    Raises:
        ModelNotFoundError: If there are none, or only a SentencePiece model, which does not determine the ids.
    """

    def content(name: str) -> bytes:
        return vocabulary_bytes(folder / name) if (folder / name).is_file() else b""

    fast, slow, added = content("tokenizer.json"), content("vocab.json"), content("added_tokens.json")
    if b'"<|startoftranscript|>"' in fast + added:
        return KINDS["WhisperTokenizer"]
    if fast:
        return GENERAL
    if (folder / "vocab.txt").is_file():
        return KINDS["BertTokenizer"]
    if slow and (folder / "source.spm").is_file():
        return KINDS["MarianTokenizer"]
    if slow and not (folder / "merges.txt").is_file():
        return KINDS["Wav2Vec2CTCTokenizer"]
    if slow:
        marks = {b'@@"': "Speech2Text2Tokenizer", b'"<|endoftext|>"': "GPT2Tokenizer"}
        return KINDS[next((name for mark, name in marks.items() if mark in slow), "RobertaTokenizer")]
    if any(folder.glob("*.model")):
        raise ModelNotFoundError(
            f"{folder} has a SentencePiece model, which does not determine the ids. Add a tokenizer_config.json with "
            "the `tokenizer_class` of the model, or pass for instance `tokenizer_type='mbart50'`."
        )
    raise ModelNotFoundError(f"{folder} has no tokenizer. Add one of: {TOKENIZER_FILES}.")


def has_files(folder: Path, kind: Kind) -> bool:
    fast = kind.reads_json and (folder / "tokenizer.json").is_file()
    return fast or all(any((folder / name).is_file() for name in names) for names in kind.files)


def vocabulary_file(given: Any, standard: Path) -> File:
    """Return a vocabulary file, or the values that a file with the standard name `standard` would hold, as a file.

    Raises:
        ModelNotFoundError: If there is no such file.
        TokenizerError: If the values are of another kind.
    """
    if standard.suffix == ".json" and isinstance(given, Mapping):
        return File(standard, json.dumps(dict(given)).encode())
    if standard.name == "vocab.txt" and isinstance(given, Mapping):
        tokens = sorted(given, key=given.__getitem__)
        if [given[token] for token in tokens] != list(range(len(tokens))):
            raise TokenizerError("The vocabulary must have the numbers from 0 up, each for one token.")
        return File(standard, "\n".join(tokens).encode())
    if standard.name == "merges.txt" and isinstance(given, list | tuple):
        return File(standard, "\n".join(one if isinstance(one, str) else " ".join(one) for one in given).encode())
    if not isinstance(given, str | os.PathLike):
        raise TokenizerError(
            f"{standard} must be given as a path, but is a {type(given).__name__}: {given!r:.80}. Values are taken in "
            "place of vocab.txt, vocab.json (a dictionary) and merges.txt (a list of pairs)."
        )
    path = as_path(given, "A vocabulary file")
    return File(path, vocabulary_bytes(path))
