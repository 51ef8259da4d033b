"""Small layers that the parts share, in PyTorch's names and layouts: a matrix is `[out, in]`, a kernel `[out, in, k]`.

Tensors start as shapes without memory; `init.py` or a checkpoint fills them. Features are channels last, which XLA
convolves fastest. Axes: batch, frames, channels, width.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, DTypeLike, Float, Int, PRNGKeyArray

from dragoman.jax.net.convolution import convolve
from dragoman.spec import Activation
from dragoman.spec.lora import LoraSpec

NEVER = -3.4e38  # the score of masked keys; finite, so that a fully masked row gives no NaN

_FEW_ROWS = 40  # from 64 on nothing is gained

Key = PRNGKeyArray | None
"""A random key for dropout and LayerDrop in training; `None` in evaluation."""

Lengths = Int[Array, " batch"] | None
"""Valid samples or frames of each row; `None` if all are."""


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1.0 + lax.erf(x * math.sqrt(0.5)))  # jax.nn.gelu uses erfc, which is slower in XLA


def _gelu_tanh(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=True)


def _quick_gelu(x: Array) -> Array:
    return x * jax.nn.sigmoid(1.702 * x)


def _relu(x: Array) -> Array:
    return jax.nn.relu(x)


def _silu(x: Array) -> Array:
    return jax.nn.silu(x)


def _tanh(x: Array) -> Array:
    return jnp.tanh(x)


# Our own named functions, because modules that hold them are pickled, and JAX wraps its own in `jit`.
ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    Activation.GELU: _gelu,
    Activation.GELU_TANH: _gelu_tanh,
    Activation.QUICK_GELU: _quick_gelu,
    Activation.RELU: _relu,
    Activation.SILU: _silu,
    Activation.TANH: _tanh,
}


def param(*shape: int) -> nnx.Param[Array]:
    """Return a parameter with a shape but no memory yet."""
    return nnx.Param(shape_only(shape))


def shape_only(shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Any:
    """Return the placeholder of an array."""
    return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]


def widened(x: Array) -> Array:
    """Return `x` in float32 if its dtype is narrower, for sums and exponentials."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def split(key: Key, count: int) -> tuple[Key, ...]:
    """Return `count` independent keys; `None` gives as many `None`."""
    return (None,) * count if key is None else tuple(jax.random.split(key, count))


def dropout(x: Array, rate: float, key: Key) -> Array:
    """Set a share `rate` of `x` to zero and scale the rest up; without a key, return `x`."""
    if key is None or rate == 0.0:
        return x
    kept = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(kept, x / (1.0 - rate), jnp.zeros_like(x))


def frame_mask(lengths: Int[Array, " batch"], frames: int) -> Bool[Array, "batch frames"]:
    """Return True for the first `lengths[row]` frames of each row."""
    return jnp.arange(frames) < lengths[:, None]


def zero_padding(states: Float[Array, "batch frames width"], mask: Bool[Array, "batch frames"] | None) -> Array:
    """Set padded frames to zero, so that a convolution reads the same as at the edge of a single clip."""
    return states if mask is None else jnp.where(mask[:, :, None], states, jnp.zeros_like(states))


class Linear(nnx.Module):
    """A matrix `[out, in]` and a bias."""

    def __init__(self, width_in: int, width_out: int, *, bias: bool = True) -> None:
        self.weight = param(width_out, width_in)
        self.bias = param(width_out) if bias else None

    def __call__(self, x: Float[Array, "*rows width_in"], key: Key = None) -> Float[Array, "*rows width_out"]:
        """Compute `x @ weight.T + bias`; the random key is for a LoRA that replaces this layer."""
        return linear(x, self.weight[...], None if self.bias is None else self.bias[...])


def linear(x: Array, weight: Float[Array, "out in"], bias: Array | None = None) -> Array:
    """Return `x @ weight.T + bias`."""
    if 1 < math.prod(x.shape[:-1]) <= _FEW_ROWS:
        out: Array = lax.platform_dependent(x, weight, cpu=_few_rows, default=_product)
    else:
        out = _product(x, weight)
    return out if bias is None else out + bias


def _product(x: Array, weight: Float[Array, "out in"]) -> Array:
    return lax.dot_general(x, weight, (((x.ndim - 1,), (1,)), ((), ())))


