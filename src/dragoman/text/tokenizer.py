"""The tokenizer: texts to token ids and back, with the names of `transformers`.

This is the base of all tokenizers; reading one from the files of a folder is in `vocab_files`, and classes with other
templates or decoding are in `ctc`, `marian`, `mbart`, `nllb`, `speech2text`, `whisper` and `words`.

Padding and truncation are arguments of a call and do not change the tokenizer, so threads may share one.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tokenizers import Tokenizer as RustTokenizer

from dragoman.batch import Batch, to_framework
from dragoman.errors import TokenizerError
from dragoman.files import as_path, write_bytes, write_json
from dragoman.publishing import PushMethods
from dragoman.text.decoding import Decoder
from dragoman.text.encodings import FILL, JOINED, columns_of, pairs_of, truncate
from dragoman.text.ids import id_array, id_rows, pad_rows, padded_length
from dragoman.text.pieces import PythonPieces, with_pieces, without_pieces
from dragoman.text.rust_errors import rust_errors
from dragoman.text.settings import extra_tokens, flag, max_length, saved_settings, side, token_limit
from dragoman.text.special_tokens import ROLES


class Tokenizer(Decoder, PushMethods):
    """Converts texts to token ids and back.

    Args:
        backend: The engine, from the `tokenizers` library.
        settings: The fields of tokenizer_config.json: the special tokens (`pad_token`, …, `additional_special_tokens`),
            `model_max_length`, `padding_side`, `truncation_side`, `clean_up_tokenization_spaces`. Others are kept and
            saved again.
        tokenizer_class: The name of the class in `transformers`.
        pieces: Splits the text if the engine cannot.
        vocabulary: Files that are saved unchanged; without them, the engine is saved as tokenizer.json.

    Raises:
        TokenizerError: If a setting is malformed.
    """

    model_input_names: Sequence[str] = ("input_ids", "attention_mask")

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
        backend.no_padding()  # a tokenizer.json may set both; here they are arguments of a call
        backend.no_truncation()
        super().__init__(with_pieces(backend, pieces))
        self.init_kwargs = settings
        self.tokenizer_class = tokenizer_class
        self.padding_side = side(settings, "padding_side")
        self.truncation_side = side(settings, "truncation_side")
        self.model_max_length = max_length(settings)
        self.clean_up_tokenization_spaces = bool(flag(settings, "clean_up_tokenization_spaces"))
        names = settings.get("model_input_names")
        self.model_input_names = list(names if isinstance(names, (list, tuple)) else type(self).model_input_names)
        self._in_target = False
        self._pieces = pieces
        self._vocabulary = dict(vocabulary or {})
        roles = {role: settings[role] for role in ROLES if settings.get(role) is not None}
        self.add_special_tokens(roles | {"extra_special_tokens": extra_tokens(settings)})

    def __call__(
        self,
        text: Any = None,
        text_pair: str | Sequence[str] | None = None,
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
        return_token_type_ids: bool | None = None,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        verbose: bool = True,
    ) -> Batch:
        """Encode one text or several, or pairs of texts.

        Args:
            text: The text or texts; or a list of pairs.
            text_pair: The second text of each pair.
            text_target: Texts in the target language, for tokenizers that have one (mBART). Together with `text`, their
                ids are the `labels` of the result; alone, its `input_ids`.
            add_special_tokens: Put the model's special tokens around each text, for instance `[CLS]` and `[SEP]`.
            padding: `True` or `"longest"` pads to the longest row, `"max_length"` to `max_length`, `False` not at all.
            truncation: Truncate to `max_length` tokens, including special tokens. `None` means `True` if `max_length`
                is given and `padding` is not. Of pairs, `True` or `"longest_first"` truncates the longer text first,
                `"only_first"` and `"only_second"` one of them.
            max_length: In tokens; by default `model_max_length`.
            pad_to_multiple_of: Round the padded length up to a multiple.
            padding_side: `"right"` or `"left"`; by default the attribute of the same name.
            return_tensors: `"np"`, `"pt"` or `"jax"` for arrays `[batch, length]`; `None` for lists, which have no
                batch dimension if `text` is a single text.
            return_attention_mask: Whether to return `attention_mask`, 1 for tokens, 0 for padding; by default it is.
            return_token_type_ids: Whether to return `token_type_ids`, 1 for the second text of a pair; by default for
                pairs, if the model takes them.
            return_special_tokens_mask: Whether to return `special_tokens_mask`, 1 for special tokens.
            return_offsets_mapping: Whether to return `offset_mapping`, the (start, end) of each token in the text.
            verbose: Has no effect.

        Raises:
            TokenizerError: If `text` is not text, if there is no pad token to pad with, if rows of different lengths
                are to become an array, or if offsets are not known (see `is_fast`).
        """
        if truncation is None:
            truncation = max_length is not None and padding is False
        if return_offsets_mapping and not self.is_fast:
            raise TokenizerError(f"A {self.tokenizer_class} that splits texts in Python has no offsets.")
        limit = token_limit(max_length, self.model_max_length) if truncation not in (False, "do_not_truncate") else None

        def encode(texts: Any, pair: Any, *, target: bool) -> Batch:
            firsts, seconds = pairs_of(texts, pair)
            around = self._template(target=target) if add_special_tokens else None
            types = return_token_type_ids
            if types is None:
                types = seconds is not None and "token_type_ids" in self.model_input_names
            chosen = {"token_type_ids": types, "special_tokens_mask": return_special_tokens_mask}
            chosen["offset_mapping"] = return_offsets_mapping
            names = ["input_ids", *(name for name, wanted in chosen.items() if wanted)]
            rows = self._encode(firsts, seconds, around, limit, truncation or True, target=target, names=names)
            batch = self.pad(
                rows,
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
            return encode(text_target, None, target=True)
        batch = encode(text, text_pair, target=self._in_target)
        if text_target is not None:
            batch["labels"] = encode(text_target, None, target=True)["input_ids"]
        return batch

    def encode(self, text: Any, text_pair: str | Sequence[str] | None = None, **options: Any) -> Any:
        """Return only the `input_ids` of a call; `options` are those of a call."""
        return self(text, text_pair, **options)["input_ids"]

    def tokenize(self, text: str, *, add_special_tokens: bool = False) -> list[str]:
        """Return the tokens of one text."""
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
        """Pad encoded texts to the same length. The arguments are those of a call.

        Args:
            encoded_inputs: `input_ids` and perhaps other results of a call: a mapping of rows, or a list of mappings.
            padding: Whether and how to pad.
            max_length: For `padding="max_length"`.
            pad_to_multiple_of: Round the padded length up to a multiple.
            padding_side: `"right"` or `"left"`.
            return_attention_mask: Whether to return `attention_mask`.
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
        if rows == [[]] and not batched:  # an empty batch
            rows, batched = [], True
        columns: dict[str, Any] = {"input_ids": rows}
        for name in (name for name in FILL if name in encoded_inputs):
            given = encoded_inputs[name]
            columns[name] = id_rows(given)[0] if name != "offset_mapping" else given if batched else [given]
        if return_attention_mask is False:
            columns.pop("attention_mask", None)
        elif not columns.get("attention_mask"):
            columns["attention_mask"] = [[1] * len(row) for row in rows]
        length = padded_length(rows, padding, token_limit(max_length, self.model_max_length), pad_to_multiple_of)
        if length is not None:
            sides = side({"padding_side": padding_side or self.padding_side}, "padding_side")
            fill = {"input_ids": self._pad_id(), **FILL}
            columns = {name: pad_rows(part, length, fill[name], sides) for name, part in columns.items()}
        if return_tensors is not None:
            return Batch({name: to_framework(id_array(part), return_tensors) for name, part in columns.items()})
        return Batch(columns if batched else {name: part[0] for name, part in columns.items()})

    def _encode(
        self,
        firsts: list[str],
        seconds: list[str] | None,
        around: Any,
        limit: int | None,
        strategy: bool | str,
        *,
        target: bool,
        names: list[str],
    ) -> dict[str, list[Any]]:
        """Return columns of texts, or of pairs, with the special tokens that `around` adds."""
        available = None
        if limit is not None:
            available = limit - (0 if around is None else around.num_special_tokens_to_add(seconds is not None))
            if available < 0:
                raise TokenizerError(f"`max_length` is {limit}, less than the number of special tokens.")
        engine = self._engine(target=target)
        encode = engine.encode_batch if "offset_mapping" in names else engine.encode_batch_fast
        texts = [firsts] if seconds is None else [firsts, seconds]
        rows = []
        with rust_errors("The text cannot be encoded", "Check the tokenizer's files."):
            encoded = [encode(part, add_special_tokens=False) for part in texts]
            for first, *others in zip(*encoded, strict=True):
                second = others[0] if others else None
                if available is not None:
                    truncate(first, second, available, strategy, self.truncation_side)
                whole = first if around is None and second is None else (around or JOINED).process(first, second)
                rows.append((whole, [part.offsets for part in (first, *others)] if "offset_mapping" in names else []))
        return columns_of(names, rows)

    @property
    def is_fast(self) -> bool:
        """Whether the Rust library splits texts; it then knows the offsets of tokens."""
        return self._pieces is None

    def _engine(self, *, target: bool) -> RustTokenizer:
        """Return the engine that splits a text; that of the target language for `target`."""
        return self.backend_tokenizer

    def _template(self, *, target: bool) -> Any:
        """Return the `tokenizers.processors.PostProcessor` that puts special tokens around a text, or `None`."""
        return self.backend_tokenizer.post_processor

    @contextmanager
    def as_target_tokenizer(self) -> Iterator[None]:
        """Encode the texts of calls as targets (see `text_target`), in all threads; deprecated: use `text_target`."""
        warnings.warn("`as_target_tokenizer` is deprecated: pass `text_target=…`.", FutureWarning, stacklevel=3)
        before, self._in_target = self._in_target, True
        try:
            yield
        finally:
            self._in_target = before

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(tokenizer_class={self.tokenizer_class!r}, vocab_size={self.vocab_size}, "
            f"model_max_length={self.model_max_length}, special_tokens={self.special_tokens_map})"
        )

    def __getstate__(self) -> dict[str, Any]:
        backend = self.backend_tokenizer if self._pieces is None else without_pieces(self.backend_tokenizer)
        return self.__dict__ | {"backend_tokenizer": backend}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with_pieces(self.backend_tokenizer, self._pieces)

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *, processor_class: str | None = None
    ) -> tuple[str, ...]:
        """Write the files that dragoman and `transformers` read back, and return their paths.

        These are the vocabulary (tokenizer.json, or the original files if the engine does not hold all of them),
        tokenizer_config.json and special_tokens_map.json.
        """
        folder = as_path(save_directory, "`save_directory`")
        vocabulary = self.save_vocabulary(folder)
        added = self._added_tokens()
        by_content = {fields["content"]: fields for fields in added.values()}
        roles = {role: by_content.get(token, token) for role, token in self.special_tokens_map.items()}
        extra = {"additional_special_tokens": self.extra_special_tokens} if self.extra_special_tokens else {}
        write_json(folder / "special_tokens_map.json", roles | extra)
        named = {"processor_class": processor_class} if processor_class else {}
        write_json(folder / "tokenizer_config.json", self._config() | extra | {"added_tokens_decoder": added} | named)
        return (*vocabulary, *(str(folder / name) for name in ("special_tokens_map.json", "tokenizer_config.json")))

    def save_vocabulary(
        self, save_directory: str | os.PathLike[str], filename_prefix: str | None = None
    ) -> tuple[str, ...]:
        """Write only the vocabulary, and return the paths of its files.

        Args:
            save_directory: The folder.
            filename_prefix: Stands before each name, with a hyphen between.
        """
        files = self._vocabulary
        if not files:
            self.backend_tokenizer.post_processor = self._template(target=False)  # for other readers
            files = {"tokenizer.json": self.backend_tokenizer.to_str(pretty=True).encode()}
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        paths = {as_path(save_directory, "`save_directory`") / (prefix + name): files[name] for name in files}
        for path, content in paths.items():
            write_bytes(path, content)
        return tuple(map(str, paths))

    def _config(self) -> dict[str, Any]:
        """Return tokenizer_config.json without the added tokens."""
        own = ("clean_up_tokenization_spaces", "model_max_length", "padding_side", "tokenizer_class", "truncation_side")
        return saved_settings(self.init_kwargs) | self.special_tokens_map | {name: getattr(self, name) for name in own}
