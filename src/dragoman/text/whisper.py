"""Whisper's tokenizer: prompt tokens (language, task, timestamps), and texts with timestamps.

Reference: Robust Speech Recognition via Large-Scale Weak Supervision, section 2.3, https://arxiv.org/abs/2212.04356.
"""

from typing import Any

import numpy as np

from dragoman.batch import to_framework
from dragoman.errors import TokenizerError, did_you_mean
from dragoman.text.clean_up import normalize_for_whisper
from dragoman.text.languages import LANGUAGE_CODES, LANGUAGES, language_code
from dragoman.text.special_tokens import template
from dragoman.text.tokenizer import Tokenizer

WINDOW_SECONDS = 30.0
SECONDS_PER_TIMESTAMP = 0.02
NUM_TIMESTAMPS = 1501  # including both ends of the window


class WhisperTokenizer(Tokenizer):
    """Byte-level BPE between `<|startoftranscript|> … <|notimestamps|>` and `<|endoftext|>`.

    `language` (a code such as `"ar"`, or an English name), `task` (`"transcribe"` or `"translate"`) and
    `predict_timestamps` determine the prefix tokens; they can be set when the tokenizer is loaded, or with
    `set_prefix_tokens`.

    `decode` and `batch_decode` have the options `basic_normalize` and `remove_diacritics`, which reduce the text to
    lower-case words, and `decode_with_timestamps`: timestamps, otherwise omitted, are written as
    `<|1.08|>`, continued over the windows of a long recording.
    """

    language: str | None
    task: str | None
    predict_timestamps: bool

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        settings = self.init_kwargs
        self.language = self.task = None
        self.predict_timestamps = False
        self.set_prefix_tokens(settings.get("language"), settings.get("task"), settings.get("predict_timestamps"))

    def set_prefix_tokens(
        self, language: str | None = None, task: str | None = None, predict_timestamps: bool | None = None
    ) -> None:
        """Set the prefix tokens; `None` keeps the current value.

        Raises:
            TokenizerError: If the language or the task is unknown, or the vocabulary has no token for it.
        """
        if language is not None:
            code = language_code(language)
            self._required(f"<|{code}|>", "language", language, [*LANGUAGES, *LANGUAGE_CODES])
            self.language = code
        if task is not None:
            self._required(f"<|{task}|>", "task", task, ["transcribe", "translate"])
            self.task = task
        if predict_timestamps is not None:
            self.predict_timestamps = predict_timestamps

    def _required(self, token: str, name: str, value: str, known: list[str]) -> None:
        if value.lower() not in known or self.backend_tokenizer.token_to_id(token) is None:
            raise TokenizerError(
                f"`{name}` is {value!r}, for which this tokenizer has no token {token}."
                f"{did_you_mean(value.lower(), known)} English-only models take neither a language nor a task."
            )

    def _prefix(self) -> list[str]:
        choices = (self.language, self.task, None if self.predict_timestamps else "notimestamps")
        return ["<|startoftranscript|>", *(f"<|{choice}|>" for choice in choices if choice is not None)]

    @property
    def prefix_tokens(self) -> list[int]:
        """The ids before a text."""
        ids = [self.backend_tokenizer.token_to_id(token) for token in self._prefix()]
        return [i for i in ids if i is not None]

    def get_decoder_prompt_ids(
        self, task: str | None = None, language: str | None = None, no_timestamps: bool = True
    ) -> list[tuple[int, int]]:
        """Return (position, id) of each token to force after the start token."""
        self.set_prefix_tokens(language, task, predict_timestamps=not no_timestamps)
        return list(enumerate(self.prefix_tokens))[1:]

    def get_prompt_ids(self, text: str, return_tensors: str | None = "np") -> Any:
        """Return the ids of a prompt: the previous text, or words to expect.

        Raises:
            TokenizerError: If the text contains a special token.
        """
        ids = self.encode("<|startofprev|> " + text.strip(), add_special_tokens=False)
        special = set(ids[1:]) & (set(self.all_special_ids) | set(self.backend_tokenizer.get_added_tokens_decoder()))
        if special:
            raise TokenizerError(f"A prompt must not contain {self.convert_ids_to_tokens(min(special))}.")
        return to_framework(np.array(ids, dtype=np.int64), return_tensors) if return_tensors else ids

    @property
    def timestamp_begin(self) -> int:
        """The id of `<|0.00|>`; 1,500 ids follow in steps of 20 ms, whether or not the vocabulary has them."""
        last = self.backend_tokenizer.token_to_id("<|notimestamps|>")
        return len(self) if last is None else last + 1

    def _template(self, *, target: bool) -> Any:
        prefix, end = self._prefix(), self.eos_token
        pair = None if end is None else [*prefix, "$A", "$B:1", f"{end}:1"]
        return template(self.backend_tokenizer, [*prefix, "$A", end], pair)

    def _config(self) -> dict[str, Any]:
        chosen = {"language": self.language, "task": self.task, "predict_timestamps": self.predict_timestamps}
        return super()._config() | {name: value for name, value in chosen.items() if value}

    @staticmethod
    def basic_normalize(text: str, remove_diacritics: bool = False) -> str:
        """Reduce a text of any language to lower-case words, as in the evaluation of Whisper."""
        return normalize_for_whisper(text, remove_diacritics=remove_diacritics)

    def _decode(
        self,
        ids: list[int],
        skip_special_tokens: bool,
        clean: bool,
        *,
        decode_with_timestamps: bool = False,
        basic_normalize: bool = False,
        remove_diacritics: bool = False,
        normalize: bool = False,
    ) -> str:
        if normalize:
            raise TokenizerError(
                "`normalize=True`, the English normaliser of Whisper, is not in dragoman. Normalise the text with "
                "`dragoman.evaluation.normalizers.normalize_english`, or pass `basic_normalize=True`."
            )
        text = self._decoded(ids, skip_special_tokens, clean, decode_with_timestamps)
        return self.basic_normalize(text, remove_diacritics) if basic_normalize else text

    def _decoded(self, ids: list[int], skip_special_tokens: bool, clean: bool, decode_with_timestamps: bool) -> str:
        if skip_special_tokens:
            ids = self._without_prompt(ids)
        if decode_with_timestamps:
            return self._with_times(ids, skip_special_tokens)
        begin = self.timestamp_begin
        return str(super()._decode([i for i in ids if not 0 <= i - begin < NUM_TIMESTAMPS], skip_special_tokens, clean))

    def _without_prompt(self, ids: list[int]) -> list[int]:
        prompt, start = map(self.backend_tokenizer.token_to_id, ("<|startofprev|>", "<|startoftranscript|>"))
        if not ids or prompt is None or ids[0] != prompt:
            return ids
        return ids[ids.index(start) :] if start in ids else []

    def _with_times(self, ids: list[int], skip_special_tokens: bool) -> str:
        begin = self.timestamp_begin
        parts: list[str] = []
        text: list[int] = []
        offset = latest = before = 0.0
        for position, i in enumerate(ids):
            if not 0 <= i - begin < NUM_TIMESTAMPS:
                text.append(i)
                continue
            parts.append(super()._decode(text, skip_special_tokens, False))
            text = []
            time = (i - begin) * SECONDS_PER_TIMESTAMP
            if time < latest:  # timestamps restart: the next window
                if position >= 2 and not all(0 <= i - begin < NUM_TIMESTAMPS for i in ids[position - 2 : position]):
                    offset += WINDOW_SECONDS
                else:  # two timestamps in a row: the window ends at the first; the second began an unfinished segment
                    offset += before
                    latest = before
                    del parts[-2:]
            before, latest = latest, time
            parts.append(f"<|{time + offset:.2f}|>")
        return "".join([*parts, super()._decode(text, skip_special_tokens, False)])
