"""For tests, of dragoman and of what is built on it: tiny configurations, synthetic speech, the tolerances we hold to.

Nothing here is downloaded: `SpeechEncoderDecoderModel(config=...)` of two tiny configurations is a complete model in
milliseconds. `data/` holds the sample that `scripts/demo` transcribes.
"""

from dragoman.testing.configs import tiny_config
from dragoman.testing.speech import synthetic_speech
from dragoman.testing.tolerances import TOLERANCES

__all__ = ["TOLERANCES", "synthetic_speech", "tiny_config"]
