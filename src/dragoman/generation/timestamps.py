"""The rule of Whisper's timestamps, which are the last tokens of its vocabulary.

Reference: Robust Speech Recognition via Large-Scale Weak Supervision, section 2.3, https://arxiv.org/abs/2212.04356.
"""

from dataclasses import dataclass

from dragoman.generation.arrays import MINUS_INFINITY, Array, Length, Ops, when


@dataclass(frozen=True)
class Timestamps:
    """A transcript begins with a timestamp; later ones come in pairs, or before the end, and never go back.

    Where all timestamps together are more probable than any other token, one is chosen.

    Attributes:
        ops: The array library.
        first: The token of 0 seconds; the one before it stands for "no timestamps".
        end: The first token that may follow the timestamp after a text, besides timestamps.
        begin: The length of the prompt.
        initial: How many tokens after `first` the first timestamp may be; `None` for any.
    """

    ops: Ops
    first: int
    end: int
    begin: int
    initial: int | None = None

    def __call__(self, tokens: Array, length: Length, scores: Array) -> Array:
        xp = self.ops.xp
        ids = xp.arange(scores.shape[1], device=self.ops.device(scores))[None]
        is_time = ids >= self.first
        places = xp.arange(tokens.shape[1], device=self.ops.device(tokens))[None]
        times = (tokens >= self.first) & (places >= self.begin) & (places < length)
        last = xp.any(times & (places == length - 1), axis=1, keepdims=True)
        before = xp.any(times & (places == length - 2), axis=1, keepdims=True) | (length - self.begin < 2)
        latest = xp.max(xp.where(times, tokens, xp.zeros_like(tokens)), axis=1, keepdims=True)
        lowest = latest + xp.where(last & ~before, xp.zeros_like(latest), xp.ones_like(latest))
        forbidden = (ids == self.first - 1) | (last & before & is_time) | (last & ~before & (ids < self.end))
        forbidden = forbidden | ((latest > 0) & is_time & (ids < lowest))
        scores = xp.where(forbidden, MINUS_INFINITY, scores)
        scores = when(self.ops, length == self.begin, lambda: self._initial(ids, scores), scores)
        probabilities = xp.exp(self.ops.log_softmax(scores))
        together = xp.sum(xp.where(is_time, probabilities, 0.0), axis=1, keepdims=True)
        other = xp.max(xp.where(is_time, 0.0, probabilities), axis=1, keepdims=True)
        return xp.where((together > other) & ~is_time, MINUS_INFINITY, scores)

    def _initial(self, ids: Array, scores: Array) -> Array:
        forbidden = ids < self.first
        if self.initial is not None:
            forbidden = forbidden | (ids > self.first + self.initial)
        return self.ops.xp.where(forbidden, MINUS_INFINITY, scores)
