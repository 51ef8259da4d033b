"""Language and task: the tokens that tell a multilingual Whisper what to do; a word to users whose model takes none."""

import warnings
from collections.abc import Iterable
from copy import copy
from typing import Any

from dragoman.errors import ConfigError, TokenizerError
from dragoman.text.whisper import LANGUAGES, WhisperTokenizer
from dragoman.transcriber.options import TranscribeOptions

__all__ = ["language_tokens", "prompt_tokens", "takes_language", "warn_of_idle_options"]

# OpenAI's rule, for files that do not say it: English-only vocabularies are smaller.
_MULTILINGUAL_FROM = 51_865


def takes_language(model: Any, tokenizer: Any) -> bool:
    """Return whether the decoder is a multilingual Whisper's, which is told language and task by its first tokens."""
    if not isinstance(tokenizer, WhisperTokenizer):
        return False
    stated = model.generation_config.is_multilingual
    return bool(model.config.decoder.text_spec().vocab_size >= _MULTILINGUAL_FROM if stated is None else stated)


def language_tokens(model: Any, tokenizer: WhisperTokenizer) -> dict[int, str]:
    """Return the id of each language's token with the language's code."""
    stated = model.generation_config.lang_to_id
    if stated:
        return {number: token.strip("<|>") for token, number in stated.items()}
    ids = {code: tokenizer.backend_tokenizer.token_to_id(f"<|{code}|>") for code in LANGUAGES}
    return {number: code for code, number in ids.items() if number is not None}


def prompt_tokens(tokenizer: WhisperTokenizer, language: str, task: str, known: Iterable[str]) -> tuple[str, list[int]]:
    """Return the code of a language, and the tokens a text begins with.

    Args:
        tokenizer: Of a multilingual Whisper; it is not changed.
        language: A code (`"ar"`) or an English name (`"arabic"`).
        task: `"transcribe"` or `"translate"`.
        known: The codes that the model has.

    Raises:
        ConfigError: If the model does not know the language.
    """
    tokenizer = copy(tokenizer)
    try:
        tokenizer.set_prefix_tokens(language, task, predict_timestamps=False)
    except TokenizerError as error:
        raise ConfigError(
            f"The model does not know the language {language!r}, "
            f"only {', '.join(sorted(known))} and their English names."
        ) from error
    assert tokenizer.language is not None
    return tokenizer.language, tokenizer.prefix_tokens


def warn_of_idle_options(options: TranscribeOptions, tokenizer: Any) -> None:
    """Say which options the model has no use for."""
    idle = []
    english_only = isinstance(tokenizer, WhisperTokenizer)
    if options.language is not None and not (english_only and options.language.lower() in ("en", "english")):
        idle.append(f"`language` ({options.language})")
    if options.task != TranscribeOptions.task:
        idle.append(f"`task` ({options.task})")
    if idle:
        reason = "it hears English only" if english_only else "it writes the language it was trained for"
        means = "mean" if len(idle) > 1 else "means"
        warnings.warn(f"{' and '.join(idle)} {means} nothing to this model: {reason}.", UserWarning, stacklevel=4)
