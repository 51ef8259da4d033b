"""Special tokens: the seven that have a role, and how files write them.

A role is a name such as `pad_token`; `tokenizer.pad_token` is its text and `tokenizer.pad_token_id` its id. The
descriptors here are those attributes; `Tokenizer` holds the state.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self, overload

from tokenizers import AddedToken

from dragoman.errors import TokenizerError

if TYPE_CHECKING:
    from dragoman.text.tokenizer import Tokenizer

__all__ = ["ROLES", "SpecialToken", "SpecialTokenId", "added_token", "added_token_fields"]

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

_FLAGS = ("lstrip", "normalized", "rstrip", "single_word", "special")


def added_token(
    value: object, where: str, known: Mapping[str, AddedToken] | None = None, *, special: bool = True
) -> AddedToken:
    """Read a token as files write it: plain text, or an object with `content` and flags.

    Args:
        value: `"<pad>"`, `{"content": "<mask>", "lstrip": true, …}` or an `AddedToken`, which is returned as it is.
        where: What is being read, for the message.
        known: Tokens that plain texts take their flags from.
        special: What a token is that does not say.
    """
    if isinstance(value, AddedToken):
        return value
    if isinstance(value, str):
        value = (
            added_token_fields(known[value]) | {"special": special} if known and value in known else {"content": value}
        )
    if not isinstance(value, Mapping) or not isinstance(value.get("content"), str) or not value["content"]:
        raise TokenizerError(f"{where} must be a text or an object with `content`, but is {value!r:.80}.")
    flags = {flag: bool(value[flag]) for flag in _FLAGS if value.get(flag) is not None}
    flags.setdefault("special", special)
    return AddedToken(value["content"], **flags)


def added_token_fields(token: AddedToken) -> dict[str, Any]:
    """Return the object that `added_token` reads back."""
    return {"content": token.content, **{flag: getattr(token, flag) for flag in _FLAGS}}


class SpecialToken:
    """`tokenizer.pad_token`: the text of the token with this role, or `None`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.role = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: "Tokenizer", owner: type) -> str | None: ...
    def __get__(self, instance: "Tokenizer | None", owner: type) -> Self | str | None:
        return self if instance is None else instance.special_tokens_map.get(self.role)

    def __set__(self, instance: "Tokenizer", value: str | AddedToken | None) -> None:
        instance.set_role(self.role, value)


class SpecialTokenId:
    """`tokenizer.pad_token_id`: the id of the token with this role, or `None`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.role = name.removesuffix("_id")

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: "Tokenizer", owner: type) -> int | None: ...
    def __get__(self, instance: "Tokenizer | None", owner: type) -> Self | int | None:
        if instance is None:
            return self
        token = instance.special_tokens_map.get(self.role)
        return None if token is None else instance.backend_tokenizer.token_to_id(token)

    def __set__(self, instance: "Tokenizer", value: int | None) -> None:
        instance.set_role(self.role, None if value is None else instance.convert_ids_to_tokens(value))
