"""Language and task as the first tokens of a transcript, in the way of Whisper and in that of mBART.

After the start token, a Whisper takes language, task and whether to write timestamps. Decoders with several output
languages (mBART, Speech2Text) take the language as a first token that is forced, `forced_bos_token_id`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from dragoman.errors import GenerationError, did_you_mean
from dragoman.generation.options import GenerationConfig
from dragoman.text.languages import LANGUAGES, find_language

Detect = Callable[[Sequence[int]], Sequence[int]]
"""Returns the most probable of some tokens after the start token, for each utterance."""


def whisper_rows(settings: GenerationConfig, batch: int, detect: Detect) -> list[list[int]] | None:
    """Return the tokens between the start token of a Whisper and the transcript, for each utterance.

    Without language and task, those of `forced_decoder_ids` are used. A language that is neither given nor forced is
    detected, where `lang_to_id` tells the tokens of languages.

    Args:
        settings: All options of the call.
        batch: Number of utterances.
        detect: Called if the language must be detected.

    Returns:
        Rows of the same length; `None` if the options say nothing about them.

    Raises:
        GenerationError: If the model does not know the language or the task, or has no timestamps.
    """
    _check_multilingual(settings)
    if settings.return_timestamps and settings.no_timestamps_token_id is None:
        raise GenerationError(
            "`return_timestamps` needs `no_timestamps_token_id` in the model's generation options: the tokens after it "
            "are the timestamps. Copy it from the generation_config.json of the original checkpoint."
        )
    free = settings.language is None and settings.task is None
    forced, no_times = settings.forced_decoder_ids if free else None, settings.no_timestamps_token_id
    if free and not settings.lang_to_id and not settings.return_timestamps and (no_times is None or forced):
        return None
    begin = _forced(forced or ())
    languages: Sequence[int] | None = None
    if settings.language is not None:
        languages = _given_languages(settings, batch)
    elif settings.lang_to_id and (not begin or begin[0] is None):
        languages = detect(list(settings.lang_to_id.values()))
    rest = [token for token in (begin if languages is None else begin[1:]) if token is not None]
    rest += _task(settings, rest)
    if settings.return_timestamps and rest[-1:] == [no_times]:
        rest.pop()
    elif not settings.return_timestamps and no_times is not None and rest[-1:] != [no_times]:
        rest.append(no_times)
    heads = [[]] * batch if languages is None else [[one] for one in languages]
    return [[*head, *rest] for head in heads]


def set_output_language(settings: GenerationConfig, tokenizer: Any, asked: Collection[str]) -> None:
    """Force the first token of a decoder with several output languages, if `settings` name a language.

    Args:
        settings: All options of the call, which are changed.
        tokenizer: The caller's, whose `lang_code_to_id` serves where the options have no `lang_to_id`.
        asked: Which of language, task and timestamps are asked for in the call, so that they must not be ignored.

    Raises:
        GenerationError: If the model does not know the language, or has only one.
    """
    known = settings.lang_to_id or settings.extra.get("lang_code_to_id") or getattr(tokenizer, "lang_code_to_id", None)
    settings.return_timestamps = None
    if "return_timestamps" in asked:
        raise GenerationError(
            "`return_timestamps` asks for the timestamps of a Whisper, which this decoder is not. Leave it out; "
            "`Transcriber` has word timestamps for any decoder with cross-attention."
        )
    if "task" in asked and settings.task == "translate":
        raise GenerationError(
            "`task` chooses between the two outputs of a multilingual Whisper, which this decoder is not. Choose the "
            "output language: `language`, or the id of its token in `forced_bos_token_id`."
        )
    if settings.language is None:
        return
    if not isinstance(settings.language, str):
        raise GenerationError("This decoder takes one `language` for all utterances; call `generate` once for each.")
    if known:
        settings.forced_bos_token_id = language_token(settings.language, known)
    elif "language" in asked:
        raise GenerationError(
            f"`language` is {settings.language!r}, but the model's generation options do not tell the tokens of "
            "languages. Set model.generation_config.lang_to_id = {'de': …}, or pass the id of the language's token as "
            "`forced_bos_token_id`; for mBART, tokenizer.lang_code_to_id['de_DE']."
        )


def language_token(language: str, known: Mapping[str, int]) -> int:
    """Return the token of a language by its token, code (`de`, `de_DE`, `deu_Latn`) or English name, in any case.

    Raises:
        GenerationError: If it is not known; the message lists those that are.
    """
    found = find_language(language, known)
    if found is None:
        codes = sorted(name.lower().strip("<|>") for name in known)
        names = [LANGUAGES[code.partition("_")[0]] for code in codes if code.partition("_")[0] in LANGUAGES]
        raise GenerationError(
            f"`language` is {language!r}, which this model does not know. It must be one of {', '.join(codes)}, or the "
            f"English name of one.{did_you_mean(language.lower(), [*codes, *names])}"
        )
    return found


def _check_multilingual(settings: GenerationConfig) -> None:
    named = [f"`{name}` ({value})" for name in ("language", "task") if (value := getattr(settings, name)) is not None]
    if named and settings.is_multilingual is False:
        raise GenerationError(
            f"{' and '.join(named)} cannot be chosen: this Whisper is English-only. Leave it out, choose a "
            "multilingual model, or set `is_multilingual=True` if this one is multilingual."
        )
    for name, table in (("language", "lang_to_id"), ("task", "task_to_id")):
        if getattr(settings, name) is not None and not getattr(settings, table):
            raise GenerationError(
                f"`{name}` is {getattr(settings, name)!r}, but `{table}` in the model's generation options, which "
                "tells its token, is not set. Copy it from the generation_config.json of the original checkpoint."
            )


def _forced(forced: Sequence[Sequence[int | None]]) -> list[int | None]:
    """Return the tokens that `forced_decoder_ids`, pairs of position and token, put right after the start token.

    Raises:
        GenerationError: If a position between two of them is left out.
    """
    tokens = {position: token for position, token in forced}  # noqa: C416 (types)
    begin = [tokens[position] for position in range(1, len(tokens) + 1) if position in tokens]
    if len(begin) < len(tokens):
        raise GenerationError(
            f"`forced_decoder_ids` must name every position from 1 on, but is {list(forced)!r:.80}. Use `language` and "
            "`task` instead."
        )
    return begin


def _given_languages(settings: GenerationConfig, batch: int) -> list[int]:
    assert settings.language is not None
    assert settings.lang_to_id is not None
    several = [settings.language] * batch if isinstance(settings.language, str) else list(settings.language)
    if len(several) != batch:
        raise GenerationError(
            f"`language` lists {len(several)} languages, but there are {batch} utterances. Give one for all, or one "
            "for each."
        )
    return [language_token(one, settings.lang_to_id) for one in several]


def _task(settings: GenerationConfig, before: Sequence[int]) -> list[int]:
    """Return the token of the task, if there is none yet."""
    tasks = settings.task_to_id or {}
    name = settings.task
    if name is None and settings.language is not None and not set(before) & set(tasks.values()):
        name = "transcribe" if tasks else None
    if name is None:
        return []
    if name not in tasks:
        raise GenerationError(f"`task` is {name!r}, but `task_to_id` has only {', '.join(tasks)}.")
    return [tasks[name]]
