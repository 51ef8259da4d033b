"""The tokenizer: texts to token ids and back, with the names of the seed (`input_ids`, `pad_token_id`, `batch_decode`).

Lives here: what all tokenizers share. How one is made from the files of a folder is in `vocab_files`; what a few of
them do differently is in `ctc`, `mbart` and `whisper`.

Padding and truncation are arguments of a call and leave no trace, so threads may share a tokenizer.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

from tokenizers import AddedToken, Encoding, processors
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models as rust_models

from dragoman.batch import Batch, to_framework
from dragoman.errors import TokenizerError, did_you_mean
from dragoman.files import as_path, write_bytes, write_json
from dragoman.text.clean_up import clean_up_tokenization
from dragoman.text.ids import id_array, id_rows, pad_rows, padded_length
from dragoman.text.pieces import PythonPieces, with_pieces, without_pieces
from dragoman.text.settings import NO_LIMIT, NOT_SAVED, extra_tokens, flag, max_length, side
from dragoman.text.special_tokens import ROLES, SpecialToken, SpecialTokenId, added_token, added_token_fields

__all__ = ["Tokenizer", "template"]


class Tokenizer:
    """Turns texts into token ids and back.

    Args:
        backend: The engine, from the `tokenizers` library.
        settings: The fields of tokenizer_config.json: the special tokens (`pad_token`, …, `additional_special_tokens`),
            `model_max_length`, `padding_side`, `truncation_side`, `clean_up_tokenization_spaces`. Others are kept and
            saved.
        tokenizer_class: The name under which Hugging Face's library knows such a tokenizer.
        pieces: Cuts the text where the engine cannot.
        vocabulary: Files that are saved as they are; without any, the engine is saved as tokenizer.json.

    Raises:
        TokenizerError: If a setting is malformed.
    """

    model_input_names = ("input_ids", "attention_mask")

    bos_token, bos_token_id = SpecialToken(), SpecialTokenId()
    eos_token, eos_token_id = SpecialToken(), SpecialTokenId()
    unk_token, unk_token_id = SpecialToken(), SpecialTokenId()
    sep_token, sep_token_id = SpecialToken(), SpecialTokenId()
    pad_token, pad_token_id = SpecialToken(), SpecialTokenId()
    cls_token, cls_token_id = SpecialToken(), SpecialTokenId()
    mask_token, mask_token_id = SpecialToken(), SpecialTokenId()

    def __init__(
        self,
        backend: RustTokenizer,
        settings: Mapping[str, Any] | None = None,
        *,
        tokenizer_class: str = "PreTrainedTokenizerFast",
        pieces: PythonPieces | None = None,
        vocabulary: Mapping[str, bytes] | None = None,
    ) -> None:
        settings = dict(settings or {})
        backend.no_padding()  # a tokenizer.json may bring both; here they are arguments of a call
        backend.no_truncation()
        self.backend_tokenizer = with_pieces(backend, pieces)
        self.init_kwargs = settings
        self.tokenizer_class = tokenizer_class
        self.padding_side = side(settings, "padding_side")
        self.truncation_side = side(settings, "truncation_side")
        self.model_max_length = max_length(settings)
        self.clean_up_tokenization_spaces = bool(flag(settings, "clean_up_tokenization_spaces"))
        self.special_tokens_map: dict[str, str] = {}
        self.extra_special_tokens: list[str] = []
        self._pieces = pieces
        self._vocabulary = dict(vocabulary or {})
        roles = {role: settings[role] for role in ROLES if settings.get(role) is not None}
        self.add_special_tokens(roles | {"extra_special_tokens": extra_tokens(settings)})

    # ---- text to ids

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        *,
        text_target: str | Sequence[str] | None = None,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool | None = None,
    ) -> Batch:
        """Encode one text or several.

        Args:
            text: What to encode.
            text_target: The same in the target language, for tokenizers that have one (mBART). Beside `text`, its ids
                are the `labels` of the result; alone, its `input_ids`.
            add_special_tokens: Put the model's own tokens around each text, for instance `[CLS]` and `[SEP]`.
            padding: `True` or `"longest"` pads to the longest row, `"max_length"` to `max_length`, `False` not at all.
            truncation: Cut what exceeds `max_length` tokens, special tokens included. `None` stands for `True` if
                `max_length` is given and `padding` is not.
            max_length: In tokens; by default `model_max_length`.
            pad_to_multiple_of: Round the padded length up.
            padding_side: `"right"` or `"left"`; by default the tokenizer's own.
            return_tensors: `"np"`, `"pt"` or `"jax"` for arrays `[batch, length]`; `None` for lists, which have no
                batch dimension if `text` is a single text.
            return_attention_mask: Whether to add `attention_mask`: 1 for tokens, 0 for padding; by default it is.

        Raises:
            TokenizerError: If something else than texts comes, if padding is asked for and there is no pad token, or if
                rows of unequal lengths should become an array.
        """
        if truncation is None:
            truncation = max_length is not None and padding is False
        limit = self._limit(max_length) if truncation not in (False, "do_not_truncate") else None

        def encode(texts: Any, *, target: bool) -> Batch:
            rows = self._encode(texts, limit=limit, add_special_tokens=add_special_tokens, target=target)
            batch = self.pad(
                {"input_ids": rows},
                padding=padding,
                max_length=max_length,
                pad_to_multiple_of=pad_to_multiple_of,
                padding_side=padding_side,
                return_attention_mask=return_attention_mask,
                return_tensors=return_tensors,
            )
            single = isinstance(texts, str) and return_tensors is None
            return Batch({name: value[0] for name, value in batch.items()}) if single else batch

        if text is None:
            return encode(text_target, target=True)
        batch = encode(text, target=False)
        if text_target is not None:
            batch["labels"] = encode(text_target, target=True)["input_ids"]
        return batch

    def encode(self, text: str | Sequence[str], **options: Any) -> Any:
        """Return the `input_ids` of a call alone; `options` are those of a call."""
        return self(text, **options)["input_ids"]

    def tokenize(self, text: str, *, add_special_tokens: bool = False) -> list[str]:
        """Return the tokens of one text as the vocabulary writes them."""
        ids: list[int] = self.encode(text, add_special_tokens=add_special_tokens)
        return self.convert_ids_to_tokens(ids)

    def pad(
        self,
        encoded_inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> Batch:
        """Make encoded texts equally long.

        Args:
            encoded_inputs: `input_ids` and perhaps `attention_mask`: a mapping of rows, or a list of mappings.
            padding: As in a call; so are the other arguments.
            max_length: For `padding="max_length"`.
            pad_to_multiple_of: Round the padded length up.
            padding_side: `"right"` or `"left"`.
            return_attention_mask: Whether to add `attention_mask`.
            return_tensors: `"np"`, `"pt"`, `"jax"` or `None`.

        Raises:
            TokenizerError: If there are no `input_ids`, or no pad token to pad with.
        """
        if not isinstance(encoded_inputs, Mapping):
            names = encoded_inputs[0] if encoded_inputs else ["input_ids"]
            encoded_inputs = {name: [item[name] for item in encoded_inputs] for name in names}
        if "input_ids" not in encoded_inputs:
            raise TokenizerError(f"`pad` needs `input_ids`, but got only: {', '.join(encoded_inputs) or 'nothing'}.")
        rows, batched = id_rows(encoded_inputs["input_ids"])
        if rows == [[]] and not batched:  # a batch of nothing
            rows, batched = [], True
        masks = id_rows(encoded_inputs["attention_mask"])[0] if "attention_mask" in encoded_inputs else None
        masks = masks or [[1] * len(row) for row in rows]
        length = padded_length(rows, padding, self._limit(max_length), pad_to_multiple_of)
        if length is not None:
            where = side({"padding_side": padding_side or self.padding_side}, "padding_side")
            rows = pad_rows(rows, length, self._pad_id(), where)
            masks = pad_rows(masks, length, 0, where)
        values = {"input_ids": rows} | ({} if return_attention_mask is False else {"attention_mask": masks})
        if return_tensors is not None:
            return Batch({name: to_framework(id_array(value), return_tensors) for name, value in values.items()})
        return Batch(values if batched else {name: value[0] for name, value in values.items()})

    def _encode(self, texts: Any, *, limit: int | None, add_special_tokens: bool, target: bool) -> list[list[int]]:
        if isinstance(texts, (str, Mapping)) or not isinstance(texts, Iterable):
            texts = [texts]
        texts = [_text(text) for text in texts]
        around = self._template(target=target) if add_special_tokens else None
        room = None
        if limit is not None:
            room = limit - (0 if around is None else around.num_special_tokens_to_add(False))
            if room < 0:
                raise TokenizerError(f"`max_length` is {limit}, which leaves no room beside the special tokens.")
        try:
            encodings: list[Encoding] = self._engine(target=target).encode_batch_fast(texts, add_special_tokens=False)
        except Exception as error:
            raise TokenizerError(f"The text cannot be encoded: {str(error).rpartition('Error: ')[2]}") from error
        rows = []
        for encoding in encodings:
            if room is not None:
                encoding.truncate(room, direction=self.truncation_side)
            rows.append((encoding if around is None else around.process(encoding)).ids)
        return rows

    def _engine(self, *, target: bool) -> RustTokenizer:
        """Return what cuts a text."""
        return self.backend_tokenizer

    def _template(self, *, target: bool) -> Any:
        """Return what puts the special tokens around a text, or `None`; a `tokenizers.processors.PostProcessor`."""
        return self.backend_tokenizer.post_processor

    def _limit(self, max_length: int | None) -> int | None:
        length = self.model_max_length if max_length is None else max_length
        if isinstance(length, bool) or not isinstance(length, int) or length < 0:
            raise TokenizerError(f"`max_length` must be a number of tokens, 0 or more, but is {length!r}.")
        return length if length < NO_LIMIT else None

    def _pad_id(self) -> int:
        pad = self.pad_token_id
        if pad is None:
            raise TokenizerError(
                "Padding needs a pad token, and this tokenizer has none. Choose one (`tokenizer.pad_token = "
                'tokenizer.eos_token`) or add one (`tokenizer.add_special_tokens({"pad_token": "[PAD]"})`).'
            )
        return pad

    # ---- ids to text

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **options: Any,
    ) -> Any:
        """Turn ids back into text.

        Args:
            token_ids: The ids of one text, or of several: lists, arrays or tensors, `[length]` or `[batch, length]`.
            skip_special_tokens: Leave special tokens out.
            clean_up_tokenization_spaces: Take back the spaces before English punctuation and contractions; by
                default the attribute of the same name, which does nothing for BPE, whose spaces are the text's own.
            options: What tokenizers of some kinds understand besides (`Wav2Vec2CTCTokenizer`, `WhisperTokenizer`).

        Returns:
            A string; for several texts a list of strings.

        Raises:
            TokenizerError: If the ids are not whole numbers or negative.
        """
        rows, batched = id_rows(token_ids)
        clean = clean_up_tokenization_spaces
        if clean is None:
            clean = self.clean_up_tokenization_spaces and not isinstance(self.backend_tokenizer.model, rust_models.BPE)
        texts = [self._decode(row, skip_special_tokens, clean, **options) for row in rows]
        return texts if batched else texts[0]

    def batch_decode(
        self,
        sequences: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **options: Any,
    ) -> Any:
        """Turn several rows of ids into a list of texts; see `decode`."""
        texts = self.decode(sequences, skip_special_tokens, clean_up_tokenization_spaces, **options)
        return [texts] if isinstance(texts, str) else texts

    def _decode(self, ids: list[int], skip_special_tokens: bool, clean: bool) -> Any:
        text = self.backend_tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
        return clean_up_tokenization(text) if clean else text

    # ---- the vocabulary

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=True)

    @property
    def vocab_size(self) -> int:
        """The number of tokens without the added ones; `len(tokenizer)` counts all."""
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=False)

    def get_vocab(self) -> dict[str, int]:
        """Return every token with its id."""
        return self.backend_tokenizer.get_vocab(with_added_tokens=True)

    @overload
    def convert_tokens_to_ids(self, tokens: str) -> int | None: ...
    @overload
    def convert_tokens_to_ids(self, tokens: list[str] | tuple[str, ...]) -> list[int | None]: ...
    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """Return the id of a token, or a list of them; an unknown token has the id of `unk_token`, if there is one."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        known = self.backend_tokenizer.token_to_id(tokens)
        return self.unk_token_id if known is None else known

    @overload
    def convert_ids_to_tokens(self, ids: int, skip_special_tokens: bool = False) -> str: ...
    @overload
    def convert_ids_to_tokens(self, ids: Sequence[int], skip_special_tokens: bool = False) -> list[str]: ...
    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> str | list[str]:
        """Return the token with an id, or a list of them.

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

    def _written(self, ids: Sequence[int], skip_special_tokens: bool = False) -> list[str]:
        """Return the tokens with some ids; where an id has none, the unknown token."""
        skipped = set(self.all_special_ids) if skip_special_tokens else ()
        return [self.backend_tokenizer.id_to_token(i) or self.unk_token or "" for i in ids if i not in skipped]

    def add_tokens(
        self, new_tokens: str | AddedToken | Sequence[str | AddedToken], special_tokens: bool = False
    ) -> int:
        """Add tokens that are never cut, and return how many were new.

        The model's embeddings then need `len(tokenizer)` rows.
        """
        tokens = [new_tokens] if isinstance(new_tokens, (str, AddedToken)) else list(new_tokens)
        before = len(self)
        if special_tokens:
            self.backend_tokenizer.add_special_tokens(tokens)
        else:
            self.backend_tokenizer.add_tokens(tokens)
        return len(self) - before

    # ---- special tokens

    def add_special_tokens(
        self, special_tokens_dict: Mapping[str, Any], replace_extra_special_tokens: bool = True
    ) -> int:
        """Give tokens a role, adding to the vocabulary what it lacks, and return how many were new.

        Args:
            special_tokens_dict: Roles (`"pad_token"`, …) to tokens, and `"additional_special_tokens"` or
                `"extra_special_tokens"` to a list of tokens without a role.
            replace_extra_special_tokens: Whether that list replaces the present one or continues it.
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
        """Do what `tokenizer.pad_token = value` does.

        Raises:
            TokenizerError: If the vocabulary has no such token: it would silently have the id of the unknown token.
        """
        if value is None:
            self.special_tokens_map.pop(role, None)
            return
        token = added_token(value, f"`{role}`")
        if self.backend_tokenizer.token_to_id(token.content) is None:
            raise TokenizerError(
                f"`{role}` cannot be {token.content!r}, which is not in the vocabulary. "
                f'Add it with `tokenizer.add_special_tokens({{"{role}": {token.content!r}}})`.'
            )
        self.add_special_tokens({role: token})

    @property
    def all_special_tokens(self) -> list[str]:
        """The tokens that `skip_special_tokens` leaves out: those with a role, then the extra ones, each once."""
        named = [self.special_tokens_map[role] for role in ROLES if role in self.special_tokens_map]
        return list(dict.fromkeys(named + self.extra_special_tokens))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of `all_special_tokens`."""
        return [i for i in map(self.backend_tokenizer.token_to_id, self.all_special_tokens) if i is not None]

    @property
    def additional_special_tokens(self) -> list[str]:
        """Transformers 4's name for `extra_special_tokens`."""
        return self.extra_special_tokens

    def __getattr__(self, name: str) -> Any:
        # Python comes here only for names that do not exist. A name that was cut short is completed rather than
        # guessed.
        known = [other for other in dir(type(self)) if not other.startswith("_")]
        longer = [other for other in known if other.startswith(name)]
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}.{did_you_mean(name, longer or known)}"
        )

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(tokenizer_class={self.tokenizer_class!r}, vocab_size={self.vocab_size}, "
            f"model_max_length={self.model_max_length}, special_tokens={self.special_tokens_map})"
        )

    # ---- keeping it

    def __getstate__(self) -> dict[str, Any]:
        backend = self.backend_tokenizer if self._pieces is None else without_pieces(self.backend_tokenizer)
        return self.__dict__ | {"backend_tokenizer": backend}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with_pieces(self.backend_tokenizer, self._pieces)

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *, processor_class: str | None = None
    ) -> tuple[str, ...]:
        """Write the files that this library and Hugging Face's read back, and return their paths.

        The vocabulary (tokenizer.json, or the files that the tokenizer was made from where those say more),
        tokenizer_config.json and special_tokens_map.json.
        """
        folder = as_path(save_directory, "`save_directory`")
        vocabulary = self._vocabulary
        if not vocabulary:
            self.backend_tokenizer.post_processor = self._template(target=False)  # for readers that take it from there
            vocabulary = {"tokenizer.json": self.backend_tokenizer.to_str(pretty=True).encode()}
        for name, content in vocabulary.items():
            write_bytes(folder / name, content)
        added = {i: added_token_fields(t) for i, t in self.backend_tokenizer.get_added_tokens_decoder().items()}
        by_content = {fields["content"]: fields for fields in added.values()}
        roles = {role: by_content[token] for role, token in self.special_tokens_map.items()}
        extra = {"additional_special_tokens": self.extra_special_tokens} if self.extra_special_tokens else {}
        write_json(folder / "special_tokens_map.json", roles | extra)
        config = self._config() | extra | {"added_tokens_decoder": added}
        write_json(
            folder / "tokenizer_config.json", config | ({"processor_class": processor_class} if processor_class else {})
        )
        return tuple(str(folder / n) for n in (*vocabulary, "special_tokens_map.json", "tokenizer_config.json"))

    def _config(self) -> dict[str, Any]:
        """Return tokenizer_config.json without the tokens that have no role."""
        dropped = {*ROLES, *NOT_SAVED}
        kept = {name: value for name, value in self.init_kwargs.items() if name not in dropped and name[:1] != "_"}
        return (
            kept
            | self.special_tokens_map
            | {
                "clean_up_tokenization_spaces": self.clean_up_tokenization_spaces,
                "model_max_length": self.model_max_length,
                "padding_side": self.padding_side,
                "tokenizer_class": self.tokenizer_class,
                "truncation_side": self.truncation_side,
            }
        )


def template(backend: RustTokenizer, around: Sequence[str | None]) -> Any:
    """Return a post-processor that puts special tokens around a text (`"$A"`); tokens that are `None` are left out.

    Raises:
        TokenizerError: If the vocabulary lacks one of the tokens.
    """
    parts = [part for part in around if part is not None]
    ids = {part: backend.token_to_id(part) for part in parts if part != "$A"}
    missing = [token for token, i in ids.items() if i is None]
    if missing:
        raise TokenizerError(f"The vocabulary lacks the special tokens {', '.join(missing)}.")
    return processors.TemplateProcessing(single=parts, special_tokens=list(ids.items()))


def _text(text: object) -> str:
    if not isinstance(text, str):
        raise TokenizerError(f"A tokenizer needs strings, but got a {type(text).__name__}: {text!r:.80}.")
    return text
