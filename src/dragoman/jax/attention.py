"""Multi-head attention over keys and values that may be cached, and that several beams may share.

Axes: rows (utterances, or utterances x beams), batch (utterances), tokens, frames, heads, head_dim, width.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from dragoman.jax.layers import NEVER, Key, Linear, dropout
from dragoman.jax.position_bias import BiasGate
from dragoman.spec import BlockSpec

__all__ = ["Attention"]

KeysValues = tuple[Float[Array, "batch heads frames head_dim"], Float[Array, "batch heads frames head_dim"]]


class Attention(nnx.Module):
    """Scaled dot-product attention (https://arxiv.org/abs/1706.03762, section 3.2)."""

    def __init__(self, spec: BlockSpec, bias_gate: BiasGate | None = None, *, memory_width: int | None = None) -> None:
        self.num_heads, self.head_dim = spec.num_heads, spec.head_dim
        self.dropout = spec.attention_dropout
        self.q_proj = Linear(spec.width, spec.width)
        self.k_proj = Linear(memory_width or spec.width, spec.width, bias=spec.key_bias)
        self.v_proj = Linear(memory_width or spec.width, spec.width)
        self.out_proj = Linear(spec.width, spec.width)
        self.bias_gate = bias_gate

    def project(self, states: Float[Array, "batch frames width"]) -> KeysValues:
        """Return the keys and values of `states`."""
        return self._heads(self.k_proj(states)), self._heads(self.v_proj(states))

    def _heads(self, x: Array) -> Array:
        # [b, t, w] -> [b, h, t, d]
        return x.reshape(x.shape[0], x.shape[1], self.num_heads, self.head_dim).swapaxes(1, 2)

    def __call__(
        self,
        states: Float[Array, "rows tokens width"],
        keys_values: KeysValues,
        mask: Bool[Array, "..."] | Float[Array, "..."] | None = None,
        *,
        causal: bool = False,
        weights: bool = False,
        key: Key = None,
    ) -> tuple[Float[Array, "rows tokens width"], Float[Array, "rows heads tokens frames"] | None]:
        """Let `states` look at keys and values.

        Where there are more rows than keys, consecutive rows are the beams of one utterance: they are folded into the
        query axis, so the keys and values of an utterance exist once however many beams look at them.

        Args:
            states: What asks.
            keys_values: What `project` gave.
            mask: True where looking is allowed, or numbers to add to the scores; broadcastable to
                `[batch, heads, tokens, frames]`.
            causal: Let a token see itself and what came before (no `mask` besides).
            weights: Also return the attention weights.
            key: For dropout.
        """
        keys, values = keys_values
        rows, tokens, width = states.shape
        batch = keys.shape[0]
        # [rows, u, w] -> [b, beams * u, h, d]
        queries = self.q_proj(states).reshape(batch, -1, self.num_heads, self.head_dim) * self.head_dim**-0.5
        scores = jnp.einsum("bqhd,bhtd->bhqt", queries, keys).astype(jnp.float32)
        if causal:
            mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        if mask is not None and jnp.issubdtype(mask.dtype, jnp.floating):
            scores = scores + mask
        elif mask is not None:
            scores = jnp.where(mask, scores, NEVER)
        probs = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
        mixed = jnp.einsum("bhqt,bhtd->bqhd", dropout(probs, self.dropout, key), values)
        out = self.out_proj(mixed.reshape(rows, tokens, width))
        if not weights:
            return out, None
        # [b, h, beams * u, t] -> [rows, h, u, t]
        probs = probs.reshape(batch, self.num_heads, rows // batch, tokens, -1).swapaxes(1, 2)
        return out, probs.reshape(rows, self.num_heads, tokens, -1)
