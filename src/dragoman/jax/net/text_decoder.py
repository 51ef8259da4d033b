"""The text decoder of all families: from the memory to logits.

Axes: rows (utterances, or utterances x beams), batch (utterances), tokens, frames, width, vocab.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dragoman.api.checks import check_text_mask
from dragoman.errors import GenerationError
from dragoman.jax.net.block import Stack, StackOutput
from dragoman.jax.net.cache import Cache, Memory
from dragoman.jax.net.init import initialise, persistent_names
from dragoman.jax.net.layers import Key, split
from dragoman.jax.net.position_bias import CausalBucketBias
from dragoman.jax.net.step import LayerInputs, after_prefix, decoding_step, prefix_of
from dragoman.jax.net.text_embedding import Head, TextEmbedding
from dragoman.spec import TextDecoderSpec


class TextDecoderNet(nnx.Module):
    """The network of every text decoder.

    Args:
        spec: Its description.
        empty: Allocate no memory: a checkpoint fills the tensors.
        seed: Of the random weights.

    Raises:
        ConfigError: If sizes do not fit each other.
    """

    def __init__(self, spec: TextDecoderSpec, *, empty: bool = False, seed: int = 0) -> None:
        self.spec = spec
        self.embed = TextEmbedding(spec)
        bias, heads = spec.position_bias, spec.stack.block.self_attn.num_heads
        self.position_bias = CausalBucketBias(bias, heads) if bias else None
        self.stack = Stack(spec.stack)
        self.head = Head(spec)
        if not empty:
            initialise(self, persistent_names(self), spec, seed=seed)

    def decode(
        self,
        tokens: Int[Array, "rows tokens"] | None,
        memory: Memory | None,
        cache: Cache | None = None,
        *,
        embeds: Array | None = None,
        token_mask: Bool[Array, "rows tokens_so_far"] | None = None,
        positions: Int[Array, "rows tokens"] | None = None,
        all_states: bool = False,
        weights: bool = False,
        key: Key = None,
    ) -> tuple[StackOutput, Cache | None]:
        """Run the stack over new tokens, after those in the cache.

        Args:
            tokens: New tokens, or `embeds` in their place.
            memory: Input of cross-attention.
            cache: Earlier tokens. Where its length is traced, the caller makes sure that the new tokens fit.
            embeds: Embeddings in place of tokens.
            token_mask: True for the tokens that others attend to; those beyond its end are attended to.
            positions: Positions of the new tokens, where they are not consecutive.
            all_states: Keep the states before each layer and after the last.
            weights: Keep the attention weights, those of empty cache positions included.
            key: For dropout and LayerDrop.

        Returns:
            The stack's output, and the cache with the new tokens in it.

        Raises:
            GenerationError: If the sequence would be longer than the decoder has positions for.
        """
        given = tokens if embeds is None else embeds
        assert given is not None
        if token_mask is not None:
            check_text_mask(token_mask.shape, given.shape[0])
        cache = self.fitted(cache, given.shape[1])
        step = decoding_step(self.spec, given, cache, token_mask, positions)
        embed_key, stack_key = split(key, 2)
        states = self.embed(tokens, embeds, step.start, step.positions, embed_key)
        if self.position_bias is not None:
            bias = self.position_bias(given.shape[1], step.start, step.size, step.mask)
            step = replace(step, mask=bias, causal=False)
        inputs = LayerInputs(memory=memory, cache=cache, weights=weights, key=stack_key)
        out = self.stack(states, step, inputs, all_states=all_states)
        return out, out.cache.advanced(given.shape[1]) if out.cache else None

    def decode_after_prefix(
        self,
        tokens: Int[Array, "rows tokens"] | None,
        memory: Memory,
        cache: Cache | None = None,
        *,
        embeds: Array | None = None,
        token_mask: Bool[Array, "rows tokens"] | None = None,
        positions: Int[Array, "rows tokens"] | None = None,
        all_states: bool = False,
        weights: bool = False,
        key: Key = None,
    ) -> tuple[StackOutput, Cache | None]:
        """Run the stack over a memory that comes before the text and over the text's first tokens.

        The arguments are those of `decode`; `token_mask` and `positions` are those of the text alone.

        Returns:
            The stack's output for the tokens, and the cache with the memory and the tokens in it.
        """
        assert memory.states is not None
        text = embeds
        if text is None:
            assert tokens is not None
            text = self.embed.look_up(tokens)
        prefix, token_mask, positions = after_prefix(memory, text.shape[1], token_mask, positions)
        out, cache = self.decode(
            None,
            None,
            cache,
            embeds=jnp.concatenate([memory.states, text], 1),
            token_mask=token_mask,
            positions=positions,
            all_states=all_states,
            weights=weights,
            key=key,
        )
        return out.last(text.shape[1]), None if cache is None else replace(cache, prefix_mask=prefix)

    def begin(self, memory: Memory, rows: int, capacity: int) -> Cache:
        """Return a cache for `capacity` tokens in each of `rows` sequences, with the memory where it is a prefix."""
        if self.spec.stack.block.cross_attn:
            return self.new_cache(rows, capacity)
        assert memory.states is not None
        prefix, positions = prefix_of(memory)
        empty = self.new_cache(rows, capacity + prefix.shape[1])
        _, cache = self.decode(None, None, empty, embeds=memory.states, token_mask=prefix, positions=positions)
        assert cache is not None
        return replace(cache, prefix_mask=prefix)

    def fitted(self, cache: Cache | None, count: int) -> Cache | None:
        """Return the cache with room for `count` more tokens; one whose length is traced is left as it is.

        Raises:
            GenerationError: If the sequence would be longer than the decoder has positions for.
        """
        if cache is not None and isinstance(cache.length, jax.core.Tracer):
            return cache
        total = count + (0 if cache is None else int(cache.length))
        if total > self.spec.num_positions:
            raise GenerationError(
                f"The decoder has positions for {self.spec.num_positions} tokens, but the sequence has {total}. "
                "Use shorter labels or a smaller `max_length`."
            )
        return None if cache is None else cache.grown(total)

    def logits(self, states: Float[Array, "*rows width"]) -> Float[Array, "*rows vocab"]:
        """Score every token of the vocabulary."""
        return self.head(states, self.embed.tokens.weight[...])

    def new_cache(self, rows: int, capacity: int) -> Cache:
        """Return an empty cache for `capacity` tokens in each of `rows` sequences."""
        block, dtype = self.spec.stack.block.self_attn, self.embed.tokens.weight.dtype
        shape = (rows, block.kv_heads, capacity, block.head_dim)
        empty = tuple(jnp.zeros(shape, dtype) for _ in range(self.spec.stack.num_layers))
        return Cache(keys=empty, values=empty, length=jax.device_put(np.int32(0)))

    def project_memory(self, states: Float[Array, "batch frames width"], mask: Array | None) -> Memory:
        """Project the memory to keys and values of all layers; without cross-attention, keep its states."""
        if not self.spec.stack.block.cross_attn:
            return Memory(states=states, mask=mask)
        pairs = [layer.cross_attn.project(states) for layer in self.stack.layers]
        keys, values = (tuple(side) for side in zip(*pairs, strict=True))
        return Memory(keys=keys, values=values, mask=mask)
