"""The fields of tokenizer_config.json, checked."""

from collections.abc import Mapping
from typing import Any

from dragoman.errors import TokenizerError, did_you_mean
from dragoman.text.special_tokens import ROLES

NO_LIMIT = int(1e30)  # `model_max_length` in files of tokenizers without a limit

# Fields that a caller may set; each is known to some tokenizer.
OPTIONS = frozenset({
    *ROLES, "add_bos_token", "add_eos_token", "add_prefix_space", "additional_special_tokens",
    "clean_up_tokenization_spaces", "do_lower_case", "extra_ids", "extra_special_tokens", "language",
    "model_max_length", "padding_side", "predict_timestamps", "replace_word_delimiter_char", "src_lang",
    "strip_accents", "target_lang", "task", "tgt_lang", "tokenize_chinese_chars", "truncation_side",
    "word_delimiter_token",
})  # fmt: skip

# Fields about the origin of a tokenizer, and fields that are computed when saving.
_NOT_SAVED = frozenset({
    "added_tokens_decoder", "additional_special_tokens", "auto_map", "backend", "extra_special_tokens",
    "files_loaded", "is_local", "local_files_only", "max_len", "merges_file", "name_or_path",
    "special_tokens_map_file", "tokenizer_file", "unk_id", "vocab_file",
})  # fmt: skip


def saved_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that tokenizer_config.json keeps unchanged."""
    return {name: settings[name] for name in settings if name not in {*ROLES, *_NOT_SAVED} and name[:1] != "_"}


def check_options(options: Mapping[str, Any]) -> None:
    """Check the names of a caller's options.

    Raises:
        TokenizerError: If one is unknown; it would be ignored.
    """
    unknown = next((name for name in options if name not in OPTIONS), None)
    if unknown is not None:
        raise TokenizerError(f"A tokenizer has no option {unknown!r}.{did_you_mean(unknown, OPTIONS)}")


def side(settings: Mapping[str, Any], name: str) -> str:
    """Return `padding_side` or `truncation_side`."""
    value = settings.get(name) or "right"
    if value not in ("left", "right"):
        raise TokenizerError(f'`{name}` must be "left" or "right", but is {value!r}.')
    return str(value)


def flag(settings: Mapping[str, Any], name: str, default: bool | None = False) -> bool | None:
    """Return a field that is true, false or `null`."""
    value = settings.get(name, default)
    if value is not None and not isinstance(value, bool):
        raise TokenizerError(f"`{name}` must be true or false, but is {value!r:.80}.")
    return value


def max_length(settings: Mapping[str, Any]) -> int:
    """Return `model_max_length` in tokens, or `NO_LIMIT`."""
    length = settings.get("model_max_length", settings.get("max_len"))
    if length is None:
        return NO_LIMIT
    if isinstance(length, bool) or not isinstance(length, (int, float)) or not length > 0:
        raise TokenizerError(f"`model_max_length` must be a positive number, but is {length!r}.")
    return int(min(length, NO_LIMIT))


def extra_tokens(settings: Mapping[str, Any]) -> list[Any]:
    """Return the special tokens without a role, from their field in `transformers` 5 or 4."""
    extra = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    if isinstance(extra, Mapping):  # the last versions of `transformers` 4 named them
        return list(extra.values())
    if not isinstance(extra, list):
        raise TokenizerError(f"`additional_special_tokens` must be a list of tokens, but is {extra!r:.80}.")
    return extra


def token_limit(max_length: int | None, default: int) -> int | None:
    """Return `max_length` in tokens, by default `default`; `None` for no limit.

    Raises:
        TokenizerError: If it is not a number of tokens.
    """
    length = default if max_length is None else max_length
    if isinstance(length, bool) or not isinstance(length, int) or length < 0:
        raise TokenizerError(f"`max_length` must be a number of tokens, 0 or more, but is {length!r}.")
    return length if length < NO_LIMIT else None
