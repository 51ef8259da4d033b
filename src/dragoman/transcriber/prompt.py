"""What texts begin with: the tokens for language and task, and for models that read them, words that came before."""

import logging
from collections.abc import Sequence

from dragoman.audio.waveform import Waveform
from dragoman.text.whisper import WhisperTokenizer
from dragoman.transcriber.engine import Decoded, Engine
from dragoman.transcriber.language import (
    language_tokens,
    prompt_tokens,
    takes_language,
    target_token,
    warn_of_idle_options,
    whisper_task,
)
from dragoman.transcriber.options import TranscribeOptions

__all__ = ["PromptWriter"]

_log = logging.getLogger("dragoman")

# Above this temperature a text is not worth going on from, as openai/whisper has it.
_TRUSTED_TEMPERATURE = 0.5


class PromptWriter:
    """The beginnings of the texts of one recording.

    Args:
        engine: The model.
        options: What the user asked for.
        name: What to call the recording.

    Attributes:
        language: Code of the spoken language, as soon as it is known; `None` if the model takes none.
    """

    def __init__(self, engine: Engine, options: TranscribeOptions, name: str) -> None:
        self.language: str | None = None
        self._engine, self._options, self._name = engine, options, name
        self._task: list[int] | None = None
        self._before = _before(engine, options)

    @property
    def windows_at_once(self) -> int:
        """How many windows may be decoded together: one, if each is to go on from the one before."""
        return 1 if self._options.condition_on_previous_text and self._reads_on else self._options.batch_size

    def prompt(self, first: Waveform, *, keep: bool = True) -> list[int]:
        """Return the tokens that the next texts begin with.

        Args:
            first: Is heard where the language must be found out.
            keep: Whether the language is found out with it for good: not with the first second of a sentence.
        """
        task = self._task or self._task_tokens(first)
        if keep:
            self._task = task
        if not self._before:
            return task
        # Half of the decoder is for what was said before, as in whisper's training.
        room = self._engine.model.config.decoder.text_spec().num_positions // 2
        return [self._before[0], *self._before[1:][-(room - 1) :], *task]

    def heard(self, decoded: Decoded) -> None:
        """Take a text that the next ones are to go on from."""
        if not (self._options.condition_on_previous_text and self._reads_on):
            return
        if decoded.temperature > _TRUSTED_TEMPERATURE:
            self._before = []
            return
        marker = _marker(self._engine)
        assert marker is not None
        self._before = [*(self._before or [marker]), *decoded.tokens]

    @property
    def _reads_on(self) -> bool:
        return _marker(self._engine) is not None

    def _task_tokens(self, first: Waveform) -> list[int]:
        engine, options = self._engine, self._options
        model, tokenizer = engine.model, engine.tokenizer
        warn_of_idle_options(model, options, tokenizer)
        if not takes_language(model, tokenizer):
            english_only = isinstance(tokenizer, WhisperTokenizer)
            self.language = "en" if english_only else options.language
            target = target_token(model, tokenizer, options, engine.info.name)
            return engine.own_prompt() if target is None else [engine.own_prompt()[0], target]
        codes, language = language_tokens(model, tokenizer), options.language
        if language is None:
            language = codes[engine.likeliest(first, engine.own_prompt()[:1], list(codes))]
            _log.info("%s: the language sounds like %s.", self._name, language)
        task = whisper_task(options, language)
        self.language, prompt = prompt_tokens(tokenizer, language, task, codes.values())
        return prompt


def _marker(engine: Engine) -> int | None:
    """Return the token that stands before words said earlier, if the model has one."""
    if not isinstance(engine.tokenizer, WhisperTokenizer):
        return None
    return engine.tokenizer.backend_tokenizer.token_to_id("<|startofprev|>")


def _before(engine: Engine, options: TranscribeOptions) -> Sequence[int]:
    """Return the tokens of the initial prompt, behind their marker."""
    if options.initial_prompt is None or _marker(engine) is None:
        return []
    ids: list[int] = engine.tokenizer.get_prompt_ids(options.initial_prompt, return_tensors=None)
    return ids
