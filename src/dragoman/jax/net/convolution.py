"""Convolution over the frames, and its gradients as XLA for CPUs computes them fast (decision 020).

XLA's CPU library convolves `[batch, frames, channels]` with `[kernel, in, out]`. It converts other layouts only outside
of loops, and inside a loop a convolution takes up to a hundred times as long; so all three convolutions of a training
step use this layout here. For the gradient of a grouped weight it has no fast method, unless the examples of a batch
are moved to the channel axis.

Axes: batch, frames, in, out, kernel; `in` counts the channels of one group, `out` those of all groups.
"""

from functools import partial

import jax
from jax import lax
from jaxtyping import Array, Float


def convolve(
    features: Array, weight: Float[Array, "out in kernel"], bias: Array | None, stride: int, padding: int, groups: int
) -> Array:
    """Convolve `[batch, frames, channels]` over the frames, with `padding` zeros on both sides."""
    out: Array = _with_gradients(features, weight, stride, padding, groups)
    return out if bias is None else out + bias


def _product(
    features: Float[Array, "batch frames channels"],
    weight: Float[Array, "out in kernel"],
    stride: int,
    padding: int,
    groups: int,
) -> Float[Array, "batch frames_out out"]:
    # [o, i, k] -> [k, i, o]
    return _convolve(features, weight.transpose(2, 1, 0), (padding, padding), groups, stride=stride)


def _forward(
    features: Array, weight: Array, stride: int, padding: int, groups: int
) -> tuple[Array, tuple[Array, Array]]:
    return _product(features, weight, stride, padding, groups), (features, weight)


def _backward(
    stride: int, padding: int, groups: int, given: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    def fast(features: Array, weight: Array, gradient: Array) -> tuple[Array, Array]:
        return (
            _features_gradient(gradient, weight, features.shape[1], stride, padding, groups),
            _weight_gradient(gradient, features, weight.shape[2], stride, padding, groups),
        )

    def derived(features: Array, weight: Array, gradient: Array) -> tuple[Array, Array]:
        _, vjp = jax.vjp(partial(_product, stride=stride, padding=padding, groups=groups), features, weight)
        found: tuple[Array, Array] = vjp(gradient)
        return found

    found: tuple[Array, Array] = lax.platform_dependent(*given, gradient, cpu=fast, default=derived)
    return found


_with_gradients = jax.custom_vjp(_product, nondiff_argnums=(2, 3, 4))
_with_gradients.defvjp(_forward, _backward)


def _convolve(
    features: Float[Array, "batch frames channels"],
    weight: Float[Array, "kernel in out"],
    padding: tuple[int, int],
    groups: int,
    *,
    stride: int = 1,
    frame_step: int = 1,
    tap_step: int = 1,
) -> Float[Array, "batch frames_out out"]:
    """Convolve frames `frame_step` apart with taps `tap_step` apart, zeros between them."""
    order = ("NWC", "WIO", "NWC")
    return lax.conv_general_dilated(
        features, weight, (stride,), [padding], (frame_step,), (tap_step,), order, feature_group_count=groups
    )


def _features_gradient(
    gradient: Float[Array, "batch frames_out out"],
    weight: Float[Array, "out in kernel"],
    frames: int,
    stride: int,
    padding: int,
    groups: int,
) -> Float[Array, "batch frames channels"]:
    """Convolve the output's gradient, a stride apart, with the weight, its taps reversed."""
    width_out, width_in, kernel = weight.shape
    # [o, i, k] -> [g, o / g, i, k] -> [k, o / g, g, i] -> [k, o / g, channels]
    parts = weight[:, :, ::-1].reshape(groups, width_out // groups, width_in, kernel)
    back = parts.transpose(3, 1, 0, 2).reshape(kernel, width_out // groups, groups * width_in)
    before = kernel - 1 - padding
    reach = (gradient.shape[1] - 1) * stride + 1
    return _convolve(gradient, back, (before, frames + padding - reach), groups, frame_step=stride)


def _weight_gradient(
    gradient: Float[Array, "batch frames_out out"],
    features: Float[Array, "batch frames channels"],
    kernel: int,
    stride: int,
    padding: int,
    groups: int,
) -> Float[Array, "out in kernel"]:
    """Convolve the features with the output's gradient, the axes of channels and examples swapped."""
    batch, frames, channels = features.shape
    # [b, t, c] -> [b, t, g, i] -> [i, t, g, b] -> [i, t, g * b]
    parts = features.reshape(batch, frames, groups, channels // groups).transpose(3, 1, 2, 0)
    rows = parts.reshape(channels // groups, frames, groups * batch)
    reach = (gradient.shape[1] - 1) * stride + kernel
    # [b, u, o] -> [u, b, o]; the result is [i, k, o]
    out = _convolve(rows, gradient.swapaxes(0, 1), (padding, reach - frames - padding), groups, tap_step=stride)
    return out.transpose(2, 0, 1)
