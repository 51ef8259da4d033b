"""From memory to text: the one text decoder, whatever the family.

Axes: rows (utterances, or utterances x beams), batch (utterances), tokens, frames, width, vocab.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dragoman.api.checks import check_text_mask
from dragoman.errors import ConfigError, GenerationError
from dragoman.spec import TextDecoderSpec
from dragoman.torch.net.block import Stack, StackOutput
from dragoman.torch.net.cache import Cache, Memory
from dragoman.torch.net.init import initialise, persistent_names
from dragoman.torch.net.position_bias import LookBackBias
from dragoman.torch.net.text_embedding import Head, TextEmbedding

__all__ = ["TextDecoderNet"]


class TextDecoderNet(nn.Module):
    """The network of every text decoder.

    Args:
        spec: Its description.
        empty: Allocate no memory (meta device): a checkpoint fills the tensors.

    Raises:
        ConfigError: If sizes do not fit each other.
    """

    def __init__(self, spec: TextDecoderSpec, *, empty: bool = False) -> None:
        super().__init__()
        self.spec = spec
        with torch.device("meta"):
            self.embed = TextEmbedding(spec)
            bias, heads = spec.position_bias, spec.stack.block.self_attn.num_heads
            self.position_bias = LookBackBias(bias, heads) if bias else None
            self.stack = Stack(spec.stack)
            self.head = Head(spec)
        if not empty:
            initialise(self, persistent_names(self), spec)

    @property
    def _positions_from_mask(self) -> bool:
        positions = self.spec.embed.positions
        return positions is not None and positions.from_mask

    def decode(
        self,
        tokens: Int[Tensor, "rows tokens"] | None,
        memory: Memory | None,
        cache: Cache | None = None,
        *,
        embeds: Tensor | None = None,
        token_mask: Bool[Tensor, "rows tokens_so_far"] | None = None,
        positions: Int[Tensor, "rows tokens"] | None = None,
        all_states: bool = False,
        weights: bool = False,
    ) -> tuple[StackOutput, Cache | None]:
        """Run the stack over new tokens, after those in the cache.

        Returns:
            The stack's output, and the cache with the new tokens in it.

        Raises:
            GenerationError: If the text would be longer than the decoder has positions for.
        """
        given = tokens if embeds is None else embeds
        assert given is not None
        if token_mask is not None:
            check_text_mask(token_mask.shape, given.shape[0])
        count, start = given.shape[1], cache.length if cache else 0
        if start + count > self.spec.num_positions:
            raise GenerationError(
                f"The decoder has positions for {self.spec.num_positions} tokens, but the text has {start + count}. "
                "Use shorter labels or a smaller `max_length`."
            )
        if cache is not None:
            cache = cache.grown(start + count)
            if token_mask is None and cache.text_mask is not None:
                token_mask = _filled(cache.text_mask, start + count - cache.prefix_length)
            if cache.prefix_mask is not None:
                token_mask, positions = _after_prefix(cache.prefix_mask, start, count, token_mask, positions)
        if positions is None and token_mask is not None and self._positions_from_mask:
            positions = _counted(token_mask)[:, start:]
        states = self.embed(tokens, embeds, start, positions)
        causal = self.spec.causal
        mask = None
        if token_mask is not None or (causal and (start or self.position_bias is not None)):
            mask = self._mask(count, start, token_mask, given.device)
        if self.position_bias is not None:
            mask = self.position_bias(count, start, start + count, mask)
        local, near = self.spec.stack.local, None
        if local is not None and start + count > local.window:
            near = self._mask(count, start, token_mask, given.device, local.window)
        if positions is None and self.spec.stack.block.self_attn.rotary is not None:
            positions = torch.arange(start, start + count, device=given.device)[None]
        out = self.stack(
            states,
            mask,
            causal=causal and mask is None and count > 1,
            memory=memory,
            cache=cache,
            positions=positions,
            near=near,
            all_states=all_states,
            weights=weights,
        )
        return out, cache.advanced(count) if cache else None

    def decode_after_prefix(
        self,
        tokens: Int[Tensor, "rows tokens"] | None,
        memory: Memory,
        cache: Cache | None = None,
        *,
        embeds: Tensor | None = None,
        token_mask: Bool[Tensor, "rows tokens"] | None = None,
        positions: Int[Tensor, "rows tokens"] | None = None,
        all_states: bool = False,
        weights: bool = False,
    ) -> tuple[StackOutput, Cache | None]:
        """Run the stack over a memory that comes before the text, and over the first tokens of the text.

        The arguments are those of `decode`; `token_mask` and `positions` are of the text alone.

        Returns:
            The stack's output for the tokens, and the cache with the memory and the tokens in it.
        """
        assert memory.states is not None
        text = embeds
        if text is None:
            assert tokens is not None
            text = self.embed.look_up(tokens)
        prefix, places = _prefix_of(memory)
        token_mask, positions = _after_prefix(prefix, prefix.shape[1], text.shape[1], token_mask, positions)
        out, cache = self.decode(
            None,
            None,
            cache,
            embeds=torch.cat([memory.states, text], 1),
            token_mask=token_mask,
            positions=torch.cat([places, positions], 1),
            all_states=all_states,
            weights=weights,
        )
        return out.last(text.shape[1]), None if cache is None else replace(cache, prefix_mask=prefix)

    def begin(self, memory: Memory, rows: int, capacity: int) -> Cache:
        """Return a cache with room for `capacity` tokens of `rows` texts, a memory that comes before them read."""
        if self.spec.stack.block.cross_attn:
            return self.new_cache(rows, capacity)
        assert memory.states is not None
        prefix, places = _prefix_of(memory)
        empty = self.new_cache(rows, capacity + prefix.shape[1])
        _, cache = self.decode(None, None, empty, embeds=memory.states, token_mask=prefix, positions=places)
        assert cache is not None
        return replace(cache, prefix_mask=prefix)

    def _mask(
        self, count: int, start: int, token_mask: Tensor | None, device: torch.device, window: int | None = None
    ) -> Tensor | None:
        """Return where the `count` tokens from number `start` on may look, `[rows or 1, 1, count, start + count]`."""
        if token_mask is None and window is None and count == 1:
            return None  # the newest token sees everything
        mask = torch.ones(count, start + count, dtype=torch.bool, device=device)
        if self.spec.causal:
            mask = mask.tril(start)
        if window is not None:
            mask = mask.triu(start - window + 1)
        mask = mask[None, None]
        if token_mask is not None:
            if token_mask.shape[1] != start + count:
                raise ConfigError(
                    f"The attention mask of the decoder must have a number for each of the {start + count} tokens so "
                    f"far, but has the shape {list(token_mask.shape)}."
                )
            # a token always sees itself, so that padding on the left never leaves a row with nothing to look at
            itself = torch.eye(count, start + count, dtype=torch.bool, device=device).roll(start, 1)
            mask = (mask & token_mask[:, None, None, :]) | itself
        return mask

    def logits(self, states: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows vocab"]:
        """Score every token of the vocabulary."""
        return self.head(states, self.embed.tokens.weight)

    def new_cache(self, rows: int, capacity: int) -> Cache:
        """Return an empty cache with room for `capacity` tokens of `rows` texts."""
        weight, block = self.embed.tokens.weight, self.spec.stack.block.self_attn
        shape = (self.spec.stack.num_layers, rows, block.kv_heads, capacity, block.head_dim)
        return Cache(keys=weight.new_empty(shape), values=weight.new_empty(shape))

    def project_memory(self, states: Float[Tensor, "batch frames width"], mask: Tensor | None) -> Memory:
        """Compute the keys and values of the memory for every layer, once; one that comes before the text is kept."""
        if not self.spec.stack.block.cross_attn:
            return Memory(states=states, mask=mask)
        pairs = [layer.cross_attn.project(states) for layer in self.stack.blocks()]
        keys, values = (torch.stack(side) for side in zip(*pairs, strict=True))
        return Memory(keys=keys, values=values, mask=mask)


def _prefix_of(memory: Memory) -> tuple[Bool[Tensor, "rows prefix"], Int[Tensor, "rows prefix"]]:
    """Return which states of a memory that comes before the text count, and their positions."""
    assert memory.states is not None
    mask = memory.mask
    if mask is None:
        mask = torch.ones(memory.states.shape[:2], dtype=torch.bool, device=memory.states.device)
    return mask, _counted(mask)


def _counted(mask: Bool[Tensor, "rows places"]) -> Int[Tensor, "rows places"]:
    """Return the positions of what a mask keeps; what it leaves out takes none."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def _filled(mask: Bool[Tensor, "rows places"], size: int) -> Bool[Tensor, "rows size"]:
    """Return a mask of `size` places; those that it leaves out on the right count."""
    mask = mask[:, :size]
    return nn.functional.pad(mask, (0, size - mask.shape[1]), value=True)


def _after_prefix(
    prefix: Tensor, start: int, count: int, token_mask: Tensor | None, positions: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the mask of all places and the positions of the `count` tokens from place `start` on, behind a prefix."""
    read = start - prefix.shape[1]
    if token_mask is None:
        token_mask = prefix.new_ones(prefix.shape[0], read + count)
    if positions is None:
        positions = _counted(token_mask)[:, read:]
    return torch.cat([prefix, token_mask], 1), positions + prefix.sum(1, keepdim=True)
