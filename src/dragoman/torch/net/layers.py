"""Small layers that the parts share: activations, linear layers and the weight-normalised convolution.

Axes: batch, channels, frames, width.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dragoman.spec import Activation
from dragoman.spec.lora import LoraSpec


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


# Named functions, because modules that hold them are pickled.
ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    Activation.GELU: F.gelu,
    Activation.GELU_TANH: _gelu_tanh,
    Activation.QUICK_GELU: _quick_gelu,
    Activation.RELU: F.relu,
    Activation.SILU: F.silu,
    Activation.TANH: torch.tanh,
}


class Embedding(nn.Embedding):
    """PyTorch's embedding without initial values: `init` or a checkpoint gives them.

    PyTorch draws them even on the meta device and loads its compiler for that, which takes 1.7 seconds at each start.
    """

    def reset_parameters(self) -> None: ...


def entries(table: nn.Embedding, index: Int[Tensor, "..."] | range) -> Float[Tensor, "... width"]:
    """Return rows of a table without a call of the module, which is faster, unless the call does more than that."""
    called = type(table).forward is not nn.Embedding.forward or "forward" in table.__dict__
    if called or table._forward_hooks or table._forward_pre_hooks:
        found: Tensor = table(torch.tensor(index, device=table.weight.device) if isinstance(index, range) else index)
        return found
    return table.weight[index.start : index.stop] if isinstance(index, range) else table.weight[index]


Linear = nn.Linear  # itself, no subclass: PyTorch's quantisation replaces layers by their exact class


class LoraLinear(Linear):
    """A linear layer that shares the weights of another, plus a product of two low-rank matrices.

    The first matrix starts random and the second zero, so that at first nothing changes.

    Args:
        base: The layer whose weights it shares.
        spec: Sizes and scale.
    """

    def __init__(self, base: Linear, spec: LoraSpec) -> None:
        with torch.device("meta"):
            super().__init__(base.in_features, base.out_features, bias=base.bias is not None)
        self.weight, self.bias, self.spec = base.weight, base.bias, spec
        self.lora_a = nn.Parameter(base.weight.new_empty(spec.rank, base.in_features))
        self.lora_b = nn.Parameter(base.weight.new_zeros(base.out_features, spec.rank))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)

    def forward(self, x: Float[Tensor, "*rows width_in"]) -> Float[Tensor, "*rows width_out"]:
        inner = F.linear(F.dropout(x, self.spec.dropout, self.training), self.lora_a)
        return F.linear(x, self.weight, self.bias) + F.linear(inner, self.lora_b) * self.spec.scale

    def merged(self) -> Float[Tensor, "width_out width_in"]:
        """Return the weight of an equivalent plain layer."""
        return self.spec.folded(self.weight, self.lora_a, self.lora_b)


def frame_mask(lengths: Int[Tensor, " batch"], frames: int) -> Bool[Tensor, "batch frames"]:
    """Return True for the first `lengths[row]` frames of each row."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def moved(
    rows: Shaped[Tensor, "batch positions ..."], first: Bool[Tensor, "batch positions"]
) -> Shaped[Tensor, "batch positions ..."]:
    """Move the positions marked in `first` before the others in each row; the order among both stays.

    A stable sort does the same, but ONNX has none.
    """
    early, late = first.long(), (~first).long()  # ONNX adds no truth values
    place = torch.where(first, early.cumsum(1), early.sum(1, keepdim=True) + late.cumsum(1)) - 1
    place = place.view(*place.shape, *(1 for _ in rows.shape[2:])).expand(rows.shape)
    return torch.zeros_like(rows).scatter(1, place, rows)


def zero_padding(states: Float[Tensor, "batch frames width"], mask: Bool[Tensor, "batch frames"] | None) -> Tensor:
    """Set padded frames to zero, so that a convolution reads the same as at the edge of a single clip."""
    return states if mask is None else states.masked_fill(~mask[:, :, None], 0.0)


class WeightNormConv1d(nn.Module):
    """Grouped convolution, its weight stored as a direction `weight_v` and a length `weight_g` per kernel position.

    The weight is computed in the call: no hooks (weight normalisation, https://arxiv.org/abs/1602.07868).
    """

    def __init__(self, width: int, kernel: int, groups: int, stride: int = 1) -> None:
        super().__init__()
        self.groups, self.stride = groups, stride
        self.padding = kernel // 2
        self.weight_g = nn.Parameter(torch.empty(1, 1, kernel))
        self.weight_v = nn.Parameter(torch.empty(width, width // groups, kernel))
        self.bias = nn.Parameter(torch.empty(width))

    def forward(self, features: Float[Tensor, "batch width frames"]) -> Tensor:
        """Convolve with `kernel // 2` zeros on both sides."""
        direction = self.weight_v.to(torch.promote_types(self.weight_v.dtype, torch.float32))
        length = direction.square().sum(dim=(0, 1), keepdim=True).sqrt().to(self.weight_v.dtype)
        weight = self.weight_v * (self.weight_g / length)
        return F.conv1d(features, weight, self.bias, self.stride, self.padding, 1, self.groups)


def forbid(scores: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None) -> Float[Tensor, "..."]:
    """Give scores the lowest number where `mask` is False; without a mask, leave them."""
    return scores if mask is None else scores.masked_fill(~mask, torch.finfo(scores.dtype).min)


def split_heads(x: Float[Tensor, "*rows frames width"], count: int) -> Float[Tensor, "*rows heads frames head_dim"]:
    """Split the channels into `count` heads."""
    return x.reshape(*x.shape[:-1], count, -1).transpose(-3, -2)  # a trace would fix the sizes of `unflatten`
