"""Flags of `whisper` and `faster-whisper` whose effect is elsewhere here: they are accepted, and act or warn."""

import warnings
from dataclasses import dataclass, replace
from functools import partial

from dragoman.errors import ConfigError
from dragoman.transcriber.fields import option
from dragoman.transcriber.options import TranscribeOptions

_whisper = partial(option, group="As in whisper")


@dataclass(frozen=True, kw_only=True)
class WhisperFlags:
    """Accepted so that command lines written for other programs work; one without effect gives a warning."""

    temperature_increment_on_fallback: str | None = _whisper(
        None, "Step between the temperatures up to 1, from the first `temperature`; `none` for no fallback."
    )
    batched: str | None = _whisper(None, "`False` decodes one window at a time, like `batch_size` 1.")
    fp16: str | None = _whisper(None, "`False` changes nothing: see `compute_type`.")
    without_timestamps: str | None = _whisper(None, "`True` changes nothing: Whisper's time tokens are never decoded.")
    patience: float | None = _whisper(None, "1 changes nothing; other numbers give a warning.")
    hallucination_silence_threshold: str | None = _whisper(None, "Gives a warning: `vad_filter` skips silence.")
    prepend_punctuations: str | None = _whisper(None, "Gives a warning: punctuation is recognised in every script.")
    append_punctuations: str | None = _whisper(None, "Gives a warning: punctuation is recognised in every script.")
    print_colors: str | None = _whisper(None, "`True` gives a warning: `-f json` has the probabilities of words.")

    def applied(self, options: TranscribeOptions) -> TranscribeOptions:
        """Return the options with the effect of these flags, and warn of those that have none.

        Raises:
            ConfigError: If a value is not of its type.
        """
        for name, reason in self._idle():
            warnings.warn(f"`--{name}` has no effect: {reason}", UserWarning, stacklevel=2)
        if _truth("batched", self.batched) is False:
            options = replace(options, batch_size=1)
        step = self.temperature_increment_on_fallback
        if step is None:
            return options
        first = options.temperatures[0]
        if step.lower() in ("none", "off"):
            return replace(options, temperature=first)
        try:
            increment = float(step)
        except ValueError:
            increment = 0.0
        if not increment >= 0.01:
            raise ConfigError(
                f"`--temperature_increment_on_fallback` must be a number of at least 0.01, or none, but is {step!r}."
            )
        count = max(int((1 + 1e-6 - first) / increment), 0) + 1
        return replace(options, temperature=tuple(round(first + n * increment, 6) for n in range(count)))

    def _idle(self) -> list[tuple[str, str]]:
        """Return the flags without effect that were set, with the reason."""
        punctuation = "punctuation is recognised by its Unicode category, and stays with the word before or after it."
        idle = [
            (
                "hallucination_silence_threshold",
                _is_set(self.hallucination_silence_threshold),
                "--vad_filter skips silence before it is decoded.",
            ),
            (
                "patience",
                self.patience not in (None, 1.0),
                "the search ends as soon as as many transcripts are finished as there are beams.",
            ),
            ("fp16", _truth("fp16", self.fp16), "--compute_type chooses the type, float16 on a GPU."),
            (
                "without_timestamps",
                _truth("without_timestamps", self.without_timestamps) is False,
                "Whisper's time tokens are never decoded; times come from pauses and attention (--word_timestamps).",
            ),
            ("prepend_punctuations", self.prepend_punctuations is not None, punctuation),
            ("append_punctuations", self.append_punctuations is not None, punctuation),
            (
                "print_colors",
                _truth("print_colors", self.print_colors),
                "-f json --word_timestamps writes the probability of each word.",
            ),
        ]
        return [(name, reason) for name, is_idle, reason in idle if is_idle]


def _is_set(value: str | None) -> bool:
    return value is not None and value.lower() != "none"


def _truth(name: str, value: str | None) -> bool | None:
    if value is None:
        return None
    if value.lower() not in ("true", "false"):
        raise ConfigError(f"`--{name}` must be True or False, but is {value!r}.")
    return value.lower() == "true"
