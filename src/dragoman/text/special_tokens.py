"""Special tokens: their form in files, and the template that puts them around a text."""

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, processors
from tokenizers import Tokenizer as RustTokenizer

from dragoman.errors import TokenizerError

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

_FLAGS = ("lstrip", "normalized", "rstrip", "single_word", "special")


def added_token(
    value: object, where: str, known: Mapping[str, AddedToken] | None = None, *, special: bool = True
) -> AddedToken:
    """Return a token from its form in files: a string, or an object with `content` and flags.

    Args:
        value: `"<pad>"`, `{"content": "<mask>", "lstrip": true, …}` or an `AddedToken`, which is returned as it is.
        where: The place of the token, for the message.
        known: Tokens from which plain strings take their flags.
        special: Default of the flag `special`.
    """
    if isinstance(value, AddedToken):
        return value
    if isinstance(value, str):
        value = (
            added_token_fields(known[value]) | {"special": special} if known and value in known else {"content": value}
        )
    if not isinstance(value, Mapping) or not isinstance(value.get("content"), str) or not value["content"]:
        raise TokenizerError(f"{where} must be a string or an object with `content`, but is {value!r:.80}.")
    flags = {flag: bool(value[flag]) for flag in _FLAGS if value.get(flag) is not None}
    flags.setdefault("special", special)
    return AddedToken(value["content"], **flags)


def added_token_fields(token: AddedToken) -> dict[str, Any]:
    """Return a token as an object for files; the inverse of `added_token`."""
    return {"content": token.content, **{flag: getattr(token, flag) for flag in _FLAGS}}


def template(backend: RustTokenizer, around: Sequence[str | None], pair: Sequence[str] | None = None) -> Any:
    """Return a post-processor that puts special tokens around a text (`"$A"`); `None` is skipped.

    Args:
        backend: The engine with the vocabulary.
        around: The tokens, and `"$A"`.
        pair: The same tokens around two texts, `"$A"` and `"$B"`; a part that ends in `:1` has this token type. By
            default the second text follows the first.

    Raises:
        TokenizerError: If the vocabulary lacks one of the tokens.
    """
    parts = [part for part in around if part is not None]
    ids = {part: backend.token_to_id(part) for part in parts if part != "$A"}
    missing = [token for token, i in ids.items() if i is None]
    if missing:
        raise TokenizerError(f"The vocabulary lacks the special tokens {', '.join(missing)}.")
    both = [part for each in parts for part in ((each, "$B:1") if each == "$A" else (each,))] if pair is None else pair
    return processors.TemplateProcessing(single=parts, pair=list(both), special_tokens=list(ids.items()))
