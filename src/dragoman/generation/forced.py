"""Tokens that a checkpoint forces at fixed positions: Whisper's language, task and timestamp tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

from array_api_compat import array_namespace, device

__all__ = ["ForcedTokens", "split_forced"]


def split_forced(forced: Sequence[Sequence[int | None]] | None) -> tuple[list[int], dict[int, int]]:
    """Split `forced_decoder_ids`, pairs of position and token, into a prompt and the tokens forced after it.

    Args:
        forced: As in a `generation_config.json`; position 1 follows the start token, and a token that is `None` is
            free (a multilingual Whisper chooses the language itself).

    Returns:
        The tokens from position 1 up to the first that is free, and the forced tokens after that, by position.
    """
    tokens = {position: token for position, token in forced or () if position is not None}
    prompt: list[int] = []
    while (token := tokens.get(len(prompt) + 1)) is not None:
        prompt.append(token)
    return prompt, {position: t for position, t in tokens.items() if t is not None and position > len(prompt)}


class ForcedTokens:
    """A logits processor, as in `transformers`, that allows only the forced token at each forced position."""

    def __init__(self, by_position: Mapping[int, int]) -> None:
        self._by_position = dict(by_position)

    def __call__(self, tokens: Any, scores: Any) -> Any:
        """Return the scores `[rows, vocab]` of the token that follows `tokens` `[rows, length]`."""
        token = self._by_position.get(tokens.shape[1])
        if token is None:
            return scores
        xp = array_namespace(scores)
        forced = xp.arange(scores.shape[1], device=device(scores)) == token
        return xp.where(forced[None, :], xp.zeros_like(scores), xp.full_like(scores, -float("inf")))
