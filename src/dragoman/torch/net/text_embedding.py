"""The two ends of a text decoder: the embeddings before its stack, and the head after it.

Axes: rows (utterances, or utterances x beams), tokens, width, vocab.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dragoman.spec import EmbedNorm, Positions, TextDecoderSpec
from dragoman.torch.net.layers import ACTIVATIONS, Embedding, Linear, entries
from dragoman.torch.net.positions import sinusoids


class TextEmbedding(nn.Module):
    """Embeddings of tokens, positions and, in BERT-like models, types, added up."""

    def __init__(self, spec: TextDecoderSpec) -> None:
        super().__init__()
        self.spec = embed = spec.embed
        width = spec.token_width
        untrained = spec.untrained_rows
        self.tokens = Embedding(spec.vocab_size, width, padding_idx=untrained.get("embed.tokens"))
        self.proj = Linear(width, spec.width, bias=not embed.project_tokens) if embed.width else None
        width = spec.width if embed.project_tokens else width
        positions = embed.positions
        self.positions: Embedding | None = None
        if positions is not None and positions.kind is not Positions.COMPUTED:
            rows = spec.num_positions + positions.offset
            self.positions = Embedding(rows, width, padding_idx=untrained.get("embed.positions"))
            self.positions.weight.requires_grad_(positions.kind is Positions.LEARNED)
        self.token_types = Embedding(embed.num_token_types, width) if embed.num_token_types else None
        self.norm = nn.LayerNorm(width, embed.norm_eps) if embed.norm else None

    def look_up(self, tokens: Int[Tensor, "rows tokens"]) -> Float[Tensor, "rows tokens width"]:
        """Return the token embeddings."""
        states = self.tokens(tokens)
        return states if self.spec.scale == 1.0 else states * self.spec.scale

    def forward(
        self,
        tokens: Int[Tensor, "rows tokens"] | None,
        embeds: Float[Tensor, "rows tokens width"] | None,
        start: int,
        positions: Int[Tensor, "rows tokens"] | None = None,
    ) -> Float[Tensor, "rows tokens width"]:
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
            states = states + entries(self.token_types, range(1))[0]
        if self.norm is not None and self.spec.norm is EmbedNorm.SUM:
            states = self.norm(states)
        states = F.dropout(states, self.spec.dropout, self.training)
        return states if self.proj is None or self.spec.project_tokens else self.proj(states)

    def _positions(self, tokens: Tensor | None, start: int, states: Tensor, positions: Tensor | None) -> Tensor | None:
        """Return the position embeddings, `[tokens, width]` or `[rows, tokens, width]`."""
        spec = self.spec.positions
        if spec is None:
            return None
        first = start + spec.offset
        pad, padding = self.spec.pad_token_id, None
        if spec.padding_has_own_position and tokens is not None and pad is not None:
            padding = torch.eq(tokens, pad)
            if positions is None:
                # fairseq counts padding in the cache, but not among new tokens
                positions = start + (~padding).long().cumsum(1) - 1
        if self.positions is None:
            along = torch.arange(first, first + states.shape[1], device=states.device)
            index = along if positions is None else positions + spec.offset
            embedded = sinusoids(index, states.shape[2], spec.scaled).to(states.dtype)
            return embedded if padding is None else embedded * ~padding[:, :, None]  # of padding they are zero
        if positions is None:
            tracing = torch.jit.is_tracing()  # type: ignore[attr-defined]  # a range would fix the number of tokens
            end = first + states.shape[1]
            rows = torch.arange(first, end, device=states.device) if tracing else range(first, end)
            embedded = entries(self.positions, rows)
        else:
            embedded = entries(self.positions, positions + spec.offset)
        if padding is None:
            return embedded
        row = self.positions.weight[spec.offset - 1].detach()  # not trained
        return torch.where(padding[:, :, None], row, embedded)


class Head(nn.Module):
    """From states to logits; a tied head uses the token embedding, which the caller passes.

    Attributes:
        shared: The embedding that a tied head has its weight from; in a tuple, so that it is no child.
        product: Takes the place of the product with the weight and the bias: an 8-bit layer.
    """

    shared: tuple[TextEmbedding, ...] = ()
    product: nn.Module | None = None

    def __init__(self, spec: TextDecoderSpec) -> None:
        super().__init__()
        head = spec.head
        self.scale, self.cap = head.scale, head.cap
        self.back = Linear(spec.width, spec.token_width, bias=False) if spec.embed.project_tokens else None
        self.transform = Linear(spec.width, spec.token_width) if head.transform else None
        self.norm = nn.LayerNorm(spec.token_width, spec.embed.norm_eps) if head.transform else None
        self.activation = ACTIVATIONS[head.transform] if head.transform else None
        weight = None if head.tied else nn.Parameter(torch.empty(spec.vocab_size, spec.token_width))
        self.register_parameter("weight", weight)
        self.bias = nn.Parameter(torch.empty(spec.vocab_size)) if head.bias else None

    @property
    def tied(self) -> bool:
        """Whether its weight is the token embedding."""
        return self._parameters.get("weight", self) is None

    def __getattr__(self, name: str) -> Any:
        if name == "weight" and self.shared and self.tied:
            return self.shared[0].tokens.weight
        return super().__getattr__(name)

    def forward(self, states: Float[Tensor, "*rows width"], embedding: Tensor) -> Float[Tensor, "*rows vocab"]:
        if self.back is not None:
            states = self.back(states)
        if self.transform is not None and self.activation is not None and self.norm is not None:
            states = self.norm(self.activation(self.transform(states)))
        if self.scale != 1.0:
            states = states * self.scale
        if self.product is not None:
            logits = self.product(states)
        else:
            logits = F.linear(states, embedding if self.tied else self.weight, self.bias)
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap
