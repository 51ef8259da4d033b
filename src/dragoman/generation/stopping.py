"""Stopping conditions besides the end token and the maximum length: strings, time, the caller's own criteria.

They depend on values, so they work in Python loops only.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from dragoman.errors import GenerationError
from dragoman.generation.arrays import Array, Ops
from dragoman.generation.options import GenerationConfig

StoppingCriterion: TypeAlias = Callable[[Array, Any], Any]
"""As in `transformers`: `criterion(input_ids [rows, length], scores)` returns bool, or bool `[rows]`."""


@dataclass(frozen=True)
class Stops:
    """The stopping conditions of one call of `generate`.

    Attributes:
        deadline: The time, on the clock of `time.monotonic`, at which all sequences end.
        strings: Strings that end a sequence.
        decode: Turns ids into text, for `strings`.
        prompt_length: Tokens at the start of a sequence in which `strings` are not searched.
        criteria: The caller's own.
    """

    deadline: float
    strings: tuple[str, ...]
    decode: Callable[[list[int]], str]
    prompt_length: int
    criteria: tuple[StoppingCriterion, ...]

    @property
    def reads_sequences(self) -> bool:
        """Whether `ended` has a condition to check."""
        return bool(self.strings or self.criteria)

    def time_is_up(self) -> bool:
        """Return whether all sequences must end now."""
        return time.monotonic() >= self.deadline

    def ended(self, ops: Ops, sequences: Array, scores: Sequence[Array] | None) -> Array:
        """Return bool `[rows]`: which of the sequences int `[rows, length]` end with their last token.

        Args:
            ops: The array library.
            sequences: The tokens so far, the new one included.
            scores: The recorded scores, for the caller's criteria.
        """
        xp, device = ops.xp, ops.device(sequences)
        ended = xp.zeros((sequences.shape[0],), dtype=xp.bool, device=device)
        if self.strings:
            generated = sequences[:, self.prompt_length :].tolist()
            found = [any(one in text for one in self.strings) for text in map(self.decode, generated)]
            ended = xp.asarray(found, dtype=xp.bool, device=device)
        for criterion in self.criteria:
            ended = ended | xp.asarray(criterion(sequences, scores), dtype=xp.bool, device=device)
        return ended


def stops_of(
    options: GenerationConfig,
    prompt_length: int,
    criteria: Sequence[StoppingCriterion],
    decode: Callable[[list[int]], str] | None,
) -> Stops:
    """Collect the stopping conditions; `max_time` counts from now.

    Raises:
        GenerationError: If there are stop strings and nothing to decode ids with.
    """
    strings = (options.stop_strings,) if isinstance(options.stop_strings, str) else tuple(options.stop_strings or ())
    if strings and decode is None:
        raise GenerationError(
            f"`stop_strings` ({', '.join(map(repr, strings))}) are searched in the decoded text, which needs the "
            f"tokenizer. Pass `tokenizer=` to `generate`."
        )
    seconds = float("inf") if options.max_time is None else options.max_time
    return Stops(time.monotonic() + seconds, strings, decode or (lambda ids: ""), prompt_length, tuple(criteria))
