"""mBART's tokenizers: SentencePiece, with a language token around the text."""

from typing import Any

from dragoman.errors import TokenizerError, did_you_mean
from dragoman.text.special_tokens import template
from dragoman.text.tokenizer import Tokenizer

# In the order of their ids, after those of the pieces.
_FIRST_25 = (
    "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM ne_NP nl_XX "
    "ro_RO ru_RU si_LK tr_TR vi_VN zh_CN"
)
_NEXT_27 = (
    "af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF pt_XX sv_SE sw_KE ta_IN "
    "te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI"
)
MBART_LANGUAGES = tuple(_FIRST_25.split())
MBART50_LANGUAGES = MBART_LANGUAGES + tuple(_NEXT_27.split())


class MBartTokenizer(Tokenizer):
    """mBART-25: `text </s> language`.

    `src_lang` is the language of `tokenizer(text)`, `tgt_lang` that of `tokenizer(text_target=…)`; both can be set at
    any time.
    """

    default_language = "en_XX"
    language_first = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._src_lang = self._language(self.init_kwargs.get("src_lang") or self.default_language, "src_lang")
        self._tgt_lang = self._language(self.init_kwargs.get("tgt_lang"), "tgt_lang")

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages."""
        return MBART_LANGUAGES

    @property
    def lang_code_to_id(self) -> dict[str, int]:
        """The id of each language, for `forced_bos_token_id`."""
        known = ((code, self.backend_tokenizer.token_to_id(self.get_lang_token(code))) for code in self.languages)
        return {code: i for code, i in known if i is not None}

    def get_lang_token(self, lang: str) -> str:
        """Return the token of a language's code."""
        return lang

    @property
    def src_lang(self) -> str | None:
        """The language of the texts."""
        return self._src_lang

    @src_lang.setter
    def src_lang(self, language: str) -> None:
        self._src_lang = self._language(language, "src_lang")

    @property
    def tgt_lang(self) -> str | None:
        """The language of the target texts; `None` means `src_lang`."""
        return self._tgt_lang

    @tgt_lang.setter
    def tgt_lang(self, language: str | None) -> None:
        self._tgt_lang = self._language(language, "tgt_lang")

    def _language(self, language: str | None, name: str) -> str | None:
        if language is not None and language not in self.lang_code_to_id:
            raise TokenizerError(
                f"`{name}` must be one of {', '.join(self.lang_code_to_id)}, but is {language!r}."
                f"{did_you_mean(str(language), self.lang_code_to_id)}"
            )
        return language

    def _template(self, *, target: bool) -> Any:
        code = (self.tgt_lang or self.src_lang) if target else self.src_lang
        language = None if code is None else self.get_lang_token(code)
        around = [language, "$A", self.eos_token] if self.language_first else ["$A", self.eos_token, language]
        pair = [part for each in around for part in (("$A", "$B") if each == "$A" else (each,)) if part is not None]
        return template(self.backend_tokenizer, around, pair)

    def _config(self) -> dict[str, Any]:
        return super()._config() | {"src_lang": self.src_lang, "tgt_lang": self.tgt_lang}


class MBart50Tokenizer(MBartTokenizer):
    """mBART-50: `language text </s>`."""

    language_first = True

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages."""
        return MBART50_LANGUAGES
