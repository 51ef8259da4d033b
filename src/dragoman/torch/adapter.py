"""The convolutional adapter that shortens the memory of a speech encoder.

Axes: batch, frames, width.
"""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dragoman.spec import ConvAdapterSpec
from dragoman.torch.layers import frame_mask, zero_padding

__all__ = ["ConvAdapter"]


class ConvAdapter(nn.Module):
    """Gated strided convolutions, behind a projection where the widths differ (XLS-R, section 4.2)."""

    def __init__(self, spec: ConvAdapterSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        projects = spec.width != width
        self.proj = nn.Linear(width, spec.width) if projects else None
        self.norm = nn.LayerNorm(spec.width) if projects else None
        self.layers = nn.ModuleList(
            nn.Conv1d(spec.width, 2 * spec.width, spec.kernel, spec.stride, padding=spec.padding)
            for _ in range(spec.num_layers)
        )

    def forward(
        self, states: Float[Tensor, "batch frames width"], lengths: Int[Tensor, " batch"] | None
    ) -> Float[Tensor, "batch frames_out width_out"]:
        """Shorten; frames beyond `lengths` are zero at each convolution, as they are at the edge of a single clip."""
        if self.proj is not None and self.norm is not None:
            states = self.norm(self.proj(states))
        for conv in self.layers:
            if lengths is not None:
                states = zero_padding(states, frame_mask(lengths, states.shape[1]))
                lengths = (lengths + 2 * self.spec.padding - self.spec.kernel) // self.spec.stride + 1
            # [b, t, w] -> [b, 2w, t'] -> [b, t', w]
            states = F.glu(conv(states.transpose(1, 2)), dim=1).transpose(1, 2)
        return states
