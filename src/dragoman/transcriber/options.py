"""The options of a transcription, named as in the `whisper` command, checked before any work starts."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_type_hints

from dragoman.errors import ConfigError
from dragoman.transcriber.fields import documented, option, too_small

# Types whose values are checked, and what to call them; True is not a number here.
_KINDS: dict[type, tuple[type, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a string"),
    NoneType: (NoneType, "None"),
}

# Options by the heading that they are listed under.
_language, _search = partial(option, group="Language"), partial(option, group="Search")
_guard, _prompt = partial(option, group="Hallucination guards"), partial(option, group="Prompts (Whisper only)")
_splitting, _audio = partial(option, group="Splitting at pauses"), partial(option, group="Audio")


@documented
@dataclass(frozen=True, kw_only=True)
class TranscribeOptions:
    """How a recording is read, split and decoded."""

    language: str | None = _language(
        None,
        "Spoken language, for models that take one: `en` or `english`.",
        unset="the checkpoint's, else detected; Canary and Cohere Transcribe detect none",
    )
    task: Literal["transcribe", "translate"] | None = _language(
        None,
        "`translate` asks for English, from a multilingual Whisper or a decoder with several output languages.",
        unset="the checkpoint's, else `transcribe`",
    )
    target_language: str | None = _language(
        None,
        "Output language, for models that have several (mBART, XLS-R, Whisper): `de`, `de_DE` or `german`. An unknown "
        "one gives an error that lists them.",
        unset="the checkpoint's",
    )
    punctuation: bool = _language(
        True, "Write punctuation and capital letters, where a model lets choose (Canary, Cohere)."
    )
    beam_size: int = _search(5, "Number of beams; 1 is greedy search.", at_least=1)
    length_penalty: float | None = _search(
        None,
        "Exponent of the length by which a beam's score is divided: above 0 favours long transcripts, below 0 short "
        "ones.",
        unset="the model's",
    )
    repetition_penalty: float | None = _search(
        None, "Above 1 makes tokens that were generated before less likely; 1 has no effect.", unset="the model's"
    )
    no_repeat_ngram_size: int | None = _search(
        None, "N-grams of this many tokens may not repeat; 0 allows repetition.", unset="the model's", at_least=0
    )
    num_return_sequences: int = _search(
        1,
        "Number of transcripts per window, at most `beam_size`; all but the best are its alternatives (`json`).",
        flag="nbest",
        at_least=1,
    )
    word_timestamps: bool = _search(False, "Compute word timestamps; segments then end with sentences and at pauses.")
    hotwords: str | Sequence[str] | None = _search(None, "Hot words: phrases to favour, separated by commas.")
    hotwords_weight: float = _search(2.0, "Score bonus per hot-word token, as a natural logarithm; 1 to 5 are usual.")
    lm: str | Path | None = _search(
        None,
        "Language model for shallow fusion: an ARPA file (`.arpa`, `.arpa.gz`) over words or over the model's tokens, "
        "or the folder or hub id of a neural model with the same vocabulary.",
    )
    lm_unit: Literal["words", "tokens"] | None = _search(
        None, "Unit of an ARPA file.", unset="tokens if 95 % of its entries are in the vocabulary, otherwise words"
    )
    lm_weight: float = _search(0.3, "Language-model weight.")
    ctc_weight: float | None = _search(
        None,
        "Joint CTC/attention decoding: share of CTC in the score, for models trained with `training.ctc_weight`; 0 "
        "leaves CTC out, 0.3 is usual.",
        unset="the model's",
    )
    suppress_tokens: str | Sequence[int] | None = _search(
        None,
        "Ids of tokens that are never written, separated by commas; `-1` stands for the checkpoint's.",
        unset="the checkpoint's",
    )
    max_new_tokens: int | None = _search(
        None,
        "Maximum number of tokens per window; a warning says when it is reached.",
        unset="what fits, at most 448 or 50 per second, whichever is more",
        at_least=1,
    )
    batch_size: int = _search(8, "Number of windows decoded together.", at_least=1)
    short_windows: bool = _search(
        False,
        "Run a Whisper's encoder on the speech of a window alone, not on silence up to 30 s: several times faster for "
        "short recordings; transcripts may differ a little.",
    )
    temperature: float | Sequence[float] = _guard(
        (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
        "0 is greedy or beam search. A transcript that fails a guard is decoded again by sampling at the next "
        "temperature.",
    )
    best_of: int = _guard(5, "Number of samples at a temperature above 0; the most likely one is kept.", at_least=1)
    compression_ratio_threshold: float | None = _guard(
        2.4, "A transcript with a higher zlib compression ratio is repetitive and fails; `none` turns the guard off."
    )
    logprob_threshold: float | None = _guard(
        -1.0, "A transcript with a lower average log-probability fails; `none` turns the guard off."
    )
    no_speech_threshold: float | None = _guard(
        0.6,
        "A window is dropped if its no-speech probability is above this and its average log-probability is below "
        "`logprob_threshold`; `none` turns the guard off.",
    )
    condition_on_previous_text: bool = _prompt(
        False, "Prompt each window with the transcript before it; decodes one window at a time."
    )
    initial_prompt: str | None = _prompt(None, "Text to prompt the decoder with, which sets names, spelling and style.")
    chunk_length_s: float | None = _splitting(None, "Maximum window length in seconds.", unset="the model's")
    stride_length_s: float = _splitting(
        1.0,
        "Overlap in seconds, on each side, where there is no pause and a window ends in mid-speech; at most an eighth "
        "of a window.",
    )
    clip_timestamps: str | Sequence[float] | None = _splitting(
        None,
        "Transcribe only these clips: `start,end,start,end,…` in seconds; the last one may go on to the end.",
        unset="everything",
    )
    vad_filter: bool = _splitting(
        True, "Skip audio without speech. Otherwise all of it is decoded, and only cut where it is quiet."
    )
    vad_threshold: float = _splitting(0.5, "Minimum probability that counts as speech.")
    # Of 600 clips of game dialogue, 250 ms lost five, "What?" among them.
    vad_min_speech_duration_ms: int = _splitting(
        100, "Minimum duration of speech; shorter sounds are ignored.", at_least=0
    )
    vad_max_speech_duration_s: float | None = _splitting(
        None, "Maximum duration of speech; longer speech is split.", unset="the window length"
    )
    vad_min_silence_duration_ms: int = _splitting(160, "Minimum silence that splits speech.", at_least=0)
    vad_speech_pad_ms: int = _splitting(200, "Padding kept before and after speech.", at_least=0)
    audio_track: int | None = _audio(
        None,
        "Number of the audio track of a file with several, from 1.",
        unset="the file's default track, otherwise the first",
        at_least=1,
    )
    on_damage: Literal["stop", "skip"] = _audio(
        "stop",
        "`stop` makes a damaged or truncated file an error; `skip` reads past the damage, and a warning gives the "
        "seconds lost.",
    )

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

    @property
    def suppressed(self) -> tuple[int, ...] | None:
        """The ids of `suppress_tokens`; `None` for the checkpoint's."""
        return None if self.suppress_tokens is None else tuple(map(int, _numbers(self.suppress_tokens)))

    @property
    def clips(self) -> tuple[tuple[float, float], ...]:
        """Start and end of the clips to transcribe, in seconds."""
        times = [] if self.clip_timestamps is None else [float(one) for one in _numbers(self.clip_timestamps)]
        ends = [*times, math.inf][: len(times) + len(times) % 2]
        return tuple(zip(ends[::2], ends[1::2], strict=True)) or ((0.0, math.inf),)

    def _wrong_types(self) -> Iterator[str]:
        for name, hint in get_type_hints(type(self)).items():
            kinds = get_args(hint) or (hint,)
            value = getattr(self, name)
            if set(kinds) <= _KINDS.keys() and (
                not isinstance(value, tuple(_KINDS[kind][0] for kind in kinds)) or isinstance(value, bool)
            ):
                yield f"`{name}` must be {' or '.join(_KINDS[kind][1] for kind in kinds)}, but is {value!r}."

    def _problems(self) -> Iterator[str]:
        yield from self._more_problems()
        yield from too_small(self)
        if self.num_return_sequences > self.beam_size >= 1:
            yield (
                f"`num_return_sequences` must be at most `beam_size` ({self.beam_size}), but is "
                f"{self.num_return_sequences}."
            )
        if self.repetition_penalty is not None and not self.repetition_penalty > 0:
            yield f"`repetition_penalty` must be above 0 (1 has no effect), but is {self.repetition_penalty}."
        for name in ("chunk_length_s", "vad_max_speech_duration_s"):
            seconds = getattr(self, name)
            if seconds is not None and not 1 <= seconds < math.inf:
                yield f"`{name}` must be at least 1 second, but is {seconds}."
        if not 0 <= self.vad_threshold <= 1:
            yield f"`vad_threshold` must be between 0 and 1, but is {self.vad_threshold}."
        if self.ctc_weight is not None and not 0 <= self.ctc_weight < 1:
            yield f"`ctc_weight` must be at least 0 and below 1, but is {self.ctc_weight}."
        if self.task not in ("transcribe", "translate", None):
            yield f"`task` must be 'transcribe' or 'translate', but is {self.task!r}."
        if self.lm_unit not in ("words", "tokens", None):
            yield f"`lm_unit` must be 'words', 'tokens' or None, but is {self.lm_unit!r}."
        if self.on_damage not in ("stop", "skip"):
            yield f"`on_damage` must be 'stop' or 'skip', but is {self.on_damage!r}."

    def _more_problems(self) -> Iterator[str]:
        temperatures: Sequence[Any] = self.temperatures
        if not temperatures or not all(isinstance(one, Real) and 0 <= float(one) < math.inf for one in temperatures):
            yield f"`temperature` must be one or more numbers of at least 0, but is {self.temperature}."
        if not 0 <= self.stride_length_s < math.inf:
            yield f"`stride_length_s` must be at least 0 seconds, but is {self.stride_length_s}."
        try:
            _ = self.suppressed
        except (TypeError, ValueError):
            yield f"`suppress_tokens` must be token ids separated by commas, but is {self.suppress_tokens!r}."
        try:
            flat = [time for clip in self.clips for time in clip]
        except (TypeError, ValueError):
            flat = [math.nan]
        if flat != sorted(flat) or not all(time >= 0 for time in flat):
            yield f"`clip_timestamps` must be increasing seconds, start,end,…, but is {self.clip_timestamps!r}."
        for name in ("hotwords_weight", "lm_weight"):
            if not math.isfinite(getattr(self, name)):
                yield f"`{name}` must be a finite number, but is {getattr(self, name)}."
        if self.no_speech_threshold is not None and not 0 <= self.no_speech_threshold <= 1:
            yield f"`no_speech_threshold` must be between 0 and 1, but is {self.no_speech_threshold}."
        for name in ("compression_ratio_threshold", "logprob_threshold"):
            value = getattr(self, name)
            if value is not None and math.isnan(value):
                yield f"`{name}` must be a number or None, but is {value}."
        if self.hotwords is not None and not self.phrases:
            yield "`hotwords` must name at least one phrase, but is empty. Leave it out, or separate phrases by commas."


def _numbers(given: str | Sequence[float]) -> Sequence[Any]:
    """Return the parts of a list that may be written with commas."""
    return [part for part in given.split(",") if part.strip()] if isinstance(given, str) else given
