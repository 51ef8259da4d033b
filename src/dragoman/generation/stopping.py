"""What ends a text besides its end token and the limit of its length: strings, the clock, the caller's own criteria.

All of these look at values, so they work in Python loops only.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from dragoman.errors import GenerationError
from dragoman.generation.arrays import Array, Ops
from dragoman.generation.options import GenerationConfig

__all__ = ["StoppingCriterion", "Stops", "stops_of"]

StoppingCriterion: TypeAlias = Callable[[Array, Any], Any]
"""Hugging Face's form: `criterion(input_ids [rows, length], scores)` returns bool, or bool `[rows]`."""


@dataclass(frozen=True)
class Stops:
    """Everything that may end texts of one call of `generate`.

    Attributes:
        deadline: The time by `time.monotonic` at which all texts end.
        strings: Strings that end a text.
        decode: Turns ids into text, for `strings`.
        prompt_length: Tokens at the beginning of a text that are not searched for `strings`.
        criteria: The caller's own.
    """

    deadline: float
    strings: tuple[str, ...]
    decode: Callable[[list[int]], str]
    prompt_length: int
    criteria: tuple[StoppingCriterion, ...]

    def time_is_up(self) -> bool:
        """Return whether all texts must end now."""
        return time.monotonic() >= self.deadline

    def looks_at_texts(self) -> bool:
        """Return whether `ended` could say anything."""
        return bool(self.strings or self.criteria)

    def ended(self, ops: Ops, texts: Array, scores: Sequence[Array] | None) -> Array:
        """Return bool `[rows]`: which of the texts int `[rows, length]` have just come to their end.

        Args:
            ops: The array library.
            texts: The tokens so far, the new one included.
            scores: The recorded scores, for the caller's criteria.
        """
        xp, device = ops.xp, ops.device(texts)
        ended = xp.zeros((texts.shape[0],), dtype=xp.bool, device=device)
        if self.strings:
            generated = texts[:, self.prompt_length :].tolist()
            found = [any(one in text for one in self.strings) for text in map(self.decode, generated)]
            ended = xp.asarray(found, dtype=xp.bool, device=device)
        for criterion in self.criteria:
            ended = ended | xp.asarray(criterion(texts, scores), dtype=xp.bool, device=device)
        return ended


def stops_of(
    options: GenerationConfig,
    prompt_length: int,
    criteria: Sequence[StoppingCriterion],
    decode: Callable[[list[int]], str] | None,
) -> Stops:
    """Start the clock and gather what may end texts.

    Raises:
        GenerationError: If there are stop strings and nothing to decode ids with.
    """
    strings = (options.stop_strings,) if isinstance(options.stop_strings, str) else tuple(options.stop_strings or ())
    if strings and decode is None:
        raise GenerationError(
            f"`stop_strings` ({', '.join(map(repr, strings))}) are looked for in the text, which needs the tokenizer. "
            f"Pass `tokenizer=` to `generate`."
        )
    seconds = float("inf") if options.max_time is None else options.max_time
    return Stops(time.monotonic() + seconds, strings, decode or _no_text, prompt_length, tuple(criteria))


def _no_text(ids: list[int]) -> str:
    return ""
