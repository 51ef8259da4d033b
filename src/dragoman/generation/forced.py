"""Tokens that a checkpoint forces at fixed places: Whisper's language, task and time tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

from array_api_compat import array_namespace, device

__all__ = ["ForcedTokens", "split_forced"]


def split_forced(forced: Sequence[Sequence[int | None]] | None) -> tuple[list[int], dict[int, int]]:
    """Split `forced_decoder_ids`, pairs of place and token, into a prompt and what is forced behind it.

    Args:
        forced: As in a `generation_config.json`; place 1 follows the start token, and a token that is `None` is free (a
            multilingual Whisper chooses the language by itself).

    Returns:
        The tokens from place 1 up to the first that is free, and the forced tokens after that, by place.
    """
    by_place = {place: token for place, token in forced or () if place is not None}
    prompt: list[int] = []
    while (token := by_place.get(len(prompt) + 1)) is not None:
        prompt.append(token)
    return prompt, {place: token for place, token in by_place.items() if token is not None and place > len(prompt)}


class ForcedTokens:
    """A processor, in Hugging Face's form, that leaves one token possible at each place that is forced."""

    def __init__(self, by_place: Mapping[int, int]) -> None:
        self._by_place = dict(by_place)

    def __call__(self, tokens: Any, scores: Any) -> Any:
        """Return the scores `[rows, vocab]` of the token that follows `tokens` `[rows, length]`."""
        token = self._by_place.get(tokens.shape[1])
        if token is None:
            return scores
        xp = array_namespace(scores)
        only = xp.arange(scores.shape[1], device=device(scores)) == token
        return xp.where(only[None, :], xp.zeros_like(scores), xp.full_like(scores, -float("inf")))
