"""What the decoder wrote for one window, before it is cut into segments."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman.transcriber.result import Alternative


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """When the tokens of a window are spoken.

    Attributes:
        begins: Start of each token, and end of the last one, in seconds from the start of the window, `[tokens + 1]`,
            never decreasing.
        matrix: The normalised cross-attention that it was found in, `[tokens + 1, frames]`; the last row belongs to the
            end token.
    """

    begins: np.ndarray[Any, Any]
    matrix: np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """The transcript of one window.

    Attributes:
        text: The words.
        tokens: Their ids, without prompt and end token.
        log_probs: Natural-log probability of each generated token, the end token included.
        truncated: Whether the length limit cut the transcript off.
        seconds: Length of the window; 0 if it is not known.
        temperature: Sampling temperature; 0 for a search.
        no_speech_prob: Probability that the window holds no speech.
        alternatives: Other transcripts that the search found, best first.
        alignment: When each token is spoken, if that was asked for.
    """

    text: str
    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    truncated: bool
    seconds: float = 0.0
    temperature: float = 0.0
    no_speech_prob: float = 0.0
    alternatives: tuple[Alternative, ...] = ()
    alignment: Alignment | None = None

    @property
    def avg_logprob(self) -> float:
        """Mean log-probability of the generated tokens, the end token included."""
        return sum(self.log_probs) / len(self.log_probs)
