"""The tokens that transcripts start with: language and task, and for Whisper the text before."""

import logging
import warnings
from collections.abc import Sequence

from dragoman.audio.waveform import Waveform
from dragoman.text.languages import LANGUAGES, language_code
from dragoman.text.whisper import WhisperTokenizer
from dragoman.transcriber.decoded import Decoded
from dragoman.transcriber.engine import Engine
from dragoman.transcriber.language import (
    language_tokens,
    nemo_prompt,
    prompt_tokens,
    takes_language,
    target_token,
    warn_of_idle_options,
    whisper_task,
    with_own_choices,
)
from dragoman.transcriber.options import TranscribeOptions

_log = logging.getLogger("dragoman")

# A transcript sampled above this temperature is not used as a prompt, as in openai/whisper.
_MAX_PROMPT_TEMPERATURE = 0.5


class PromptBuilder:
    """The prompts of one recording.

    Args:
        engine: The model.
        options: The user's options.
        name: What to call the recording in messages.

    Attributes:
        language: Code of the spoken language, as soon as it is known; `None` if the model takes none.
    """

    def __init__(self, engine: Engine, options: TranscribeOptions, name: str) -> None:
        self.language: str | None = None
        self._engine, self._options, self._name = engine, options, name
        self._marker = _previous_text_marker(engine)
        self._conditions = options.condition_on_previous_text and self._marker is not None
        self._task: list[int] | None = None
        self._before: Sequence[int] = []  # the marker and the tokens of the text before
        if options.initial_prompt is not None and self._marker is not None:
            self._before = engine.tokenizer.get_prompt_ids(options.initial_prompt, return_tensors=None)
            self._warn_of_cut_prompt()

    @property
    def windows_at_once(self) -> int:
        """Maximum number of windows in a batch: one, if each is prompted with the one before."""
        return 1 if self._conditions else self._options.batch_size

    def prompt(self, first: Waveform, *, keep: bool = True) -> list[int]:
        """Return the prompt of the next transcripts.

        Args:
            first: Their first window, in which the language is detected if that is needed.
            keep: Whether the detected language is that of the whole recording; the first second of a sentence is too
                little to tell.
        """
        task = self._task or self._task_tokens(first)
        if keep:
            self._task = task
        if not self._before:
            return task
        return [self._before[0], *self._before[1:][-self._room :], *task]

    @property
    def _room(self) -> int:
        """Tokens of the text before: half of the decoder's positions, as in Whisper's training, less the marker."""
        return self._engine.facts.text.num_positions // 2 - 1

    def _warn_of_cut_prompt(self) -> None:
        tokens = self._before[1:]
        cut = len(tokens) - self._room
        if cut > 0:
            warnings.warn(
                f"`initial_prompt` has {len(tokens)} tokens, but there is room for {self._room}: the first {cut} are "
                f"cut, {self._engine.text(tokens[:cut])[:60]!r}…",
                UserWarning,
                stacklevel=6,
            )

    def add(self, decoded: Decoded) -> None:
        """Add a transcript to the text before."""
        if not self._conditions:
            return
        if decoded.temperature > _MAX_PROMPT_TEMPERATURE:
            self._before = []
            return
        assert self._marker is not None
        self._before = [*(self._before or [self._marker]), *decoded.tokens]

    def _task_tokens(self, first: Waveform) -> list[int]:
        engine, options = self._engine, self._options
        facts, tokenizer = engine.facts, engine.tokenizer
        whole = engine.composite
        if options.language is not None and whole and whole.language:
            self.language = language_code(options.language)
            name = LANGUAGES.get(self.language, options.language).title()
            text = whole.language.format(self.language if whole.language_leads else name)
            chosen = tokenizer(text, add_special_tokens=False)["input_ids"]
            return [*chosen, *engine.own_prompt()] if whole.language_leads else [*engine.own_prompt(), *chosen]
        warn_of_idle_options(facts, options, tokenizer)
        own = with_own_choices(options, facts)
        nemo = nemo_prompt(facts)
        if nemo is not None:
            self.language = nemo.code(own.language)
            written = own.target_language or ("en" if own.task == "translate" else None)
            return nemo.ids(tokenizer, self.language, written, punctuation=own.punctuation)
        if not takes_language(facts, tokenizer):
            english_only = isinstance(tokenizer, WhisperTokenizer)
            self.language = "en" if english_only else options.language
            target = target_token(facts, tokenizer, own, engine.info.name)
            return engine.own_prompt() if target is None else [engine.own_prompt()[0], target]
        codes, language = language_tokens(facts, tokenizer), own.language
        if language is None:
            language = codes[engine.likeliest(first, engine.own_prompt()[:1], list(codes))]
            _log.info("%s: detected language %s.", self._name, language)
        task = whisper_task(own, language)
        self.language, prompt = prompt_tokens(tokenizer, language, task, codes.values())
        return prompt


def _previous_text_marker(engine: Engine) -> int | None:
    """Return the token that precedes the text before, if the model has one."""
    if not isinstance(engine.tokenizer, WhisperTokenizer):
        return None
    return engine.tokenizer.backend_tokenizer.token_to_id("<|startofprev|>")
