"""The two ends of a text decoder: the embeddings before its stack, and the head after it.

Axes: rows (utterances, or utterances x beams), tokens, width, vocab.
"""

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int

from dragoman.jax.net.layers import ACTIVATIONS, Embedding, Key, Linear, dropout, linear, param
from dragoman.jax.net.norms import LayerNorm
from dragoman.jax.net.positions import sinusoids
from dragoman.spec import EmbedNorm, Positions, TextDecoderSpec


class TextEmbedding(nnx.Module):
    """Embeddings of tokens, positions and, in BERT-like models, types, added up."""

    def __init__(self, spec: TextDecoderSpec) -> None:
        self.spec = embed = spec.embed
        width = spec.token_width
        self.tokens = Embedding(spec.vocab_size, width)
        self.untrained = spec.untrained_rows.get("embed.tokens")
        self.proj = Linear(width, spec.width, bias=not embed.project_tokens) if embed.width else None
        width = spec.width if embed.project_tokens else width
        positions = embed.positions
        table = positions is not None and positions.kind is not Positions.COMPUTED
        self.positions = Embedding(spec.num_positions + positions.offset, width) if positions and table else None
        self.token_types = Embedding(embed.num_token_types, width) if embed.num_token_types else None
        self.norm = LayerNorm(width, embed.norm_eps) if embed.norm else None

    def look_up(self, tokens: Int[Array, "rows tokens"]) -> Float[Array, "rows tokens width"]:
        """Return the token embeddings."""
        states = self.tokens(tokens)
        if self.untrained is not None:
            states = jnp.where((tokens == self.untrained)[..., None], lax.stop_gradient(states), states)
        return states if self.spec.scale == 1.0 else states * self.spec.scale

    def __call__(
        self,
        tokens: Int[Array, "rows tokens"] | None,
        embeds: Float[Array, "rows tokens width"] | None,
        start: Int[Array, ""] | int,
        positions: Int[Array, "rows tokens"] | None = None,
        key: Key = None,
    ) -> Float[Array, "rows tokens width"]:
        """Embed tokens (or complete their embeddings) from position `start` on, or at `positions`."""
        if embeds is not None:
            states = embeds
        else:
            assert tokens is not None
            states = self.look_up(tokens)
        if self.proj is not None and self.spec.project_tokens:
            states = self.proj(states)
        if self.norm is not None and self.spec.norm is EmbedNorm.TOKENS:
            states = self.norm(states)
        embedded = self._positions(tokens, start, states, positions)
        if embedded is not None:
            states = states + embedded
        if self.token_types is not None:
            states = states + self.token_types.weight[...][0]
        if self.norm is not None and self.spec.norm is EmbedNorm.SUM:
            states = self.norm(states)
        states = dropout(states, self.spec.dropout, key)
        return states if self.proj is None or self.spec.project_tokens else self.proj(states)

    def _positions(
        self, tokens: Array | None, start: Array | int, states: Array, positions: Array | None
    ) -> Array | None:
        """Return the position embeddings, `[tokens, width]` or `[rows, tokens, width]`."""
        spec = self.spec.positions
        if spec is None:
            return None
        first = start + spec.offset
        pad, padding = self.spec.pad_token_id, None
        if spec.padding_has_own_position and tokens is not None and pad is not None:
            padding = jnp.equal(tokens, pad)
            if positions is None:
                # fairseq counts padding in the cache, but not among new tokens
                positions = start + jnp.cumsum(~padding, 1) - 1
        if self.positions is None:
            index = first + jnp.arange(states.shape[1]) if positions is None else positions + spec.offset
            embedded = sinusoids(index, states.shape[2], spec.scaled).astype(states.dtype)
            return embedded if padding is None else embedded * ~padding[:, :, None]  # of padding they are zero
        table = self.positions.weight[...]
        if spec.kind is Positions.STORED:
            table = lax.stop_gradient(table)
        if positions is not None:
            embedded = jnp.take(table, positions + spec.offset, axis=0)
        else:
            embedded = lax.dynamic_slice_in_dim(table, first, states.shape[1])
        if padding is None:
            return embedded
        row = lax.stop_gradient(table[spec.offset - 1])  # not trained
        return jnp.where(padding[:, :, None], row, embedded)


class Head(nnx.Module):
    """From states to logits; a tied head uses the token embedding, which the caller passes."""

    def __init__(self, spec: TextDecoderSpec) -> None:
        head = spec.head
        self.scale, self.cap = head.scale, head.cap
        self.back = Linear(spec.width, spec.token_width, bias=False) if spec.embed.project_tokens else None
        self.transform = Linear(spec.width, spec.token_width) if head.transform else None
        self.norm = LayerNorm(spec.token_width, spec.embed.norm_eps) if head.transform else None
        self.activation = ACTIVATIONS[head.transform] if head.transform else None
        self.weight = None if head.tied else param(spec.vocab_size, spec.token_width)
        self.bias = param(spec.vocab_size) if head.bias else None

    def __call__(self, states: Float[Array, "*rows width"], embedding: Array) -> Float[Array, "*rows vocab"]:
        if self.back is not None:
            states = self.back(states)
        if self.transform is not None and self.activation is not None and self.norm is not None:
            states = self.norm(self.activation(self.transform(states)))
        if self.scale != 1.0:
            states = states * self.scale
        weight = embedding if self.weight is None else self.weight[...]
        logits = linear(states, weight, None if self.bias is None else self.bias[...])
        return logits if self.cap is None else jnp.tanh(logits / self.cap) * self.cap
