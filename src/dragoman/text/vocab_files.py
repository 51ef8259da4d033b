"""Reading a tokenizer from a local folder, written by dragoman or by any version of `transformers`.

The settings are in tokenizer_config.json, special_tokens_map.json, added_tokens.json and config.json; the vocabulary
is in tokenizer.json or, without one, in the vocabulary files of the tokenizer's class (see `kinds`).
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tokenizers import Tokenizer as RustTokenizer
from tokenizers import normalizers, pre_tokenizers

from dragoman.errors import ModelNotFoundError, TokenizerError
from dragoman.files import VOCABULARY_BYTES, find_json, parse_json
from dragoman.text.builders import Built, File
from dragoman.text.kind_of_folder import (
    inferred_kind,
    kind_of,
    vocabulary_bytes,
    vocabulary_file,
)
from dragoman.text.kinds import GENERAL, KINDS, Kind, kind_named
from dragoman.text.mbart import MBART50_LANGUAGES, MBART_LANGUAGES
from dragoman.text.regexes import repeats_repetitions
from dragoman.text.rust_errors import rust_errors
from dragoman.text.settings import check_options, flag
from dragoman.text.special_tokens import ROLES, added_token, template
from dragoman.text.tokenizer import Tokenizer

# Far above the largest files in use (1.3 MB), far below a dangerous size.
CONFIG_BYTES = 16 * 2**20

# The key of a regular expression in tokenizer.json, perhaps escaped, followed by 16 KiB of it. One of a few megabytes
# takes a gigabyte to compile.
_LONG_PATTERN = re.compile(rb'"(?:Regex|[^"\\]{0,8}\\u[^"]{0,64})"\s*:\s*"(?:[^"\\]|\\.){16384}')
_MAX_GROWTH = 64  # characters for one, by all replacements of a normaliser; those in use have 3
_MAX_CONTAINERS = VOCABULARY_BYTES // 20
_AGAIN = "Download or save it again."


def load_tokenizer(
    folder: Path,
    *,
    tokenizer_type: str | None = None,
    options: Mapping[str, Any] | None = None,
    class_of: Mapping[str, str] = MappingProxyType({}),
) -> Tokenizer:
    """Read the tokenizer in a local folder.

    Args:
        folder: A folder with the files above.
        tokenizer_type: A class name ("BertTokenizer") or model type ("bert") in place of the one in the files.
        options: Settings in place of those in tokenizer_config.json.
        class_of: Class name of the tokenizer by model type.

    Raises:
        ModelNotFoundError: If there is no vocabulary; the message lists the files to provide.
        TokenizerError: If a file is corrupt, too large, or contradicts another, or an option is unknown.
    """
    options = options or {}
    check_options(options)
    settings = _settings(folder) | dict(options)
    config = _settings_file(folder / "config.json")
    named = tokenizer_type or stated_class(folder)
    kind = kind_of(folder, class_of.get(str(named), str(named))) if named else inferred_kind(folder, config, class_of)
    tokenizer = _load(folder, kind, settings, _class_name(kind, named))
    if not named and kind.name == "MBartTokenizer" and _has_50_languages(tokenizer, config):
        kind = KINDS["MBart50Tokenizer"]
        return _load(folder, kind, settings, kind.name)
    return tokenizer


def stated_class(folder: Path) -> str | None:
    """Return the class name (or model type) of the tokenizer in the files of a folder, if they have one."""
    files = ("tokenizer_config.json", "special_tokens_map.json", "config.json")
    names = (_settings_file(folder / file).get("tokenizer_class") for file in files)
    return next((str(name) for name in names if name), None)


def tokenizer_from_files(
    name: str, given: Iterable[Any], options: Mapping[str, Any], *, fast: bool = False
) -> Tokenizer:
    """Build a tokenizer from its vocabulary alone.

    Args:
        name: Class name in `transformers`.
        given: The files, in the order of `Kind.all_files`; in place of a text or JSON file also what it holds: a
            dictionary of tokens, a list of merges.
        options: Settings.
        fast: Whether the file is a tokenizer.json instead.

    Raises:
        ModelNotFoundError: If a file does not exist.
        TokenizerError: If a file is corrupt, or an option unknown.
    """
    check_options(options)
    kind = kind_named(name) or GENERAL
    names = kind.all_files if not fast else (("tokenizer.json",),)
    files = [vocabulary_file(one, Path(known[0])) for one, known in zip(given, names, strict=True)]
    return _tokenizer(kind, files, options, _class_name(kind, name), fast=fast)


def _load(folder: Path, kind: Kind, settings: Mapping[str, Any], name: str) -> Tokenizer:
    path = folder / "tokenizer.json"
    fast = kind.reads_json and path.is_file()
    files = [File(path, vocabulary_bytes(path))] if fast else _vocabulary_files(folder, kind)
    return _tokenizer(kind, files, settings, name, fast=fast, folder=folder)


def _tokenizer(
    kind: Kind, files: list[File], settings: Mapping[str, Any], name: str, *, fast: bool, folder: Path | None = None
) -> Tokenizer:
    """Build a tokenizer from its files, and from the added tokens in `folder`."""
    if fast:
        built = Built(backend=_from_json(files[0]))
        _apply(settings, built.backend)
    else:
        built = _build(kind, files, {**kind.roles, **settings})
    if folder is not None:
        _add_declared_tokens(folder, built.backend, settings)
    # The Rust library cannot save what Python splits: the files themselves are kept, under their standard names.
    kept = {names[0]: file.content for names, file in zip(kind.all_files, files, strict=False)} if built.pieces else {}
    complete = _with_defaults(settings, kind, built)
    tokenizer = kind.tokenizer(built.backend, complete, tokenizer_class=name, pieces=built.pieces, vocabulary=kept)
    if built.backend.post_processor is None:
        _put_template(tokenizer, kind)
    return tokenizer


def _class_name(kind: Kind, named: object) -> str:
    """Return the class name to save: the given one, if it is a class name."""
    name = str(named or kind.name).removesuffix("Fast")
    return name if "Tokenizer" in name and kind_named(name) is not GENERAL else kind.name


def _has_50_languages(tokenizer: Tokenizer, config: Mapping[str, Any]) -> bool:
    """Return whether a model of the type "mbart" is mBART-50, which has other languages."""
    part = config.get("decoder") if isinstance(config.get("decoder"), Mapping) else config
    more = len(MBART50_LANGUAGES) - len(MBART_LANGUAGES)
    return "af_ZA" in tokenizer.get_vocab() or (part or {}).get("vocab_size") == len(tokenizer) + more


def _settings_file(path: Path) -> dict[str, Any]:
    """Return the content of a settings file; empty if there is none."""
    return find_json(path, TokenizerError, max_bytes=CONFIG_BYTES)


def _settings(folder: Path) -> dict[str, Any]:
    config = _settings_file(folder / "tokenizer_config.json")
    tokens = _settings_file(folder / "special_tokens_map.json")
    # A config that lists all added tokens is newer and complete; otherwise the map takes precedence.
    return tokens | config if "added_tokens_decoder" in config else config | tokens


def _with_defaults(settings: Mapping[str, Any], kind: Kind, built: Built) -> dict[str, Any]:
    """Add the default special tokens of the class that are in the vocabulary."""
    result = dict(settings)
    known = {token.content for token in built.backend.get_added_tokens_decoder().values()}
    for role, token in kind.roles.items():
        text = str(getattr(token, "content", token))
        # A plain string equal to the default token gets the default flags, unless a file has others.
        if result.setdefault(role, text) == text and text not in known:
            result[role] = token
        if role not in settings and built.backend.token_to_id(text) is None:
            result[role] = None
    if built.extra_special_tokens and not (
        result.get("extra_special_tokens") or result.get("additional_special_tokens")
    ):
        result["extra_special_tokens"] = built.extra_special_tokens
    return result


def _apply(settings: Mapping[str, Any], backend: RustTokenizer) -> None:
    """Apply settings to a backend that was read from tokenizer.json."""
    normalizer, pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    if isinstance(normalizer, normalizers.BertNormalizer):
        if "do_lower_case" in settings:
            normalizer.lowercase = bool(flag(settings, "do_lower_case"))
        if "strip_accents" in settings:
            normalizer.strip_accents = flag(settings, "strip_accents")
        if "tokenize_chinese_chars" in settings:
            normalizer.handle_chinese_chars = bool(flag(settings, "tokenize_chinese_chars"))
        backend.normalizer = normalizer
    if isinstance(pre_tokenizer, pre_tokenizers.ByteLevel) and "add_prefix_space" in settings:
        pre_tokenizer.add_prefix_space = bool(flag(settings, "add_prefix_space"))
        backend.pre_tokenizer = pre_tokenizer


def _add_declared_tokens(folder: Path, backend: RustTokenizer, settings: Mapping[str, Any]) -> None:
    """Add the tokens listed with ids in tokenizer_config.json or in the older added_tokens.json."""
    roles = {added_token(settings[role], f"`{role}`").content for role in ROLES if settings.get(role)}
    listed = settings.get("added_tokens_decoder")
    source = folder / ("tokenizer_config.json" if listed is not None else "added_tokens.json")
    if listed is None:
        tokens = _settings_file(source)
        listed = {i: {"content": t, "special": t in roles, "normalized": t not in roles} for t, i in tokens.items()}
    try:
        declared = {int(i): added_token(token, f"{source}: token {i}", special=False) for i, token in listed.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise TokenizerError(f"{source}: the added tokens must be listed by their ids: {error}") from error
    with rust_errors(f"{source} has invalid tokens", _AGAIN):
        backend.add_tokens([declared[i] for i in sorted(declared)])
    for i, token in declared.items():
        if backend.token_to_id(token.content) != i:
            raise TokenizerError(
                f"{source} gives the added token {token.content!r} the id {i}, but the next id of the vocabulary is "
                f"{backend.token_to_id(token.content)}. One of the files belongs to another tokenizer."
            )


def _put_template(tokenizer: Tokenizer, kind: Kind) -> None:
    settings = tokenizer.init_kwargs
    around: Iterable[str] = kind.around or ()
    if kind.around is None:
        first = ["bos_token"] if settings.get("add_bos_token", kind.add_bos_token) else []
        around = [*first, "$A", *(["eos_token"] if settings.get("add_eos_token") else [])]
    parts, pair = ([_token(tokenizer, part) for part in each] for each in (around, kind.pair or ()))
    if parts != ["$A"]:
        known = [part for part in pair if part is not None]
        tokenizer.backend_tokenizer.post_processor = template(tokenizer.backend_tokenizer, parts, known or None)


def _token(tokenizer: Tokenizer, part: str) -> str | None:
    """Return a part of a template (`"sep_token:1"`) with the token in place of its role."""
    role, colon, kind = part.partition(":")
    token = role if role[0] == "$" else tokenizer.special_tokens_map.get(role)
    return None if token is None else token + colon + kind


def _vocabulary_files(folder: Path, kind: Kind) -> list[File]:
    files = []
    for names in kind.all_files:
        found = next((folder / name for name in names if (folder / name).is_file()), None)
        if found is not None:
            files.append(File(found, vocabulary_bytes(found)))
        elif names in kind.files:
            fast = "tokenizer.json, or " if kind.reads_json else ""
            wanted = " and ".join(" or ".join(alternatives) for alternatives in kind.files)
            raise ModelNotFoundError(f"{folder} has no {' or '.join(names)}. A {kind.name} needs {fast}{wanted}.")
    return files


def _build(kind: Kind, files: list[File], settings: Mapping[str, Any]) -> Built:
    assert kind.build is not None, kind.name
    with rust_errors(f"{files[-1].path} is not a valid tokenizer", _AGAIN):
        return kind.build(files, settings)


def _from_json(file: File) -> RustTokenizer:
    if _LONG_PATTERN.search(file.content):
        raise TokenizerError(f"{file.path} has a regular expression of more than 16 KiB, which is not allowed.")
    _check_growth(parse_json(file.content, file.path, TokenizerError, max_containers=_MAX_CONTAINERS), file.path)
    with rust_errors(f"{file.path} is not a valid tokenizer", _AGAIN):
        return RustTokenizer.from_buffer(file.content)


def _check_growth(content: Mapping[str, Any], path: Path) -> None:
    """Raise an error if a text may grow without limit (each of thirty replacements may double it) or take hours."""
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        growth = 1
        steps = [content.get(part)]
        while steps:
            step = steps.pop()
            if isinstance(step, list):
                steps.extend(step)
            elif isinstance(step, Mapping):
                steps.extend(value for value in step.values() if isinstance(value, list | dict))
                new = step.get("content") if step.get("type") == "Replace" else None
                pattern = step.get("Regex")
                if isinstance(pattern, str) and repeats_repetitions(pattern):
                    raise TokenizerError(
                        f"The {part} of {path} has a regular expression that repeats a repetition, as in (a+)+, and "
                        f"may take hours: {pattern[:100]!r}. Check where the file comes from."
                    )
                growth *= max(1, len(new)) if isinstance(new, str) else 1
        if growth > _MAX_GROWTH:
            raise TokenizerError(
                f"The {part} of {path} may make a text {growth:,} times longer, at most {_MAX_GROWTH} times is "
                "allowed. Check where the file comes from."
            )
