"""One call of a stack as values: positions and masks of its tokens, and what each of its layers reads.

Axes: rows (utterances, or utterances x beams), tokens, size (places of the cache), frames, heads.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from dragoman.jax.net.cache import Cache, Memory
from dragoman.jax.net.layers import Key
from dragoman.jax.net.position_bias import Distances
from dragoman.jax.net.rotary import Rotary
from dragoman.spec import TextDecoderSpec


@dataclass(frozen=True, kw_only=True)
class Step:
    """Positions of the tokens (or frames) of one call, and which others they attend to."""

    start: Int[Array, ""] | int = 0
    """Number of earlier tokens."""
    size: int = 0
    """Number of keys that the tokens attend to, which is the capacity of the cache."""
    positions: Int[Array, "rows tokens"] | None = None
    """Position of each token, where they are not consecutive from `start` on."""
    mask: Bool[Array, "..."] | Float[Array, "..."] | None = None
    """True where attention is allowed, or values to add to the scores; broadcast to `[rows, heads, tokens, size]`."""
    local_mask: Bool[Array, "..."] | None = None
    """The mask of layers with a window, where the sequence may be longer than that."""
    causal: bool = False
    """No token attends to later ones; there is no `mask` then."""


@dataclass(frozen=True, kw_only=True)
class LayerInputs:
    """What one layer reads besides its states."""

    mask: Bool[Array, "..."] | Float[Array, "..."] | None = None
    """As in `Step`."""
    causal: bool = False
    """As in `Step`."""
    rotary: Rotary | None = None
    """Rotation of queries and keys by their positions."""
    bias: Array | Distances | None = None
    """Relative positions, for the layers that use them: a bias of the scores (WavLM), the `relative_positions` of a
    Conformer, the vectors of disentangled attention."""
    frame_mask: Bool[Array, "rows frames"] | None = None
    """Frames that convolutions read (Conformer); `None` for all."""
    memory: Memory | None = None
    """What cross-attention reads; layers skip it if there is none."""
    cache: Cache | None = None
    """Keys and values of earlier tokens, to which those of the new ones are added."""
    weights: bool = False
    """Whether the attention weights are returned too."""
    key: Key = None
    """For dropout and LayerDrop."""


def decoding_step(
    spec: TextDecoderSpec,
    given: Array,
    cache: Cache | None,
    token_mask: Bool[Array, "rows size"] | None = None,
    positions: Int[Array, "rows tokens"] | None = None,
) -> Step:
    """Return positions and masks of new tokens, after those in the cache.

    Args:
        spec: The decoder's.
        given: The new tokens, or their embeddings.
        cache: Earlier tokens.
        token_mask: True for the tokens that others attend to, of all so far; after a prefix, of the text alone. Tokens
            beyond its end are attended to.
        positions: Positions of the new tokens, where they do not follow from the rest.
    """
    count, start = given.shape[1], cache.length if cache else 0
    size = cache.capacity if cache else count
    if cache is not None:
        if token_mask is None:
            token_mask = cache.text_mask
        if cache.prefix_mask is not None:
            token_mask, positions = _after_prefix(cache.prefix_mask, start, count, size, token_mask, positions)
    table = spec.embed.positions
    if positions is None and token_mask is not None and table is not None and table.from_mask:
        positions = _positions_from(token_mask, start, count, size)
    mask = None
    if cache is not None or token_mask is not None or spec.position_bias is not None:
        mask = _attention_mask(spec.causal, count, start, size, token_mask)
    local, local_mask = spec.stack.local, None
    if local is not None and size > local.window:
        local_mask = _attention_mask(spec.causal, count, start, size, token_mask, local.window)
    causal = spec.causal and mask is None and count > 1
    return Step(start=start, size=size, positions=positions, mask=mask, local_mask=local_mask, causal=causal)


def _attention_mask(
    causal: bool, count: int, start: Array | int, size: int, token_mask: Array | None, window: int | None = None
) -> Bool[Array, "rows 1 tokens size"]:
    """Return which keys the `count` tokens from number `start` on attend to."""
    own = start + jnp.arange(count)[:, None]
    keys = jnp.arange(size)[None, :]
    mask = keys <= own if causal else keys < start + count
    if window is not None:
        mask = mask & (keys > own - window)
    mask = mask[None, None]
    if token_mask is None:
        return mask
    # A token always attends to itself, so that padding on the left leaves no row without keys.
    return (mask & _padded(token_mask, size)[:, None, None, :]) | (keys == own)


def prefix_of(memory: Memory) -> tuple[Bool[Array, "rows prefix"], Int[Array, "rows prefix"]]:
    """Return which states of a memory that comes before the text are valid, and their positions."""
    assert memory.states is not None
    mask = jnp.ones(memory.states.shape[:2], bool) if memory.mask is None else memory.mask
    return mask, _positions(mask)


def after_prefix(
    memory: Memory,
    count: int,
    token_mask: Bool[Array, "rows tokens"] | None = None,
    positions: Int[Array, "rows tokens"] | None = None,
) -> tuple[Bool[Array, "rows prefix"], Bool[Array, "rows size"], Int[Array, "rows size"]]:
    """Join the masks and positions of a memory and of the first `count` tokens of the text after it.

    Returns:
        The mask of the memory, that of memory and text, and the positions of both.
    """
    prefix, places = prefix_of(memory)
    if token_mask is None:
        token_mask = jnp.ones((prefix.shape[0], count), bool)
    token_mask, positions = _after_prefix(prefix, prefix.shape[1], count, count, token_mask, positions)
    return prefix, token_mask, jnp.concatenate([places, positions], 1)


def _after_prefix(
    prefix: Array, start: Array | int, count: int, size: int, token_mask: Array | None, positions: Array | None
) -> tuple[Array, Array]:
    """Return the mask of prefix and text, and the positions of the `count` tokens from place `start` on."""
    read = start - prefix.shape[1]
    if positions is None:
        consecutive = (read + jnp.arange(count))[None]
        positions = consecutive if token_mask is None else _positions_from(token_mask, read, count, size)
    mask = prefix if token_mask is None else jnp.concatenate([prefix, token_mask], 1)
    return mask, positions + prefix.sum(1, keepdims=True)


def _positions_from(mask: Array, start: Array | int, count: int, size: int) -> Int[Array, "rows tokens"]:
    """Return the positions of the `count` tokens from number `start` on."""
    return lax.dynamic_slice_in_dim(_positions(_padded(mask, size)), start, count, axis=1)


def _positions(mask: Bool[Array, "rows size"]) -> Int[Array, "rows size"]:
    """Number the tokens that a mask keeps."""
    return jnp.clip(jnp.cumsum(mask, axis=1) - 1, 0)


def _padded(mask: Bool[Array, "rows tokens"], size: int) -> Bool[Array, "rows size"]:
    """Return a mask of `size` tokens that keeps those beyond its end."""
    mask = mask[:, :size]
    return jnp.pad(mask, ((0, 0), (0, size - mask.shape[1])), constant_values=True)
