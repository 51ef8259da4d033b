"""Convolutions: gradients as derived by JAX, and the fast layout of XLA inside loops."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jaxtyping import Array

from dragoman.jax.net.convolution import convolve

BATCH, FRAMES = 2, 11


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


def gradients(
    convolved: Callable[..., Array], features: Array, weight: Array, bias: Array
) -> tuple[Array, tuple[Array, ...]]:
    return jax.jit(jax.value_and_grad(lambda *given: jnp.square(convolved(*given)).sum(), (0, 1, 2)))(
        features, weight, bias
    )


@pytest.mark.parametrize(
    ("channels", "width", "kernel", "stride", "padding", "groups"),
    [(1, 6, 4, 3, 0, 1), (4, 6, 3, 2, 1, 1), (4, 8, 4, 1, 2, 2), (4, 4, 2, 3, 3, 4), (6, 6, 1, 2, 0, 3)],
    ids=["front", "strided", "grouped", "one-channel-groups", "one-tap"],
)
def test_values_and_gradients(channels: int, width: int, kernel: int, stride: int, padding: int, groups: int) -> None:
    given = arrays((BATCH, FRAMES, channels), (width, channels // groups, kernel), (width,))

    def plain(features: Array, weight: Array, bias: Array) -> Array:
        order = ("NWC", "OIW", "NWC")
        pads = [(padding, padding)]
        out = lax.conv_general_dilated(
            features, weight, (stride,), pads, dimension_numbers=order, feature_group_count=groups
        )
        return out + bias

    def ours(features: Array, weight: Array, bias: Array) -> Array:
        return convolve(features, weight, bias, stride, padding, groups)

    wanted, found = gradients(plain, *given), gradients(ours, *given)
    assert np.allclose(found[0], wanted[0], rtol=1e-5)
    assert all(np.allclose(mine, theirs, atol=1e-4) for mine, theirs in zip(found[1], wanted[1], strict=True))
    anew = gradients(jax.checkpoint(ours), *given)
    assert all(np.allclose(mine, theirs, atol=1e-5) for mine, theirs in zip(anew[1], found[1], strict=True))
    half = jax.grad(lambda *x: ours(*x).sum(), (0, 1))(*(jnp.asarray(x, jnp.bfloat16) for x in given))
    assert all(gradient.dtype == jnp.bfloat16 for gradient in half)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other platforms choose their own order")
@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_in_a_loop_have_the_fast_layout(groups: int) -> None:
    """On CPUs, XLA changes the layout outside loops only; other layouts are up to a hundred times slower."""
    features, weight = arrays((BATCH, FRAMES, 4), (8, 4 // groups, 3))

    def step(sums: tuple[Array, Array], features: Array) -> tuple[tuple[Array, Array], None]:
        def loss(features: Array, weight: Array) -> Array:
            return jnp.square(convolve(features, weight, None, 2, 1, groups)).sum()

        found = jax.grad(loss, (0, 1))(features, weight)
        return (sums[0] + found[0], sums[1] + found[1]), None

    nothing = (jnp.zeros_like(features), jnp.zeros_like(weight))
    program = jax.jit(lambda parts: lax.scan(step, nothing, parts)[0])
    text = program.lower(np.stack([features] * 3)).compile().as_text()
    orders = re.findall(r" convolution\(.*dim_labels=([a-z0-9_>-]+)", text)
    assert " while(" in text
    assert orders == ["b0f_0io->b0f"] * 3
    assert "batch_group_count" not in text
