"""What the fields of tokenizer_config.json mean, checked."""

from collections.abc import Mapping
from typing import Any

from dragoman.errors import TokenizerError, did_you_mean
from dragoman.text.special_tokens import ROLES

__all__ = ["NOT_SAVED", "NO_LIMIT", "OPTIONS", "check_options", "extra_tokens", "flag", "max_length", "side"]

NO_LIMIT = int(1e30)  # what files say where a tokenizer knows no longest text

# Fields that a caller may give, with a meaning for some tokenizer.
OPTIONS = frozenset(
    {
        *ROLES,
        "add_bos_token",
        "add_eos_token",
        "add_prefix_space",
        "additional_special_tokens",
        "clean_up_tokenization_spaces",
        "do_lower_case",
        "extra_ids",
        "extra_special_tokens",
        "language",
        "model_max_length",
        "padding_side",
        "predict_timestamps",
        "replace_word_delimiter_char",
        "src_lang",
        "strip_accents",
        "target_lang",
        "task",
        "tgt_lang",
        "tokenize_chinese_chars",
        "truncation_side",
        "word_delimiter_token",
    }
)

# Fields that say where a tokenizer came from, or that are written anew.
NOT_SAVED = frozenset(
    {
        "added_tokens_decoder",
        "additional_special_tokens",
        "auto_map",
        "backend",
        "extra_special_tokens",
        "files_loaded",
        "is_local",
        "local_files_only",
        "max_len",
        "merges_file",
        "name_or_path",
        "special_tokens_map_file",
        "tokenizer_file",
        "unk_id",
        "vocab_file",
    }
)


def check_options(options: Mapping[str, Any]) -> None:
    """Raise unless a caller's `options` all mean something.

    Raises:
        TokenizerError: If one is unknown; it would have been ignored.
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
    """Return a field that is true, false or, if it is `null`, undecided."""
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
    """Return the special tokens without a role, under the name that transformers 5 or 4 gives them."""
    extra = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    if isinstance(extra, Mapping):  # late versions of transformers 4 named them
        return list(extra.values())
    if not isinstance(extra, list):
        raise TokenizerError(f"`additional_special_tokens` must be a list of tokens, but is {extra!r:.80}.")
    return extra
