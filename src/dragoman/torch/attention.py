"""Multi-head attention over keys and values that may be cached, and that several beams may share.

Axes: rows (utterances, or utterances x beams), batch (utterances), tokens, frames, heads, head_dim, width.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dragoman.spec import BlockSpec
from dragoman.torch.layers import Linear
from dragoman.torch.position_bias import BiasGate

__all__ = ["Attention"]

KeysValues = tuple[Float[Tensor, "batch heads frames head_dim"], Float[Tensor, "batch heads frames head_dim"]]


class Attention(nn.Module):
    """Scaled dot-product attention (https://arxiv.org/abs/1706.03762, section 3.2)."""

    def __init__(self, spec: BlockSpec, bias_gate: BiasGate | None = None, *, memory_width: int | None = None) -> None:
        super().__init__()
        self.bias_gate = bias_gate
        self.num_heads, self.head_dim = spec.num_heads, spec.head_dim
        self.dropout = spec.attention_dropout
        self.q_proj = Linear(spec.width, spec.width)
        self.k_proj = Linear(memory_width or spec.width, spec.width, bias=spec.key_bias)
        self.v_proj = Linear(memory_width or spec.width, spec.width)
        self.out_proj = Linear(spec.width, spec.width)

    def project(self, states: Float[Tensor, "batch frames width"]) -> KeysValues:
        """Return the keys and values of `states`."""
        return self._heads(self.k_proj(states)), self._heads(self.v_proj(states))

    def _heads(self, x: Tensor) -> Tensor:
        # [b, t, w] -> [b, h, t, d]
        return x.view(x.shape[0], x.shape[1], self.num_heads, self.head_dim).transpose(1, 2)

    def forward(
        self,
        states: Float[Tensor, "rows tokens width"],
        keys_values: KeysValues,
        mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
        *,
        causal: bool = False,
        weights: bool = False,
    ) -> tuple[Float[Tensor, "rows tokens width"], Float[Tensor, "rows heads tokens frames"] | None]:
        """Let `states` look at keys and values.

        Where there are more rows than keys, consecutive rows are the beams of one utterance: they are folded into the
        query axis, so the keys and values of an utterance exist once however many beams look at them.

        Args:
            states: What asks.
            keys_values: What `project` gave.
            mask: True where looking is allowed, or numbers to add to the scores; broadcastable to
                `[batch, heads, tokens, frames]`.
            causal: Let a token see itself and what came before (no `mask` besides).
            weights: Also return the attention weights, which needs the slower plain computation.
        """
        keys, values = keys_values
        rows, tokens, width = states.shape
        batch = keys.shape[0]
        # [rows, u, w] -> [b, beams * u, h, d] -> [b, h, beams * u, d]
        queries = self.q_proj(states).view(batch, -1, self.num_heads, self.head_dim).transpose(1, 2)
        dropout = self.dropout if self.training else 0.0
        if weights:
            mixed, probs = _plain_attention(queries, keys, values, mask, causal, dropout)
            probs = probs.unflatten(2, (rows // batch, tokens)).transpose(1, 2).flatten(0, 1)
        else:
            mixed = F.scaled_dot_product_attention(queries, keys, values, mask, dropout, is_causal=causal)
            probs = None
        # [b, h, beams * u, d] -> [rows, u, w]
        return self.out_proj(mixed.transpose(1, 2).reshape(rows, tokens, width)), probs


def _plain_attention(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool, dropout: float
) -> tuple[Tensor, Tensor]:
    """Attend step by step, keeping the weights `[batch, heads, tokens, frames]`."""
    scores = queries @ keys.transpose(2, 3) * queries.shape[-1] ** -0.5
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None and mask.is_floating_point():
        scores = scores + mask
    elif mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    probs = scores.softmax(-1)
    return F.dropout(probs, dropout) @ values, probs
