"""One call of a stack as values: positions and masks of its tokens, and what each of its layers reads.

Axes: rows (utterances, or utterances x beams), tokens, size (tokens so far), frames, heads.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dragoman.errors import ConfigError
from dragoman.spec import TextDecoderSpec
from dragoman.torch.net.cache import Cache, Memory
from dragoman.torch.net.position_bias import Distances
from dragoman.torch.net.rotary import Rotary


@dataclass(frozen=True, kw_only=True)
class Step:
    """Positions of the tokens (or frames) of one call, and which others they attend to."""

    start: int = 0
    """Number of earlier tokens."""
    size: int = 0
    """Number of keys that the tokens attend to, which is that of all tokens so far."""
    positions: Int[Tensor, "rows tokens"] | None = None
    """Position of each token, where they are not consecutive from `start` on."""
    mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None
    """True where attention is allowed, or values to add to the scores; broadcast to `[rows, heads, tokens, size]`."""
    local_mask: Bool[Tensor, "..."] | None = None
    """The mask of layers with a window, where the sequence is longer than that."""
    causal: bool = False
    """No token attends to later ones; there is no `mask` then."""


@dataclass(frozen=True, kw_only=True)
class LayerInputs:
    """What one layer reads besides its states."""

    mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None
    """As in `Step`."""
    causal: bool = False
    """As in `Step`."""
    rotary: Rotary | None = None
    """Rotation of queries and keys by their positions."""
    bias: Tensor | Distances | None = None
    """Relative positions, for the layers that use them: a bias of the scores (WavLM), the `relative_positions` of a
    Conformer, the vectors of disentangled attention."""
    frame_mask: Bool[Tensor, "rows frames"] | None = None
    """Frames that convolutions read (Conformer); `None` for all."""
    memory: Memory | None = None
    """What cross-attention reads; layers skip it if there is none."""
    cache: Cache | None = None
    """Keys and values of earlier tokens, to which those of the new ones are added."""
    weights: bool = False
    """Whether the attention weights are returned too."""


def decoding_step(
    spec: TextDecoderSpec,
    given: Tensor,
    cache: Cache | None,
    token_mask: Bool[Tensor, "rows size"] | None = None,
    positions: Int[Tensor, "rows tokens"] | None = None,
) -> Step:
    """Return positions and masks of new tokens, after those in the cache.

    Args:
        spec: The decoder's.
        given: The new tokens, or their embeddings.
        cache: Earlier tokens.
        token_mask: True for the tokens that others attend to, of all so far; after a prefix, of the text alone.
        positions: Positions of the new tokens, where they do not follow from the rest.

    Raises:
        ConfigError: If `token_mask` is not as long as the sequence so far.
    """
    count, start = given.shape[1], cache.length if cache else 0
    size = start + count
    if cache is not None:
        if token_mask is None and cache.text_mask is not None:
            token_mask = _padded(cache.text_mask, size - cache.prefix_length)
        if cache.prefix_mask is not None:
            token_mask, positions = _after_prefix(cache.prefix_mask, start, count, token_mask, positions)
    table = spec.embed.positions
    if positions is None and token_mask is not None and table is not None and table.from_mask:
        positions = _positions(token_mask)[:, start:]
    mask = None
    if token_mask is not None or (spec.causal and (start or spec.position_bias is not None)):
        mask = _attention_mask(spec.causal, count, start, token_mask, given.device)
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined]  # counts are then tensors, of an example
    local, local_mask = spec.stack.local, None
    if local is not None and (tracing or size > local.window):
        local_mask = _attention_mask(spec.causal, count, start, token_mask, given.device, local.window)
    causal = spec.causal and mask is None and count > 1
    causal = bool(causal) if tracing else causal
    return Step(start=start, size=size, positions=positions, mask=mask, local_mask=local_mask, causal=causal)


def _attention_mask(
    causal: bool, count: int, start: int, token_mask: Tensor | None, device: torch.device, window: int | None = None
) -> Bool[Tensor, "rows 1 tokens size"] | None:
    """Return which keys the `count` tokens from number `start` on attend to; `None` for all."""
    if token_mask is None and window is None and count == 1:
        return None
    mask = torch.ones(count, start + count, dtype=torch.bool, device=device)
    if causal:
        mask = mask.tril(start)
    if window is not None:
        mask = mask.triu(start - window + 1)
    mask = mask[None, None]
    if token_mask is None:
        return mask
    if token_mask.shape[1] != start + count:
        raise ConfigError(
            f"The attention mask of the decoder must have a number for each of the {start + count} tokens so "
            f"far, but has the shape {list(token_mask.shape)}."
        )
    # A token always attends to itself, so that padding on the left leaves no row without keys.
    keys = torch.arange(start + count, device=device)
    itself = keys == keys[start:, None]
    return (mask & token_mask[:, None, None, :]) | itself


def prefix_of(memory: Memory) -> tuple[Bool[Tensor, "rows prefix"], Int[Tensor, "rows prefix"]]:
    """Return which states of a memory that comes before the text are valid, and their positions."""
    assert memory.states is not None
    mask = memory.mask
    if mask is None:
        mask = torch.ones(memory.states.shape[:2], dtype=torch.bool, device=memory.states.device)
    return mask, _positions(mask)


def after_prefix(
    memory: Memory,
    count: int,
    token_mask: Bool[Tensor, "rows tokens"] | None = None,
    positions: Int[Tensor, "rows tokens"] | None = None,
) -> tuple[Bool[Tensor, "rows prefix"], Bool[Tensor, "rows size"], Int[Tensor, "rows size"]]:
    """Join the masks and positions of a memory and of the first `count` tokens of the text after it.

    Returns:
        The mask of the memory, that of memory and text, and the positions of both.
    """
    prefix, places = prefix_of(memory)
    token_mask, positions = _after_prefix(prefix, prefix.shape[1], count, token_mask, positions)
    return prefix, token_mask, torch.cat([places, positions], 1)


def _after_prefix(
    prefix: Tensor, start: int, count: int, token_mask: Tensor | None, positions: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the mask of prefix and text, and the positions of the `count` tokens from place `start` on."""
    read = start - prefix.shape[1]
    if token_mask is None:
        token_mask = prefix.new_ones(prefix.shape[0], read + count)
    if positions is None:
        positions = _positions(token_mask)[:, read:]
    return torch.cat([prefix, token_mask], 1), positions + prefix.long().sum(1, keepdim=True)


def _positions(mask: Bool[Tensor, "rows size"]) -> Int[Tensor, "rows size"]:
    """Number the tokens that a mask keeps."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def _padded(mask: Bool[Tensor, "rows tokens"], size: int) -> Bool[Tensor, "rows size"]:
    """Return a mask of `size` tokens that keeps those beyond its end."""
    mask = mask[:, :size]
    return F.pad(mask, (0, size - mask.shape[1]), value=True)
