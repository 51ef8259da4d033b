"""The tokenizer: texts to token ids and back, with the names of `transformers`.

This is the base of all tokenizers; reading one from the files of a folder is in `vocab_files`, and classes with other
templates or decoding are in `ctc`, `marian`, `mbart`, `speech2text`, `whisper` and `words`.

Padding and truncation are arguments of a call and do not change the tokenizer, so threads may share one.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import Encoding
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models as rust_models

from dragoman.batch import Batch, to_framework
from dragoman.errors import TokenizerError
from dragoman.files import as_path, write_bytes, write_json
from dragoman.text.clean_up import clean_up_tokenization
from dragoman.text.ids import id_array, id_rows, pad_rows, padded_length
from dragoman.text.pieces import PythonPieces, with_pieces, without_pieces
from dragoman.text.settings import extra_tokens, flag, max_length, saved_settings, side, token_limit
from dragoman.text.special_tokens import ROLES
from dragoman.text.vocabulary import Vocabulary

__all__ = ["Tokenizer"]


class Tokenizer(Vocabulary):
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

    model_input_names = ("input_ids", "attention_mask")

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
        self._pieces = pieces
        self._vocabulary = dict(vocabulary or {})
        roles = {role: settings[role] for role in ROLES if settings.get(role) is not None}
        self.add_special_tokens(roles | {"extra_special_tokens": extra_tokens(settings)})

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
            text: The text or texts.
            text_target: Texts in the target language, for tokenizers that have one (mBART). Together with `text`, their
                ids are the `labels` of the result; alone, its `input_ids`.
            add_special_tokens: Put the model's special tokens around each text, for instance `[CLS]` and `[SEP]`.
            padding: `True` or `"longest"` pads to the longest row, `"max_length"` to `max_length`, `False` not at all.
            truncation: Truncate to `max_length` tokens, including special tokens. `None` means `True` if `max_length`
                is given and `padding` is not.
            max_length: In tokens; by default `model_max_length`.
            pad_to_multiple_of: Round the padded length up to a multiple.
            padding_side: `"right"` or `"left"`; by default the attribute of the same name.
            return_tensors: `"np"`, `"pt"` or `"jax"` for arrays `[batch, length]`; `None` for lists, which have no
                batch dimension if `text` is a single text.
            return_attention_mask: Whether to return `attention_mask`, 1 for tokens, 0 for padding; by default it is.

        Raises:
            TokenizerError: If `text` is not text, if there is no pad token to pad with, or if rows of different lengths
                are to become an array.
        """
        if truncation is None:
            truncation = max_length is not None and padding is False
        limit = token_limit(max_length, self.model_max_length) if truncation not in (False, "do_not_truncate") else None

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
        """Return only the `input_ids` of a call; `options` are those of a call."""
        return self(text, **options)["input_ids"]

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
            encoded_inputs: `input_ids` and perhaps `attention_mask`: a mapping of rows, or a list of mappings.
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
        masks = id_rows(encoded_inputs["attention_mask"])[0] if "attention_mask" in encoded_inputs else None
        masks = masks or [[1] * len(row) for row in rows]
        length = padded_length(rows, padding, token_limit(max_length, self.model_max_length), pad_to_multiple_of)
        if length is not None:
            sides = side({"padding_side": padding_side or self.padding_side}, "padding_side")
            rows, masks = pad_rows(rows, length, self._pad_id(), sides), pad_rows(masks, length, 0, sides)
        values = {"input_ids": rows} | ({} if return_attention_mask is False else {"attention_mask": masks})
        if return_tensors is not None:
            return Batch({name: to_framework(id_array(value), return_tensors) for name, value in values.items()})
        return Batch(values if batched else {name: value[0] for name, value in values.items()})

    def _encode(self, texts: Any, *, limit: int | None, add_special_tokens: bool, target: bool) -> list[list[int]]:
        texts = list(texts) if isinstance(texts, Iterable) and not isinstance(texts, (str, Mapping)) else [texts]
        for text in texts:
            if not isinstance(text, str):
                raise TokenizerError(f"A tokenizer needs strings, but got a {type(text).__name__}: {text!r:.80}.")
        around = self._template(target=target) if add_special_tokens else None
        available = None
        if limit is not None:
            available = limit - (0 if around is None else around.num_special_tokens_to_add(False))
            if available < 0:
                raise TokenizerError(f"`max_length` is {limit}, less than the number of special tokens.")
        try:
            encodings: list[Encoding] = self._engine(target=target).encode_batch_fast(texts, add_special_tokens=False)
        except Exception as error:
            raise TokenizerError(f"The text cannot be encoded: {str(error).rpartition('Error: ')[2]}") from error
        rows = []
        for encoding in encodings:
            if available is not None:
                encoding.truncate(available, direction=self.truncation_side)
            rows.append((encoding if around is None else around.process(encoding)).ids)
        return rows

    def _engine(self, *, target: bool) -> RustTokenizer:
        """Return the engine that splits a text; that of the target language for `target`."""
        return self.backend_tokenizer

    def _template(self, *, target: bool) -> Any:
        """Return the `tokenizers.processors.PostProcessor` that puts special tokens around a text, or `None`."""
        return self.backend_tokenizer.post_processor

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **options: Any,
    ) -> Any:
        """Convert ids to text.

        Args:
            token_ids: The ids of one text or of several: lists, arrays or tensors, `[length]` or `[batch, length]`.
            skip_special_tokens: Omit special tokens.
            clean_up_tokenization_spaces: Remove the spaces before English punctuation and contractions; by default the
                attribute of the same name, which has no effect on BPE, as it keeps the spaces of the text.
            options: Options of some classes (`Wav2Vec2CTCTokenizer`, `WhisperTokenizer`).

        Returns:
            A string; for several texts a list of strings.

        Raises:
            TokenizerError: If the ids are not whole numbers from 0 up.
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
        """Convert rows of ids to a list of texts; see `decode`."""
        texts = self.decode(sequences, skip_special_tokens, clean_up_tokenization_spaces, **options)
        return [texts] if isinstance(texts, str) else texts

    def _decode(self, ids: list[int], skip_special_tokens: bool, clean: bool) -> Any:
        text = self.backend_tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
        return clean_up_tokenization(text) if clean else text

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
        vocabulary = self._vocabulary
        if not vocabulary:
            self.backend_tokenizer.post_processor = self._template(target=False)  # for other readers
            vocabulary = {"tokenizer.json": self.backend_tokenizer.to_str(pretty=True).encode()}
        for name, content in vocabulary.items():
            write_bytes(folder / name, content)
        added = self._added_tokens()
        by_content = {fields["content"]: fields for fields in added.values()}
        roles = {role: by_content[token] for role, token in self.special_tokens_map.items()}
        extra = {"additional_special_tokens": self.extra_special_tokens} if self.extra_special_tokens else {}
        write_json(folder / "special_tokens_map.json", roles | extra)
        named = {"processor_class": processor_class} if processor_class else {}
        write_json(folder / "tokenizer_config.json", self._config() | extra | {"added_tokens_decoder": added} | named)
        return tuple(str(folder / n) for n in (*vocabulary, "special_tokens_map.json", "tokenizer_config.json"))

    def _config(self) -> dict[str, Any]:
        """Return tokenizer_config.json without the added tokens."""
        own = ("clean_up_tokenization_spaces", "model_max_length", "padding_side", "tokenizer_class", "truncation_side")
        return saved_settings(self.init_kwargs) | self.special_tokens_map | {name: getattr(self, name) for name in own}
