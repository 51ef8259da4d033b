"""Multi-head attention over keys and values that may be cached and shared by the beams of an utterance.

Axes: rows (utterances, or utterances x beams), batch (utterances), tokens, frames, heads, head_dim, width.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dragoman.spec import AttentionSpec, CrossAttentionSpec
from dragoman.torch.net.layers import Linear, forbid
from dragoman.torch.net.norms import norm_of
from dragoman.torch.net.position_bias import BiasGate
from dragoman.torch.net.rotary import Rotary

KeysValues = tuple[Float[Tensor, "batch heads frames head_dim"], Float[Tensor, "batch heads frames head_dim"]]


class Attention(nn.Module):
    """Scaled dot-product attention (https://arxiv.org/abs/1706.03762, section 3.2), of a sequence to itself or `cross`.

    Several heads of queries may share one of keys and values (https://arxiv.org/abs/2305.13245). Normalised queries and
    keys, rotary positions, gated biases and capped scores are for self-attention only.
    """

    def __init__(self, spec: AttentionSpec, cross: CrossAttentionSpec | None = None) -> None:
        super().__init__()
        self.bias_gate = BiasGate(spec) if spec.gated_bias and not cross else None
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

    def project(self, states: Float[Tensor, "batch frames width"], rotary: Rotary | None = None) -> KeysValues:
        """Return the keys and values of `states`."""
        # [b, t, w] -> [b, h, t, d]
        keys, values = (
            x.view(*states.shape[:2], self.kv_heads, self.head_dim).transpose(1, 2)
            for x in (_normalised(self.k_proj(states), self.k_norm), self.v_proj(states))
        )
        return keys if rotary is None else rotary(keys), values

    def forward(
        self,
        states: Float[Tensor, "rows tokens width"],
        keys_values: KeysValues,
        mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
        *,
        causal: bool = False,
        weights: bool = False,
        rotary: Rotary | None = None,
    ) -> tuple[Float[Tensor, "rows tokens width"], Float[Tensor, "rows heads tokens frames"] | None]:
        """Attend to keys and values.

        Where there are more rows than keys, consecutive rows are the beams of one utterance: they are folded into the
        query axis, so the keys and values of an utterance exist once for any number of beams.

        Args:
            states: Input of the queries.
            keys_values: Results of `project`.
            mask: True where attention is allowed, or values to add to the scores; broadcastable to
                `[batch, heads, tokens, frames]`.
            causal: Attend only to the token itself and earlier ones (without a `mask`).
            weights: Also return the attention weights, which takes the slower `plain_attention`.
            rotary: Rotation of the queries by their positions.
        """
        keys, values = keys_values
        rows, tokens, _ = states.shape
        batch = keys.shape[0]
        queries = _normalised(self.q_proj(states), self.q_norm)
        # [rows, u, w] -> [b, beams * u, h, d] -> [b, h, beams * u, d]
        queries = queries.view(batch, -1, self.num_heads, self.head_dim).transpose(1, 2)
        if rotary is not None:
            queries = rotary(queries)
        dropout = self.dropout if self.training else 0.0
        grouped = self.kv_heads != self.num_heads
        probs = None
        if weights or self.cap is not None:  # PyTorch's own function returns no weights and has no cap
            out_heads, probs = plain_attention(queries * self.scale, keys, values, mask, causal, dropout, self.cap)
        else:
            out_heads = F.scaled_dot_product_attention(
                queries, keys, values, mask, dropout, is_causal=causal, enable_gqa=grouped, scale=self.scale
            )
        # [b, h, beams * u, d] -> [rows, u, w]
        out = self.out_proj(out_heads.transpose(1, 2).reshape(rows, tokens, -1))
        if not weights or probs is None:
            return out, None
        return out, probs.reshape(batch, self.num_heads, rows // batch, tokens, -1).transpose(1, 2).flatten(0, 1)


def _normalised(x: Tensor, norm: nn.Module | None) -> Tensor:
    """Normalise each head of a projection `[..., width]`, or all together, by the width of the norm."""
    return x if norm is None else norm(x.unflatten(-1, (-1, norm.get_parameter("weight").shape[0]))).flatten(-2)


def plain_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    causal: bool,
    dropout: float,
    cap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Attend with scaled queries, and also return the weights `[batch, heads, tokens, frames]`.

    Query heads that share a key-value head are folded into the token axis, as beams are, so that nothing is copied.
    """
    batch, heads, tokens, width = queries.shape
    shared = keys.shape[1], heads // keys.shape[1] * tokens
    # [b, h, t, d] -> [b, k, h / k * t, d] -> [b, h, t, f]
    scores = (queries.reshape(batch, *shared, width) @ keys.transpose(2, 3)).view(batch, heads, tokens, -1)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if cap is not None:
        scores = torch.tanh(scores / cap) * cap
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None and mask.is_floating_point():
        scores = scores + mask
    elif mask is not None:
        scores = forbid(scores, mask)
    probs = scores.softmax(-1).to(values.dtype)
    out_heads = (F.dropout(probs, dropout) if dropout else probs).reshape(batch, *shared, -1) @ values
    return out_heads.view(batch, heads, tokens, -1), probs
