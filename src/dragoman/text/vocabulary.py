"""The vocabulary of a tokenizer: tokens and ids, added tokens, and special tokens.

A special token may have a role such as `pad_token`; `pad_token` is then an attribute, and `pad_token_id` its id.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Self, overload

from tokenizers import AddedToken
from tokenizers import Tokenizer as RustTokenizer

from dragoman.errors import TokenizerError, did_you_mean
from dragoman.text.ids import id_rows
from dragoman.text.special_tokens import ROLES, added_token, added_token_fields

_log = logging.getLogger(__name__)


class SpecialToken:
    """The attribute `pad_token`: the token with this role, or `None`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.role = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: "Vocabulary", owner: type) -> str | None: ...
    def __get__(self, instance: "Vocabulary | None", owner: type) -> Self | str | None:
        return self if instance is None else instance.special_tokens_map.get(self.role)

    def __set__(self, instance: "Vocabulary", value: str | AddedToken | None) -> None:
        instance.set_role(self.role, value)


class SpecialTokenId:
    """The attribute `pad_token_id`: the id of the token with this role, or `None`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.role = name.removesuffix("_id")

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: "Vocabulary", owner: type) -> int | None: ...
    def __get__(self, instance: "Vocabulary | None", owner: type) -> Self | int | None:
        if instance is None:
            return self
        token = instance.special_tokens_map.get(self.role)
        return None if token is None else instance.convert_tokens_to_ids(token)

    def __set__(self, instance: "Vocabulary", value: int | None) -> None:
        instance.set_role(self.role, None if value is None else instance.convert_ids_to_tokens(value))


class Vocabulary:
    """The vocabulary of a tokenizer, with the names of `transformers`.

    Attributes:
        backend_tokenizer: The engine, from the `tokenizers` library, which holds the tokens.
        special_tokens_map: The tokens with a role.
        extra_special_tokens: The special tokens without a role.
    """

    bos_token, bos_token_id = SpecialToken(), SpecialTokenId()
    eos_token, eos_token_id = SpecialToken(), SpecialTokenId()
    unk_token, unk_token_id = SpecialToken(), SpecialTokenId()
    sep_token, sep_token_id = SpecialToken(), SpecialTokenId()
    pad_token, pad_token_id = SpecialToken(), SpecialTokenId()
    cls_token, cls_token_id = SpecialToken(), SpecialTokenId()
    mask_token, mask_token_id = SpecialToken(), SpecialTokenId()

    def __init__(self, backend: RustTokenizer) -> None:
        self.backend_tokenizer = backend
        self.special_tokens_map: dict[str, str] = {}
        self.extra_special_tokens: list[str] = []

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=True)

    @property
    def vocab_size(self) -> int:
        """The number of tokens without the added ones; `len(tokenizer)` counts all."""
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=False)

    def get_vocab(self) -> dict[str, int]:
        """Return all tokens with their ids."""
        return self.backend_tokenizer.get_vocab(with_added_tokens=True)

    @property
    def vocab(self) -> dict[str, int]:
        """All tokens with their ids."""
        return self.get_vocab()

    def get_added_vocab(self) -> dict[str, int]:
        """Return the added tokens with their ids; special tokens of the vocabulary itself are among them."""
        added = self.backend_tokenizer.get_added_tokens_decoder()
        return {added[i].content: i for i in sorted(added)}

    @overload
    def convert_tokens_to_ids(self, tokens: str) -> int | None: ...
    @overload
    def convert_tokens_to_ids(self, tokens: list[str] | tuple[str, ...]) -> list[int | None]: ...
    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """Return the id of a token, or a list of ids; that of `unk_token`, if there is one, for unknown tokens."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        unknown = self.special_tokens_map.get("unk_token")
        known = self.backend_tokenizer.token_to_id(tokens)
        return self.backend_tokenizer.token_to_id(unknown) if known is None and unknown is not None else known

    @overload
    def convert_ids_to_tokens(self, ids: int, skip_special_tokens: bool = False) -> str: ...
    @overload
    def convert_ids_to_tokens(self, ids: Sequence[int], skip_special_tokens: bool = False) -> list[str]: ...
    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> str | list[str]:
        """Return the token of an id, or a list of tokens.

        Raises:
            TokenizerError: If an id is outside the vocabulary.
        """
        if isinstance(ids, int):
            token = self.backend_tokenizer.id_to_token(ids) if ids >= 0 else None
            if token is None:
                raise TokenizerError(f"There is no token {ids}: the vocabulary has {len(self)} tokens.")
            return token
        skipped = set(self.all_special_ids) if skip_special_tokens else ()
        return [self.convert_ids_to_tokens(i) for i in id_rows(ids)[0][0] if i not in skipped]

    def _tokens_of(self, ids: Sequence[int], skip_special_tokens: bool = False) -> list[str]:
        """Return the tokens of ids, the unknown token for ids outside the vocabulary."""
        skipped = set(self.all_special_ids) if skip_special_tokens else ()
        return [self.backend_tokenizer.id_to_token(i) or self.unk_token or "" for i in ids if i not in skipped]

    def add_tokens(
        self, new_tokens: str | AddedToken | Sequence[str | AddedToken], special_tokens: bool = False
    ) -> int:
        """Add tokens that are never split, and return the number of new ones.

        The embeddings of the model then need `len(tokenizer)` rows.
        """
        tokens = [new_tokens] if isinstance(new_tokens, (str, AddedToken)) else list(new_tokens)
        before = len(self)
        if special_tokens:
            self.backend_tokenizer.add_special_tokens(tokens)
        else:
            self.backend_tokenizer.add_tokens(tokens)
        return len(self) - before

    def add_special_tokens(
        self, special_tokens_dict: Mapping[str, Any], replace_extra_special_tokens: bool = True
    ) -> int:
        """Give tokens a role, add those that are not in the vocabulary, and return the number of new ones.

        Args:
            special_tokens_dict: Tokens by role (`"pad_token"`, …), and under `"additional_special_tokens"` or
                `"extra_special_tokens"` a list of tokens without a role.
            replace_extra_special_tokens: Whether that list replaces the current one or extends it.

        Raises:
            TokenizerError: If a role is unknown.
        """
        given = dict(special_tokens_dict)
        extra = given.pop("extra_special_tokens", None) or given.pop("additional_special_tokens", None) or []
        given.pop("additional_special_tokens", None)
        for role in given:
            if role not in ROLES:
                raise TokenizerError(f"{role!r} is not a role of a special token.{did_you_mean(role, ROLES)}")
        known = {token.content: token for token in self.backend_tokenizer.get_added_tokens_decoder().values()}
        tokens = {role: added_token(value, f"`{role}`", known) for role, value in given.items()}
        more = [added_token(value, "`extra_special_tokens`", known) for value in extra]
        new = self.add_tokens([*tokens.values(), *more], special_tokens=True)
        self.special_tokens_map.update({role: token.content for role, token in tokens.items()})
        kept = [] if replace_extra_special_tokens and more else self.extra_special_tokens
        self.extra_special_tokens = list(dict.fromkeys([*kept, *(token.content for token in more)]))
        return new

    def set_role(self, role: str, value: str | AddedToken | None) -> None:
        """Set the token of a role, as `tokenizer.pad_token = value` does.

        A token that is not in the vocabulary gets the id of the unknown token, with a warning.

        Raises:
            TokenizerError: If the token is not in the vocabulary and there is no unknown token.
        """
        if value is None:
            self.special_tokens_map.pop(role, None)
            return
        token = added_token(value, f"`{role}`")
        if self.backend_tokenizer.token_to_id(token.content) is None:
            remedy = f'Add it with `tokenizer.add_special_tokens({{"{role}": {token.content!r}}})`.'
            if role == "unk_token" or self.unk_token_id is None:
                raise TokenizerError(f"`{role}` cannot be {token.content!r}, which is not in the vocabulary. {remedy}")
            _log.warning(
                "`%s` = %r is not in the vocabulary and gets the id of the unknown token (%d). %s",
                role, token.content, self.unk_token_id, remedy,
            )  # fmt: skip
            self.special_tokens_map[role] = token.content
            return
        self.add_special_tokens({role: token})

    @property
    def all_special_tokens(self) -> list[str]:
        """The tokens that `skip_special_tokens` skips: those with a role, then the extra ones, without duplicates."""
        named = [self.special_tokens_map[role] for role in ROLES if role in self.special_tokens_map]
        return list(dict.fromkeys(named + self.extra_special_tokens))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of `all_special_tokens`."""
        return [i for i in map(self.backend_tokenizer.token_to_id, self.all_special_tokens) if i is not None]

    @property
    def additional_special_tokens(self) -> list[str]:
        """The name of `extra_special_tokens` in `transformers` 4."""
        return self.extra_special_tokens

    def _pad_id(self) -> int:
        pad = self.pad_token_id
        if pad is None:
            raise TokenizerError(
                "Padding needs a pad token, and this tokenizer has none. Choose one (`tokenizer.pad_token = "
                'tokenizer.eos_token`) or add one (`tokenizer.add_special_tokens({"pad_token": "[PAD]"})`).'
            )
        return pad

    def _added_tokens(self) -> dict[int, dict[str, Any]]:
        """Return the fields of the added tokens by id."""
        added = self.backend_tokenizer.get_added_tokens_decoder()
        return {i: added_token_fields(token) for i, token in added.items()}

    def __getattr__(self, name: str) -> Any:
        # Called only for names that do not exist; the beginning of a name is completed first.
        known = [other for other in dir(type(self)) if not other.startswith("_")]
        longer = [other for other in known if other.startswith(name)]
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}.{did_you_mean(name, longer or known)}"
        )
