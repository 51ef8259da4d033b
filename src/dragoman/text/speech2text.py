"""Tokenizers of SentencePiece pieces with ids of their own: Speech to Text's, in some models with a language token."""

from collections.abc import Sequence
from typing import Any

from tokenizers import processors

from dragoman.errors import TokenizerError, did_you_mean
from dragoman.text.clean_up import clean_up_tokenization
from dragoman.text.pieces import NumberedPieces
from dragoman.text.tokenizer import Tokenizer

# The values of `lang_codes` in tokenizer_config.json.
LANGUAGES = {"mustc": ("pt", "fr", "ru", "nl", "ro", "it", "es", "de")}


class NumberedTokenizer(Tokenizer):
    """SentencePiece with the ids of another file, which joins the pieces between special tokens."""

    after_special = " "

    @property
    def _numbered(self) -> NumberedPieces:
        assert self._pieces is not None
        assert isinstance(self._pieces.encode, NumberedPieces)
        return self._pieces.encode

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Return the text of tokens; special tokens keep their case."""
        special = set(self.all_special_tokens)
        text, run = "", list[str]()
        for token in tokens:
            if token not in special:
                run.append(token)
            else:
                text, run = f"{text}{self._joined(run)}{token}{self.after_special}", []
        return (text + self._joined(run)).strip()

    def _decode(self, ids: list[int], skip_special_tokens: bool, clean: bool) -> str:
        special = set(self.all_special_tokens) if skip_special_tokens else ()
        text = self.convert_tokens_to_string([token for token in self._tokens_of(ids) if token not in special])
        return clean_up_tokenization(text) if clean else text

    def _joined(self, pieces: list[str]) -> str:
        text = str(self._numbered.processor.decode(pieces))
        return text.upper() if self.init_kwargs.get("do_upper_case") else text


class Speech2TextTokenizer(NumberedTokenizer):
    """`text </s>`, or `<lang:de> text </s>` if the settings have languages (`lang_codes`).

    `tgt_lang` is the language of the texts and can be set at any time. With `do_upper_case` decoded texts are in upper
    case, except for special tokens.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        languages = self.lang_code_to_id
        given = self.init_kwargs.get("tgt_lang") if languages else None
        self._tgt_lang = next(iter(languages), None) if given is None else self._language(given)

    @property
    def lang_code_to_id(self) -> dict[str, int]:
        """The id of each language token in the SentencePiece model, for `forced_bos_token_id`."""
        languages = LANGUAGES.get(str(self.init_kwargs.get("lang_codes")), ())
        return {language: self._numbered.processor.piece_to_id(f"<lang:{language}>") for language in languages}

    @property
    def tgt_lang(self) -> str | None:
        """The language of the texts; `None` for a tokenizer of one language."""
        return self._tgt_lang

    @tgt_lang.setter
    def tgt_lang(self, language: str) -> None:
        self._tgt_lang = self._language(language)

    def _language(self, language: str) -> str:
        known = self.lang_code_to_id
        if language not in tuple(known):  # a tuple, since `language` may be unhashable
            raise TokenizerError(
                f"`tgt_lang` must be one of {', '.join(known) or 'the languages, of which there are none'}, but is "
                f"{language!r}.{did_you_mean(str(language), known)}"
            )
        return language

    def _template(self, *, target: bool) -> Any:
        if self.tgt_lang is None:
            return super()._template(target=target)
        name, eos = f"<lang:{self.tgt_lang}>", self.eos_token or ""
        # under another name in the template, whose syntax has colons
        language = {"id": "language", "ids": [self.lang_code_to_id[self.tgt_lang]], "tokens": [name]}
        special = [language, (eos, self.eos_token_id)]
        return processors.TemplateProcessing(single=["language", "$A", eos], special_tokens=special)

    def _config(self) -> dict[str, Any]:
        return super()._config() | {"tgt_lang": self.tgt_lang}
