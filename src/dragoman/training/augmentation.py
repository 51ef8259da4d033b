"""Changes of the speech that make a model robust: speed and noise, drawn for each item and epoch.

SpecAugment is part of the encoder, by the fields `apply_spec_augment` and `mask_*` of its configuration.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr

Waveform = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is drawn for each item.

    Attributes:
        speeds: Factors of speed, all equally likely; pitch changes too (T. Ko et al., Audio augmentation for speech
            recognition, 2015).
        noise_probability: Share of the items that noise is added to.
        noise_snr_db: Lowest and highest ratio of speech to noise, in decibels.
    """

    speeds: Sequence[float] = (1.0,)
    noise_probability: float = 0.0
    noise_snr_db: tuple[float, float] = (10.0, 30.0)

    def __call__(self, waveform: Waveform, sampling_rate: int, random: np.random.Generator) -> Waveform:
        """Return a changed waveform.

        Args:
            waveform: Mono samples `[samples]`.
            sampling_rate: In hertz.
            random: Draws what is done; the same state gives the same result.
        """
        speed = float(self.speeds[int(random.integers(len(self.speeds)))])
        changed = at_speed(waveform, sampling_rate, speed)
        if random.random() < self.noise_probability:
            changed = with_noise(changed, random.uniform(*self.noise_snr_db), random)
        return changed

    @property
    def slowest(self) -> float:
        """Factor by which an item can become longer."""
        return 1 / min(self.speeds)


def at_speed(waveform: Waveform, sampling_rate: int, factor: float) -> Waveform:
    """Return speech `factor` times as fast."""
    if factor == 1.0 or len(waveform) == 0:
        return waveform
    return np.asarray(soxr.resample(waveform, sampling_rate * factor, sampling_rate), np.float32)


def with_noise(waveform: Waveform, snr_db: float, random: np.random.Generator) -> Waveform:
    """Return speech with white noise; silence stays as it is.

    Args:
        waveform: The samples.
        snr_db: Power of the speech over that of the noise, in decibels.
        random: Draws the noise.
    """
    power = float(np.mean(np.square(waveform, dtype=np.float64))) if len(waveform) else 0.0
    noise = random.standard_normal(len(waveform))
    return np.asarray(waveform + noise * np.sqrt(power / 10 ** (snr_db / 10)), np.float32)
