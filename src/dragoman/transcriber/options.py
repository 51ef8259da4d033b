"""The options of a transcription, named as the `whisper` command names them, checked before any work starts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dragoman.errors import ConfigError

__all__ = ["TranscribeOptions"]


@dataclass(frozen=True, kw_only=True)
class TranscribeOptions:
    """How a recording is cut and decoded.

    Attributes:
        language: Spoken language for models that take one (Whisper: `"en"` or `"english"`); `None` lets a multilingual
            Whisper find it out.
        task: `"translate"` makes a multilingual Whisper answer in English.
        beam_size: Beams of the search; 1 is greedy.
        length_penalty: Exponent of the length by which a beam's score is divided; above 0 favours long texts. This and
            the next two are the checkpoint's own by default.
        repetition_penalty: Above 1 makes tokens that were generated before less likely.
        no_repeat_ngram_size: Runs of so many tokens occur once at most; 0 allows any.
        num_return_sequences: Texts to return of each window; those after the best are its `alternatives`.
        word_timestamps: Find out when each word was said, and part segments at sentences and pauses.
        max_new_tokens: Most tokens for a window; `None` takes what the decoder can hold. Whoever reaches it is warned.
        batch_size: Windows that are decoded at once.
        chunk_length_s: Longest window in seconds; `None` takes what the model can.
        vad_filter: Leave out what is not speech. Off, every second is decoded, and only cut where it is quiet.
        vad_threshold: Probability above which a moment counts as speech.
        vad_min_speech_duration_ms: Speech shorter than this is taken for a click.
        vad_max_speech_duration_s: Longer stretches of speech are cut; `None` leaves them as long as a window.
        vad_min_silence_duration_ms: A pause must last so long to part two stretches of speech.
        vad_speech_pad_ms: Left standing before and after each stretch of speech.
    """

    language: str | None = None
    task: Literal["transcribe", "translate"] = "transcribe"
    beam_size: int = 5
    length_penalty: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    num_return_sequences: int = 1
    word_timestamps: bool = False
    max_new_tokens: int | None = None
    batch_size: int = 8
    chunk_length_s: float | None = None
    vad_filter: bool = True
    vad_threshold: float = 0.5
    vad_min_speech_duration_ms: int = 100  # of 600 clips of the Amazon Queen, 250 lost five, "What?" among them
    vad_max_speech_duration_s: float | None = None
    vad_min_silence_duration_ms: int = 160
    vad_speech_pad_ms: int = 200

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ConfigError(" ".join(problems))

    def _problems(self) -> Iterator[str]:
        for name, least in (
            ("beam_size", 1),
            ("batch_size", 1),
            ("num_return_sequences", 1),
            ("max_new_tokens", 1),
            ("no_repeat_ngram_size", 0),
            ("vad_min_speech_duration_ms", 0),
            ("vad_min_silence_duration_ms", 0),
            ("vad_speech_pad_ms", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                yield f"`{name}` must be at least {least}, but is {value}."
        if self.num_return_sequences > self.beam_size >= 1:
            yield (
                f"`num_return_sequences` must be at most `beam_size` ({self.beam_size}), but is "
                f"{self.num_return_sequences}."
            )
        if self.repetition_penalty is not None and not self.repetition_penalty > 0:
            yield f"`repetition_penalty` must be above 0 (1 changes nothing), but is {self.repetition_penalty}."
        for name in ("chunk_length_s", "vad_max_speech_duration_s"):
            seconds = getattr(self, name)
            if seconds is not None and not 1 <= seconds < math.inf:
                yield f"`{name}` must be at least 1 second, but is {seconds}."
        if not 0 <= self.vad_threshold <= 1:
            yield f"`vad_threshold` must lie between 0 and 1, but is {self.vad_threshold}."
        if self.task not in ("transcribe", "translate"):
            yield f"`task` must be 'transcribe' or 'translate', but is {self.task!r}."
