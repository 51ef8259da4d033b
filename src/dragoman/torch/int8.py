"""Linear layers with 8-bit weights and activations, for decoding and encoding on a CPU.

Each row of the weights has a scale of its own, and so has each row of the activations, so that neither the other rows
of a batch nor padding change a result. Normalisation, attention and convolutions stay in float32.

Axes: rows, width.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dragoman.torch.net.text_embedding import Head

# FBGEMM adds two products in 16 bits where the processor has no instructions for more, so activations have 7 bits:
# 2 x 127 x 127 fits. https://github.com/pytorch/FBGEMM
_STEPS, _ZERO = 63, 64
_LARGEST_WEIGHT = 127
_SMALLEST_SCALE = 1e-30  # of a row of zeros
_MIN_WIDTH = 16  # narrower layers (gates) cost nothing


class Int8Linear(nn.Module):
    """A linear layer whose weights are rounded to 8 bits, and packed once.

    Args:
        weight: The weights to round.
        bias: Added in float32.
    """

    def __init__(self, weight: Float[Tensor, "width_out width_in"], bias: Tensor | None) -> None:
        super().__init__()
        scales = weight.abs().amax(1).clamp(min=_SMALLEST_SCALE) / _LARGEST_WEIGHT
        zeros = torch.zeros(len(weight), dtype=torch.long)
        with _fbgemm(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch will remove these functions, in favour of a package of its own
            rounded = torch.quantize_per_channel(weight, scales.double(), zeros, 0, torch.qint8)
            self._packed = torch.ops.quantized.linear_prepack(rounded, None)
        self.bias = bias

    def forward(self, x: Float[Tensor, "*rows width_in"]) -> Float[Tensor, "*rows width_out"]:
        scale = torch.linalg.vector_norm(x, math.inf, -1, keepdim=True).clamp_(min=_SMALLEST_SCALE)
        product: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            x / scale, 1 / _STEPS, _ZERO, self._packed
        )
        return product.mul_(scale) if self.bias is None else torch.addcmul(self.bias, product, scale, out=product)

    def _save_to_state_dict(self, destination: dict[str, object], prefix: str, keep_vars: bool) -> None:
        """Put what no checkpoint holds into a state dict, so that saving is refused."""
        destination[f"{prefix}packed"] = self._packed


def quantise(model: nn.Module) -> None:
    """Replace the linear layers of a model, and its output matrix, by 8-bit ones, in place.

    LoRA's layers and subclasses of `nn.Linear` stay as they are.
    """
    with torch.no_grad():
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if type(child) is nn.Linear and min(child.weight.shape) >= _MIN_WIDTH:
                    setattr(module, name, Int8Linear(child.weight, child.bias))
            if isinstance(module, Head):
                module.product = Int8Linear(module.weight, module.bias)


@contextmanager
def _fbgemm() -> Iterator[None]:
    """Pack for FBGEMM, whichever engine PyTorch prefers on this processor: only it takes scales of activations."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        yield
    finally:
        torch.backends.quantized.engine = before
