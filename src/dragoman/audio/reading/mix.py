"""Mixing channels down to mono, without cancelling those in antiphase."""

import warnings
from math import exp
from typing import Any

import numpy as np

from dragoman.audio.waveform import Waveform

_CANCELLED = 0.1  # power of the sum over the sum of the powers: 1 for unrelated channels, N for N equal ones
_RESTORED = 0.5  # above it the mean is used again
_SILENCE = 1e-8  # mean square; below it the phase of the channels is unknown
_MEMORY = 1.0  # time constant of the average power, in seconds
_PIECE = 0.5  # seconds between choices
_FADE = 0.02  # seconds of the fade between two choices


class Mixer:
    """Mixes the channels of one recording down to mono, block by block.

    The result is the mean of the channels. Where they cancel each other (a microphone with inverted wires, a balanced
    signal recorded as stereo), it is the loudest channel, with one warning per recording.

    Args:
        name: Name of the recording, for the warning.
        sampling_rate: In hertz.
        channels: Their number.

    Attributes:
        done: Number of samples mixed so far.
    """

    def __init__(self, name: str, sampling_rate: int, channels: int) -> None:
        self._name, self._rate, self._channels = name, sampling_rate, channels
        self._powers = np.zeros(channels)  # of the channels, decaying
        self._mixed = 0.0  # power of their mean, decaying
        self._chosen: int | None = None  # the channel in use, instead of the mean
        self.done = 0  # samples so far
        self._warned = False

    def mean(self, block: Any) -> Waveform:
        """Return the mean of the channels of a block `[channels, samples]`, which may not be finite."""
        with np.errstate(all="ignore"):
            mean: Waveform = np.full(len(block), 1 / len(block), np.float32) @ block
        return mean

    def mix(self, block: Any, mean: Waveform) -> Waveform:
        """Return the next block as mono.

        Args:
            block: `[channels, samples]`, finite.
            mean: Its mean, which is returned unchanged unless the channels cancel out.
        """
        if self._channels == 1:
            self.done += len(mean)
            return mean
        mono, piece = mean, max(1, round(_PIECE * self._rate))
        for start in range(0, len(mean), piece):
            part = slice(start, start + piece)
            before = self._chosen
            self._choose(block[:, part], mean[part])
            if before is None and self._chosen is None:
                continue
            mono = mean.copy() if mono is mean else mono
            mono[part] = self._signal(self._chosen, block[:, part], mean[part])
            if before != self._chosen and self.done + start > 0:
                self._fade(mono[part], self._signal(before, block[:, part], mean[part]))
        self.done += len(mean)
        return mono

    def _signal(self, chosen: int | None, block: Any, mean: Waveform) -> Any:
        return mean if chosen is None else block[chosen]

    def _fade(self, after: Waveform, before: Waveform) -> None:
        """Fade from `before` to `after`, in place."""
        length = min(len(after), max(1, round(_FADE * self._rate)))
        ramp = np.linspace(0, 1, length, dtype=np.float32)
        after[:length] = ramp * after[:length] + (1 - ramp) * before[:length]

    def _choose(self, block: Any, mean: Waveform) -> None:
        """Choose the mean or a channel, with hysteresis, from the average power."""
        kept, length = exp(-len(mean) / (_MEMORY * self._rate)), len(mean)
        self._powers = kept * self._powers + length * block.var(axis=1)
        self._mixed = kept * self._mixed + length * float(mean.var())
        total = float(self._powers.sum())
        if total < _SILENCE * _MEMORY * self._rate:
            return
        ratio = self._mixed * self._channels**2 / total
        if self._chosen is None and ratio < _CANCELLED:
            self._chosen = int(self._powers.argmax())
            self._warn()
        elif self._chosen is not None and ratio > _RESTORED:
            self._chosen = None

    def _warn(self) -> None:
        if self._warned:
            return
        self._warned = True
        warnings.warn(
            f"{self._name}: its channels cancel each other when mixed (one of them is inverted). Where they do, from "
            f"{self.done / self._rate:.0f} s on, the loudest one is used instead of their mean.",
            UserWarning,
            stacklevel=2,
        )
