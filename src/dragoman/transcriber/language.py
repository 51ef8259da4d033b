"""Language and task: the tokens that select them, and a warning to users whose model has none.

A multilingual Whisper takes the spoken language and the task. Decoders with several output languages (mBART, NLLB,
XLS-R with mBART) take the output language as the first token.
"""

import re
import warnings
from collections.abc import Iterable
from copy import copy
from dataclasses import replace
from typing import Any

from dragoman.errors import ConfigError, TokenizerError, did_you_mean
from dragoman.families import find
from dragoman.model.runner import ModelFacts
from dragoman.text.languages import LANGUAGES, find_language, language_code
from dragoman.text.mbart import MBartTokenizer
from dragoman.text.nemo import PROMPTS, NemoPrompt
from dragoman.text.whisper import WhisperTokenizer
from dragoman.transcriber.options import TranscribeOptions

# OpenAI's rule for files that do not state it: English-only vocabularies are smaller.
_MULTILINGUAL_FROM = 51_865

# The ids on the model card of Facebook's XLS-R translators from English. Welsh, Catalan and Latvian replace languages
# of mBART-50 (fi_FI, es_XX, my_MM), so the names of its tokenizer would be wrong.
_FROM_ENGLISH = {
    "ar": 250001, "ca": 250005, "cy": 250007, "de": 250003, "et": 250006, "fa": 250029, "id": 250032, "ja": 250012,
    "lv": 250017, "mn": 250037, "sl": 250052, "sv": 250042, "ta": 250044, "tr": 250023, "zh": 250025,
}  # fmt: skip
_XLS_R = {"en-to-15": _FROM_ENGLISH, "22-to-16": {**_FROM_ENGLISH, "en": 250004}}


def takes_language(facts: ModelFacts, tokenizer: Any) -> bool:
    """Return whether the model is a multilingual Whisper, which takes language and task as its first tokens."""
    if not isinstance(tokenizer, WhisperTokenizer):
        return False
    stated = facts.generation.is_multilingual
    return facts.text.vocab_size >= _MULTILINGUAL_FROM if stated is None else stated


def nemo_prompt(facts: ModelFacts) -> NemoPrompt | None:
    """Return how transcripts of a Canary or a Cohere Transcribe start; `None` for other models."""
    return PROMPTS.get(str(find(facts.config.decoder.model_type).processor))


def with_own_choices(options: TranscribeOptions, facts: ModelFacts) -> TranscribeOptions:
    """Return options with the checkpoint's language and task (`model.generation_config`) where the user chose none."""
    own = facts.generation
    chosen: dict[str, Any] = {}
    if options.language is None and isinstance(own.language, str):
        chosen["language"] = own.language
    if options.task is None and options.target_language is None and own.task is not None:
        chosen["task"] = own.task
    return replace(options, **chosen)


def language_tokens(facts: ModelFacts, tokenizer: WhisperTokenizer) -> dict[int, str]:
    """Return the language code of each language token id."""
    stated = facts.generation.lang_to_id
    if stated:
        return {number: token.strip("<|>") for token, number in stated.items()}
    ids = {code: tokenizer.backend_tokenizer.token_to_id(f"<|{code}|>") for code in LANGUAGES}
    return {number: code for code, number in ids.items() if number is not None}


def prompt_tokens(tokenizer: WhisperTokenizer, language: str, task: str, known: Iterable[str]) -> tuple[str, list[int]]:
    """Return the code of a language, and the tokens that a transcript starts with.

    Args:
        tokenizer: Of a multilingual Whisper; it is not changed.
        language: A code (`"ar"`), an English name (`"arabic"`) or a token (`"<|ar|>"`).
        task: `"transcribe"` or `"translate"`.
        known: The model's language codes.

    Raises:
        ConfigError: If the model does not know the language.
    """
    tokenizer = copy(tokenizer)
    try:
        tokenizer.set_prefix_tokens(language.strip("<|>"), task, predict_timestamps=False)
    except TokenizerError as error:
        raise ConfigError(
            f"The model does not know the language {language!r}, "
            f"only {', '.join(sorted(known))} and their English names."
        ) from error
    assert tokenizer.language is not None
    return tokenizer.language, tokenizer.prefix_tokens


