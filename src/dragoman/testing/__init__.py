"""Helpers for tests of dragoman and of programs that use it: tiny configurations, synthetic speech and tolerances.

Nothing is downloaded: `SpeechEncoderDecoderModel(config=...)` of two tiny configurations builds a complete model in
milliseconds. `data/` holds the sample that `scripts/demo` transcribes.
"""

from dragoman.testing.configs import tiny_config
from dragoman.testing.speech import synthetic_speech
from dragoman.testing.tolerances import TOLERANCES

__all__ = ["TOLERANCES", "synthetic_speech", "tiny_config"]
