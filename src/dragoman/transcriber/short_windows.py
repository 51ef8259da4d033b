"""Short windows of a Whisper: its encoder runs on the speech alone, and not on the silence up to 30 s.

A Whisper takes windows of a fixed length, so a clip of two seconds costs as much as one of thirty. Here, what the
layers make of silence (keys, values and states of each frame) is computed once and kept. The frames of speech attend to
it, and the decoder reads its states after theirs. What is missing is that the silent frames have not seen the speech:
transcripts may differ.

The value of silence depends on the loudest frame of a window. Windows are made a little louder or softer, so that few
values are needed.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np

from dragoman.errors import ConfigError
from dragoman.model.runner import Runner

Array = np.ndarray[Any, Any]

_AFTER_S: Final = 0.5  # silence that is encoded with the speech, at least
_STEP_S: Final = 1.0  # lengths are rounded up to a multiple, so that windows share a batch whatever the others are
_LONGEST: Final = 0.75  # of the model's window; longer ones are encoded as always
_LEVELS: Final = 0.25  # of log-mel features; half of it is 2.5 dB
_KEPT: Final = 3  # levels in memory: 30 MB each for Whisper tiny, 0.5 GB for large


@runtime_checkable
class ShortWindowRunner(Protocol):
    """What a runner offers for short windows; what the methods return is opaque."""

    @property
    def encodes_short_windows(self) -> bool:
        """Whether this model does."""
        ...

    def encode_silence(self, features: Array) -> Any:
        """Encode a silent window `[1, mels, inputs]`, two inputs longer than the model's."""
        ...

    def encode_short(self, features: Array, silence: Any) -> Any:
        """Encode windows `[batch, mels, inputs]` whose rest is silent; the last two inputs belong to the rest.

        Returns:
            What `encode` returns for whole windows.
        """
        ...

    def joined(self, encoded: Sequence[Any]) -> Any:
        """Return the rows of several encoder outputs as one."""
        ...


class ShortWindows:
    """Encodes windows, short ones without their silence.

    Args:
        runner: The model.
        extractor: Its feature extractor.

    Raises:
        ConfigError: If the model or its engine has no short windows.
    """

    def __init__(self, runner: Runner, extractor: Any) -> None:
        if not isinstance(runner, ShortWindowRunner) or not runner.encodes_short_windows:
            raise ConfigError(
                "`short_windows` is for Whisper models, in PyTorch or as graphs that this version of `dragoman export` "
                "wrote. Leave it out."
            )
        self._runner, self._encode, self._take = runner, runner.encode, runner.take
        self._extractor = extractor
        self._silence: OrderedDict[float, Any] = OrderedDict()

    def encode(self, inputs: Mapping[str, Array], lengths: Sequence[int]) -> Any:
        """Encode windows, each as it would be alone.

        Args:
            inputs: The features of the extractor.
            lengths: Samples of each window, without padding.
        """
        features, extractor = inputs["input_features"], self._extractor
        groups: dict[tuple[int, float], list[int]] = {}
        for row, length in enumerate(lengths):
            steps = math.ceil((length / extractor.sampling_rate + _AFTER_S) / _STEP_S)
            count = round(steps * _STEP_S * extractor.inputs_per_second)
            if count > _LONGEST * features.shape[2]:
                groups.setdefault((0, 0.0), []).append(row)
            else:
                groups.setdefault((count, _level(extractor.silence(features[row]))), []).append(row)
        encoded, order = [], []
        for (count, level), rows in groups.items():
            if count:
                some = [features[row, :, : count + 2] + (level - extractor.silence(features[row])) for row in rows]
                encoded.append(self._runner.encode_short(np.stack(some).astype(np.float32), self._silent(level)))
            else:
                encoded.append(self._encode({**inputs, "input_features": features[rows]}))
            order += rows
        if len(encoded) == 1:
            return encoded[0]
        return self._take(self._runner.joined(encoded), np.argsort(order).tolist())

    def _silent(self, level: float) -> Any:
        if level not in self._silence:
            shape = (1, self._extractor.feature_size, self._extractor.nb_max_frames + 2)
            self._silence[level] = self._runner.encode_silence(np.full(shape, level, np.float32))
        self._silence.move_to_end(level)
        while len(self._silence) > _KEPT:
            self._silence.popitem(last=False)
        return self._silence[level]


def _level(silence: float) -> float:
    return max(round(silence / _LEVELS) * _LEVELS, -1.5)