def whisper_task(options: TranscribeOptions, language: str) -> str:
    """Return the task of a multilingual Whisper, which writes the spoken language or English.

    Raises:
        ConfigError: If another output language is asked for.
    """
    if options.target_language is None:
        return options.task or "transcribe"
    spoken, wanted = language_code(language), language_code(options.target_language)
    if wanted == spoken and options.task != "translate":
        return "transcribe"
    if wanted == "en":
        return "translate"
    raise ConfigError(
        f"Whisper writes the spoken language (here {spoken}) or English, but `target_language` is "
        f"{options.target_language!r} and `task` {options.task!r}. Use `target_language` en, or leave it out."
    )


def target_languages(facts: ModelFacts, tokenizer: Any, name: str) -> dict[str, int]:
    """Return the output languages of a decoder, with the token that selects each.

    Args:
        facts: The facts about the model; `lang_to_id` in its generation_config.json takes precedence.
        tokenizer: Its tokenizer; those of mBART, NLLB and M2M-100 know their languages.
        name: The name that the model was loaded by, for published models whose tokens mean other languages.
    """
    if isinstance(tokenizer, WhisperTokenizer):  # which takes two tokens, see `prompt_tokens`
        return {}
    stated = facts.generation.lang_to_id
    if stated:
        return {token.strip("<|>"): number for token, number in stated.items()}
    published = re.search(r"wav2vec2-xls-r-\w+-(en-to-15|22-to-16)/?$", name)
    if published:
        return dict(_XLS_R[published[1]])
    return tokenizer.lang_code_to_id if isinstance(tokenizer, MBartTokenizer) else {}


def target_token(facts: ModelFacts, tokenizer: Any, options: TranscribeOptions, name: str) -> int | None:
    """Return the token of the output language: `target_language`, English for `task` translate, or `language`.

    `None` leaves the choice to the checkpoint: nothing was asked for, or the model has only one output language.

    Raises:
        ConfigError: If the model has several, but not this one; the message lists them.
    """
    known = target_languages(facts, tokenizer, name)
    wanted = options.target_language or ("en" if options.task == "translate" else options.language)
    if not known or wanted is None:
        return None
    token = find_language(wanted, known)
    if token is None:
        option = "target_language" if options.target_language or options.task != "translate" else "task"
        raise ConfigError(
            f"This model cannot write {wanted!r}. `{option}` must be one of {', '.join(sorted(known))}, or the English "
            f"name of one.{did_you_mean(wanted, known)}"
        )
    return token


def warn_of_idle_options(facts: ModelFacts, options: TranscribeOptions, tokenizer: Any) -> None:
    """Warn of options that have no effect with this model.

    Raises:
        ConfigError: If an English-only Whisper is asked for another language: its text would be nonsense.
    """
    whisper, idle = isinstance(tokenizer, WhisperTokenizer), []
    if not (takes_language(facts, tokenizer) or target_languages(facts, tokenizer, "") or nemo_prompt(facts)):
        for name in ("language", "target_language"):
            value = getattr(options, name)
            if value is None or (whisper and value.lower() in ("en", "english")):
                continue
            if whisper:
                raise ConfigError(
                    f"`{name}` is {value!r}, but this model is English-only. Choose a multilingual one, such as "
                    "openai/whisper-tiny (`--model tiny`) or openai/whisper-large-v3-turbo (`--model turbo`)."
                )
            idle.append(f"`{name}` ({value})")
        if options.task == "translate":
            idle.append(f"`task` ({options.task})")
    if not options.punctuation and nemo_prompt(facts) is None:
        reason = "only Canary and Cohere Transcribe let choose"
        warnings.warn(f"`punctuation` (false) has no effect with this model: {reason}.", UserWarning, stacklevel=6)
    if idle:
        reason = "it is English-only" if whisper else "it writes the language it was trained for"
        verb = "have" if len(idle) > 1 else "has"
        warnings.warn(f"{' and '.join(idle)} {verb} no effect with this model: {reason}.", UserWarning, stacklevel=6)
    if not whisper and (options.initial_prompt is not None or options.condition_on_previous_text):
        warnings.warn(
            "`initial_prompt` and `condition_on_previous_text` have no effect with this model: it does not take the "
            "text before.",
            UserWarning,
            stacklevel=6,
        )
