"""The text decoder of all families: from the memory to logits.

Axes: rows (utterances, or utterances x beams), batch (utterances), tokens, frames, width, vocab.
"""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dragoman.api.checks import check_text_mask
from dragoman.errors import ConfigError, GenerationError
from dragoman.spec import TextDecoderSpec
from dragoman.torch.net.block import Stack, StackOutput
from dragoman.torch.net.cache import Cache, Memory
from dragoman.torch.net.init import initialise, persistent_names
from dragoman.torch.net.position_bias import CausalBucketBias
from dragoman.torch.net.step import LayerInputs, after_prefix, decoding_step, prefix_of
from dragoman.torch.net.text_embedding import Head, TextEmbedding


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
            self.position_bias = CausalBucketBias(bias, heads) if bias else None
            self.stack = Stack(spec.stack)
            self.head = Head(spec)
            self.head.shared = (self.embed,)
        if not empty:
            initialise(self, persistent_names(self), spec)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "head" and "head" in self._modules and self.head.tied:
            raise ConfigError(
                "The head is tied to the token embedding: it has no weights of its own to train or to replace. Leave "
                "`lm_head` out of `modules_to_save` and train `embed_tokens`, or untie it before: "
                "model.decoder.set_output_embeddings(nn.Linear(width, vocabulary, bias=False))."
            )
        super().__setattr__(name, value)

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
            GenerationError: If the sequence would be longer than the decoder has positions for.
        """
        given = tokens if embeds is None else embeds
        assert given is not None
        if token_mask is not None:
            check_text_mask(token_mask.shape, given.shape[0])
        cache = self.fitted(cache, given.shape[1])
        step = decoding_step(self.spec, given, cache, token_mask, positions)
        states = self.embed(tokens, embeds, step.start, step.positions)
        if self.position_bias is not None:
            bias = self.position_bias(given.shape[1], step.start, step.size, step.mask)
            step = replace(step, mask=bias, causal=False)
        out = self.stack(states, step, LayerInputs(memory=memory, cache=cache, weights=weights), all_states=all_states)
        return out, cache.advanced(given.shape[1]) if cache else None

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
            embeds=torch.cat([memory.states, text], 1),
            token_mask=token_mask,
            positions=positions,
            all_states=all_states,
            weights=weights,
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
        """Return the cache with room for `count` more tokens.

        Raises:
            GenerationError: If the sequence would be longer than the decoder has positions for.
        """
        total = count + (cache.length if cache else 0)
        if total > self.spec.num_positions:
            raise GenerationError(
                f"The decoder has positions for {self.spec.num_positions} tokens, but the sequence has {total}. "
                "Use shorter labels or a smaller `max_length`."
            )
        return None if cache is None else cache.grown(total)

    def logits(self, states: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows vocab"]:
        """Score every token of the vocabulary."""
        return self.head(states, self.embed.tokens.weight)

    def new_cache(self, rows: int, capacity: int) -> Cache:
        """Return an empty cache for `capacity` tokens in each of `rows` sequences."""
        weight, block = self.embed.tokens.weight, self.spec.stack.block.self_attn
        shape = (self.spec.stack.num_layers, rows, block.kv_heads, capacity, block.head_dim)
        return Cache(keys=weight.new_empty(shape), values=weight.new_empty(shape))

    def project_memory(self, states: Float[Tensor, "batch frames width"], mask: Tensor | None) -> Memory:
        """Project the memory to keys and values of all layers; without cross-attention, keep its states."""
        if not self.spec.stack.block.cross_attn:
            return Memory(states=states, mask=mask)
        pairs = [layer.cross_attn.project(states) for layer in self.stack.blocks()]
        keys, values = (torch.stack(side) for side in zip(*pairs, strict=True))
        return Memory(keys=keys, values=values, mask=mask)