def _few_rows(x: Array, weight: Float[Array, "out in"]) -> Array:
    """Return the product for the rows of some beams as `weight @ x.T`, padded to a fast number of rows.

    For `x @ weight.T` XLA on CPUs copies the whole weight into another layout at every step, which takes longer than
    the product (decision 012). The barrier keeps XLA from swapping the operands back.
    """
    rows = x.reshape(-1, x.shape[-1])
    count = rows.shape[0]
    size = 1 << (count - 1).bit_length() if count <= 16 else -(-count // 4) * 4
    rows = jnp.pad(rows, ((0, size - count), (0, 0)))
    out = lax.dot_general(weight, rows, (((1,), (1,)), ((), ())))
    held: Array = lax.optimization_barrier(out)  # type: ignore[no-untyped-call]
    return held.T[:count].reshape(*x.shape[:-1], weight.shape[0])


class LoraLinear(Linear):
    """A linear layer that shares the weights of another, plus a product of two low-rank matrices.

    The first matrix starts random and the second zero, so that at first nothing changes.

    Args:
        base: The layer whose weights it shares.
        spec: Sizes and scale.
        seed: Of the random matrix and, with a random key, of its dropout; another one for each layer.
    """

    def __init__(self, base: Linear, spec: LoraSpec, seed: int = 0) -> None:
        self.weight, self.bias, self.spec, self.seed = base.weight, base.bias, spec, seed
        width_out, width_in = base.weight.shape
        bound = width_in**-0.5
        first = np.random.default_rng(seed).uniform(-bound, bound, (spec.rank, width_in))
        self.lora_a = nnx.Param(jnp.asarray(first, base.weight.dtype))
        self.lora_b = nnx.Param(jnp.zeros((width_out, spec.rank), base.weight.dtype))

    def __call__(self, x: Float[Array, "*rows width_in"], key: Key = None) -> Float[Array, "*rows width_out"]:
        """Compute the layer's output plus the product's, whose input has dropout where there is a key."""
        own = None if key is None else jax.random.fold_in(key, self.seed)
        inner = linear(dropout(x, self.spec.dropout, own), self.lora_a[...])
        return super().__call__(x) + linear(inner, self.lora_b[...]) * self.spec.scale

    def merged(self) -> Float[Array, "width_out width_in"]:
        """Return the weight of an equivalent plain layer."""
        weight: Array = self.spec.folded(self.weight[...], self.lora_a[...], self.lora_b[...])
        return weight


class Embedding(nnx.Module):
    """A table with one vector per token."""

    def __init__(self, count: int, width: int) -> None:
        self.weight = param(count, width)

    def __call__(self, tokens: Int[Array, "*rows"]) -> Float[Array, "*rows width"]:
        return jnp.take(self.weight[...], tokens, axis=0)


class Conv1d(nnx.Module):
    """A convolution over the frames."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int = 1,
        *,
        padding: int = 0,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        self.stride, self.padding, self.groups = stride, padding, groups
        self.weight = param(channels_out, channels_in // groups, kernel)
        self.bias = param(channels_out) if bias else None

    def __call__(self, features: Float[Array, "batch frames channels_in"]) -> Float[Array, "batch frames_out channels"]:
        """Convolve, with `padding` zeros on both sides."""
        bias = None if self.bias is None else self.bias[...]
        return convolve(features, self.weight[...], bias, self.stride, self.padding, self.groups)


class Conv2d(nnx.Module):
    """A convolution over frames and bins that halves both, each channel alone or all; one of points mixes them.

    Products of shifted frames are summed: XLA for CPUs has no fast gradient of grouped convolutions (decision 020).
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int) -> None:
        self.weight, self.bias = param(channels_out, channels_in, kernel, kernel), param(channels_out)

    def __call__(self, x: Float[Array, "batch frames bins channels_in"]) -> Float[Array, "batch frames bins channels"]:
        weight, bias = self.weight[...], self.bias[...]
        size = weight.shape[2]
        if size == 1:
            return linear(x, weight[:, :, 0, 0], bias)
        if weight.shape[1] > 1:  # all channels together
            pads, axes = [(size // 2, size // 2)] * 2, ("NHWC", "OIHW", "NHWC")
            return lax.conv_general_dilated(x, weight, (2, 2), pads, dimension_numbers=axes) + bias
        ends = [(length - 1) // 2 * 2 + 1 for length in x.shape[1:3]]
        padded = widened(jnp.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0))))
        taps = ((i, j) for i in range(size) for j in range(size))
        parts = (padded[:, i : i + ends[0] : 2, j : j + ends[1] : 2] * weight[:, 0, i, j] for i, j in taps)
        return (sum(parts) + bias).astype(x.dtype)


class WeightNormConv1d(nnx.Module):
    """Grouped convolution, its weight stored as a direction `weight_v` and a length `weight_g` per kernel position.

    The weight is computed in the call: no hooks (weight normalisation, https://arxiv.org/abs/1602.07868).
    """

    def __init__(self, width: int, kernel: int, groups: int, stride: int = 1) -> None:
        self.groups, self.stride = groups, stride
        self.padding = kernel // 2
        self.weight_g = param(1, 1, kernel)
        self.weight_v = param(width, width // groups, kernel)
        self.bias = param(width)

    def __call__(self, features: Float[Array, "batch frames width"]) -> Array:
        """Convolve with `kernel // 2` zeros on both sides."""
        direction = self.weight_v[...]
        squares = jnp.square(widened(direction)).sum((0, 1), keepdims=True)
        weight = direction * (self.weight_g[...] / jnp.sqrt(squares).astype(direction.dtype))
        return convolve(features, weight, self.bias[...], self.stride, self.padding, self.groups)
