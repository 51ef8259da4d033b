"""The options of a transcription, named as the `whisper` command names them, checked before any work starts."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_type_hints

from dragoman.errors import ConfigError

__all__ = ["TranscribeOptions"]

# Types whose values are checked, and what to call them; True is no number here.
_KINDS: dict[type, tuple[type, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a text"),
    NoneType: (NoneType, "None"),
}


@dataclass(frozen=True, kw_only=True)
class TranscribeOptions:
    """How a recording is cut and decoded.

    Attributes:
        language: Spoken language for models that take one (Whisper: `"en"` or `"english"`); `None` lets a multilingual
            Whisper find it out.
        task: `"translate"` asks for English: of a multilingual Whisper, or of a decoder that writes several languages.
        target_language: Language to write, for models that have several (mBART, XLS-R, Whisper): a code or an English
            name; an unknown one is answered with those that there are.
        beam_size: Beams of the search; 1 is greedy.
        length_penalty: Exponent of the length by which a beam's score is divided; above 0 favours long texts. This and
            the next two are the checkpoint's own by default.
        repetition_penalty: Above 1 makes tokens that were generated before less likely.
        no_repeat_ngram_size: Runs of so many tokens occur once at most; 0 allows any.
        num_return_sequences: Texts to return of each window; those after the best are its `alternatives`.
        word_timestamps: Find out when each word was said, and part segments at sentences and pauses.
        temperature: What scores are divided by in sampling; 0 searches with beams. Of several, the next one is tried
            for a window whose text fails a guard: see `dragoman.transcriber.guards`.
        best_of: Texts that are sampled at a temperature above 0; the likeliest is taken.
        compression_ratio_threshold: A text that zlib makes this many times smaller, or more, repeats itself; `None`
            allows it.
        logprob_threshold: A text with a mean log-probability below is doubtful; `None` doubts none.
        no_speech_threshold: A window that is no speech with more than this probability, and whose text is doubtful, has
            no words; `None` keeps them.
        condition_on_previous_text: Let each window begin with the words before it, one window at a time; for models
            that have a place for them (Whisper).
        initial_prompt: Words that the text is to go on from, for the same models: names, spelling, style.
        hotwords: Phrases to expect, separated by commas, or as a list; they gain `hotwords_weight` a token.
        hotwords_weight: In natural logarithms; 1 to 5 are usual.
        lm: Language model with a say: an ARPA file (`.arpa`, `.arpa.gz`) over words, or over the tokens of the model's
            tokenizer, or a folder or hub id of a neural one with the same vocabulary.
        lm_unit: What an ARPA file counts, `"words"` or `"tokens"`; `None` finds it out: tokens, if 19 of 20 of its
            words are in the tokenizer's vocabulary.
        lm_weight: What the language model's log-probabilities are multiplied with.
        max_new_tokens: Most tokens for a window; `None` takes what the decoder can hold, but no more than 448, or 50
            a second where that is more. Whoever reaches it is warned.
        batch_size: Windows that are decoded at once.
        chunk_length_s: Longest window in seconds; `None` takes what the model can.
        stride_length_s: What two windows hear of each other, in seconds on each side, where nobody pauses and the cut
            between them goes through speech; at most an eighth of a window. Their texts are joined at a word that both
            have (`dragoman.transcriber.merging`).
        vad_filter: Leave out what is not speech. Off, every second is decoded, and only cut where it is quiet.
        vad_threshold: Probability above which a moment counts as speech.
        vad_min_speech_duration_ms: Speech shorter than this is taken for a click.
        vad_max_speech_duration_s: Longer stretches of speech are cut; `None` leaves them as long as a window.
        vad_min_silence_duration_ms: A pause must last so long to part two stretches of speech.
        vad_speech_pad_ms: Left standing before and after each stretch of speech.
    """

    language: str | None = None
    task: Literal["transcribe", "translate"] = "transcribe"
    target_language: str | None = None
    beam_size: int = 5
    length_penalty: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    num_return_sequences: int = 1
    word_timestamps: bool = False
    temperature: float | Sequence[float] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    best_of: int = 5
    compression_ratio_threshold: float | None = 2.4
    logprob_threshold: float | None = -1.0
    no_speech_threshold: float | None = 0.6
    condition_on_previous_text: bool = False
    initial_prompt: str | None = None
    hotwords: str | Sequence[str] | None = None
    hotwords_weight: float = 2.0
    lm: str | Path | None = None
    lm_unit: Literal["words", "tokens"] | None = None
    lm_weight: float = 0.3
    max_new_tokens: int | None = None
    batch_size: int = 8
    chunk_length_s: float | None = None
    stride_length_s: float = 1.0
    vad_filter: bool = True
    vad_threshold: float = 0.5
    vad_min_speech_duration_ms: int = 100  # of 600 clips of the Amazon Queen, 250 lost five, "What?" among them
    vad_max_speech_duration_s: float | None = None
    vad_min_silence_duration_ms: int = 160
    vad_speech_pad_ms: int = 200

    def __post_init__(self) -> None:
        problems = list(self._wrong_types()) or list(self._problems())
        if problems:
            raise ConfigError(" ".join(problems))

    @property
    def temperatures(self) -> tuple[float, ...]:
        """The temperatures to try, in order."""
        given = self.temperature
        return tuple(given) if isinstance(given, Sequence) else (given,)

    @property
    def phrases(self) -> tuple[str, ...]:
        """The hot words, one phrase each."""
        given = self.hotwords.split(",") if isinstance(self.hotwords, str) else self.hotwords or ()
        return tuple(filter(None, (phrase.strip() for phrase in given)))

    def _wrong_types(self) -> Iterator[str]:
        for name, hint in get_type_hints(type(self)).items():
            kinds = get_args(hint) or (hint,)
            value = getattr(self, name)
            if set(kinds) <= _KINDS.keys() and (
                not isinstance(value, tuple(_KINDS[kind][0] for kind in kinds)) or isinstance(value, bool)
            ):
                yield f"`{name}` must be {' or '.join(_KINDS[kind][1] for kind in kinds)}, but is {value!r}."

    def _problems(self) -> Iterator[str]:
        yield from self._faults_of_guards()
        for name, least in (
            ("beam_size", 1),
            ("batch_size", 1),
            ("num_return_sequences", 1),
            ("best_of", 1),
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
        if self.lm_unit not in ("words", "tokens", None):
            yield f"`lm_unit` must be 'words', 'tokens' or None, but is {self.lm_unit!r}."

    def _faults_of_guards(self) -> Iterator[str]:
        temperatures: Sequence[Any] = self.temperatures
        if not temperatures or not all(isinstance(one, Real) and 0 <= float(one) < math.inf for one in temperatures):
            yield f"`temperature` must be one or more numbers of at least 0, but is {self.temperature}."
        if not 0 <= self.stride_length_s < math.inf:
            yield f"`stride_length_s` must be at least 0 seconds, but is {self.stride_length_s}."
        for name in ("hotwords_weight", "lm_weight"):
            if not math.isfinite(getattr(self, name)):
                yield f"`{name}` must be a finite number, but is {getattr(self, name)}."
        if self.no_speech_threshold is not None and not 0 <= self.no_speech_threshold <= 1:
            yield f"`no_speech_threshold` must lie between 0 and 1, but is {self.no_speech_threshold}."
        for name in ("compression_ratio_threshold", "logprob_threshold"):
            value = getattr(self, name)
            if value is not None and math.isnan(value):
                yield f"`{name}` must be a number or None, but is {value}."
        if self.hotwords is not None and not self.phrases:
            yield "`hotwords` must name at least one phrase, but is empty. Leave it out, or separate phrases by commas."
