"""Multi-head attention over keys and values that may be cached and shared by the beams of an utterance.

Axes: rows (utterances, or utterances x beams), batch (utterances), tokens, frames, heads, head_dim, width.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from dragoman.jax.net.layers import NEVER, Key, Linear, dropout, widened
from dragoman.jax.net.norms import LayerNorm, RMSNorm, norm_of
from dragoman.jax.net.position_bias import BiasGate
from dragoman.jax.net.rotary import Rotary
from dragoman.spec import AttentionSpec, CrossAttentionSpec

KeysValues = tuple[Float[Array, "batch heads frames head_dim"], Float[Array, "batch heads frames head_dim"]]


class Attention(nnx.Module):
    """Scaled dot-product attention (https://arxiv.org/abs/1706.03762, section 3.2), of a sequence to itself or `cross`.

    Several heads of queries may share one of keys and values (https://arxiv.org/abs/2305.13245). Normalised queries and
    keys, rotary positions, gated biases and capped scores are for self-attention only.
    """

    def __init__(self, spec: AttentionSpec, cross: CrossAttentionSpec | None = None) -> None:
        self.num_heads, self.kv_heads, self.head_dim = spec.num_heads, spec.kv_heads, spec.head_dim
        self.dropout, self.scale = spec.dropout, spec.score_scale
        self.cap = None if cross else spec.score_cap
        inside, shared = self.num_heads * self.head_dim, self.kv_heads * self.head_dim
        self.q_proj = Linear(spec.width, inside, bias=spec.qkv_bias)
        source = (cross and cross.memory_width) or spec.width
        self.k_proj = Linear(source, shared, bias=spec.qkv_bias and spec.key_bias)
        self.v_proj = Linear(source, shared, bias=spec.qkv_bias)
        self.out_proj = Linear(inside, spec.width, bias=spec.out_bias)
        norm = None if cross else spec.query_norm
        together = spec.norm_heads_together
        self.q_norm = norm_of(norm, inside if together else self.head_dim) if norm else None
        self.k_norm = norm_of(norm, shared if together else self.head_dim) if norm else None
        self.bias_gate = BiasGate(spec) if spec.gated_bias and not cross else None

    def project(
        self, states: Float[Array, "batch frames width"], rotary: Rotary | None = None, key: Key = None
    ) -> KeysValues:
        """Return the keys and values of `states`."""
        # [b, t, w] -> [b, h, t, d]
        keys, values = (
            x.reshape(*states.shape[:2], self.kv_heads, self.head_dim).swapaxes(1, 2)
            for x in (_normalised(self.k_proj(states, key), self.k_norm), self.v_proj(states, key))
        )
        return keys if rotary is None else rotary(keys), values

    def __call__(
        self,
        states: Float[Array, "rows tokens width"],
        keys_values: KeysValues,
        mask: Bool[Array, "..."] | Float[Array, "..."] | None = None,
        *,
        causal: bool = False,
        weights: bool = False,
        rotary: Rotary | None = None,
        key: Key = None,
    ) -> tuple[Float[Array, "rows tokens width"], Float[Array, "rows heads tokens frames"] | None]:
        """Attend to keys and values.

        Where there are more rows than keys, consecutive rows are the beams of one utterance: they are folded into the
        query axis, so the keys and values of an utterance exist once for any number of beams.

        Args:
            states: Input of the queries.
            keys_values: Results of `project`.
            mask: True where attention is allowed, or values to add to the scores; broadcastable to
                `[batch, heads, tokens, frames]`.
            causal: Attend only to the token itself and earlier ones (without a `mask`).
            weights: Also return the attention weights.
            rotary: Rotation of the queries by their positions.
            key: For dropout.
        """
        keys, values = keys_values
        rows, tokens, _ = states.shape
        batch = keys.shape[0]
        queries = _normalised(self.q_proj(states, key), self.q_norm)
        # [rows, u, w] -> [b, beams * u, h, d] -> [b, h, beams * u, d]
        queries = queries.reshape(batch, -1, self.num_heads, self.head_dim).swapaxes(1, 2)
        if rotary is not None:
            queries = rotary(queries)
        # [b, h, q, d] -> [b, k, h / k * q, d]: query heads that share keys are folded together, as beams are
        queries = queries.reshape(batch, self.kv_heads, -1, self.head_dim) * self.scale
        scores = widened(jnp.einsum("bkqd,bktd->bkqt", queries, keys))
        scores = scores.reshape(batch, self.num_heads, -1, keys.shape[2])
        if self.cap is not None:
            scores = jnp.tanh(scores / self.cap) * self.cap
        if causal:
            mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        if mask is not None and jnp.issubdtype(mask.dtype, jnp.floating):
            scores = scores + mask
        elif mask is not None:
            scores = jnp.where(mask, scores, NEVER)
        probs = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
        shared = dropout(probs, self.dropout, key).reshape(batch, self.kv_heads, -1, keys.shape[2])
        # [b, k, h / k * q, d] -> [b, h, q, d] -> [b, q, h, d]
        out_heads = jnp.einsum("bkqt,bktd->bkqd", shared, values).reshape(batch, self.num_heads, -1, self.head_dim)
        out = self.out_proj(out_heads.swapaxes(1, 2).reshape(rows, tokens, -1), key)
        if not weights:
            return out, None
        # [b, h, beams * u, t] -> [rows, h, u, t]
        probs = probs.reshape(batch, self.num_heads, rows // batch, tokens, -1).swapaxes(1, 2)
        return out, probs.reshape(rows, self.num_heads, tokens, -1)


def _normalised(x: Array, norm: LayerNorm | RMSNorm | None) -> Array:
    """Normalise each head of a projection `[..., width]`, or all together, by the width of the norm."""
    return x if norm is None else norm(x.reshape(*x.shape[:-1], -1, len(norm.weight[...]))).reshape(x.shape)
