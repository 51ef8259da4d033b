"""The prompts of Canary and of Cohere Transcribe: languages, punctuation and more, in the tokens before the text.

References: https://huggingface.co/nvidia/canary-1b-v2, https://huggingface.co/CohereLabs/cohere-transcribe-03-2026.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dragoman.errors import ConfigError, TokenizerError, did_you_mean
from dragoman.text.languages import LANGUAGES, language_code


@dataclass(frozen=True)
class NemoPrompt:
    """How a family of recognisers begins its transcripts.

    Attributes:
        languages: The codes that it was trained with.
        translates: Whether the text may be in another language than the speech.
        space: Whether the piece for a space comes first.
    """

    languages: tuple[str, ...]
    translates: bool
    space: bool

    def code(self, language: str | None, option: str = "language") -> str:
        """Return the code of a language by its code, token or English name.

        Raises:
            ConfigError: If it is not given, or not among those of the model; `option` is what the caller named.
        """
        code = language_code((language or "").strip("<|>"))
        if code not in self.languages:
            known = ", ".join(self.languages)
            names = [*self.languages, *(LANGUAGES[one] for one in self.languages)]
            came = "is not given" if language is None else f"is {language!r}"
            raise ConfigError(
                f"`{option}` {came}, but this model has to be told it: {known}, or the English name of one; it detects "
                f"none.{did_you_mean(language or '', names)}"
            )
        return code

    def tokens(self, language: str | None, target: str | None = None, *, punctuation: bool = True) -> list[str]:
        """Return the tokens before a transcript.

        Args:
            language: The spoken language.
            target: The language of the text; by default the spoken one.
            punctuation: Whether the text has punctuation and capital letters.

        Raises:
            ConfigError: If a language is missing or unknown, or the model does not translate.
        """
        source = self.code(language)
        written = source if target is None else self.code(target, "target_language")
        if written != source and not self.translates:
            raise ConfigError(
                f"This model writes the spoken language (here {source}), so it cannot write {written}. Leave "
                "`target_language` and `task` out."
            )
        return [
            *(["▁"] if self.space else []),
            "<|startofcontext|>",
            "<|startoftranscript|>",
            "<|emo:undefined|>",
            f"<|{source}|>",
            f"<|{written}|>",
            "<|pnc|>" if punctuation else "<|nopnc|>",
            "<|noitn|>",
            "<|notimestamp|>",
            "<|nodiarize|>",
        ]

    def ids(
        self, tokenizer: Any, language: str | None, target: str | None = None, *, punctuation: bool = True
    ) -> list[int]:
        """Return the ids of `tokens`.

        Raises:
            TokenizerError: If the tokenizer lacks one, so that it is of another model.
        """
        tokens = self.tokens(language, target, punctuation=punctuation)
        vocabulary: Mapping[str, int] = tokenizer.get_vocab()
        missing = [token for token in tokens if token not in vocabulary]
        if missing:
            raise TokenizerError(
                f"The tokenizer lacks {', '.join(missing)}, tokens of the prompt. Use the one that the model was "
                "published with."
            )
        return [vocabulary[token] for token in tokens]

    def rows(
        self,
        tokenizer: Any,
        count: int,
        language: str | Sequence[str],
        target: str | Sequence[str] | None,
        punctuation: bool,
    ) -> list[list[int]]:
        """Return the ids for each of `count` clips; languages are one for all or one for each.

        Raises:
            ConfigError: If their number is not that of the clips.
        """
        columns = [[one] * count if one is None or isinstance(one, str) else list(one) for one in (language, target)]
        if any(len(column) != count for column in columns):
            raise ConfigError(
                f"There are {count} clips, but {len(columns[0])} source and {len(columns[1])} target languages. Give "
                "one for all clips, or one for each."
            )
        return [self.ids(tokenizer, *pair, punctuation=punctuation) for pair in zip(*columns, strict=True)]


_CANARY = ("bg", "hr", "cs", "da", "nl", "en", "et", "fi", "fr", "de", "el", "hu", "it", "lv", "lt", "mt", "pl", "pt",
           "ro", "sk", "sl", "es", "sv", "ru", "uk")  # fmt: skip
_COHERE = ("ar", "de", "el", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "vi", "zh")

PROMPTS = {
    "CanaryProcessor": NemoPrompt(_CANARY, translates=True, space=False),
    "CohereAsrProcessor": NemoPrompt(_COHERE, translates=False, space=True),
}
"""By the class of the processor."""
