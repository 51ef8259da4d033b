"""Masks and positions of a decoding step, in both backends, against a loop over queries and keys."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.jax.net.cache import Cache as JaxCache
from dragoman.jax.net.step import decoding_step as jax_decoding_step
from dragoman.spec import LocalAttentionSpec, TextDecoderSpec, TextPositionSpec
from dragoman.testing import tiny_config
from dragoman.torch.net.cache import Cache
from dragoman.torch.net.step import decoding_step

WINDOW = 3


def spec_of(*, causal: bool) -> TextDecoderSpec:
    spec = tiny_config("gpt2").text_spec()
    return replace(
        spec,
        causal=causal,
        embed=replace(spec.embed, positions=TextPositionSpec(from_mask=True)),
        stack=replace(spec.stack, local=LocalAttentionSpec(window=WINDOW, layers=frozenset({0}))),
    )


@st.composite
def masks(draw: st.DrawFn, rows: int, length: int) -> np.ndarray | None:
    """A mask with padding on the left, or none."""
    padding = draw(st.none() | st.lists(st.integers(0, max(length - 1, 0)), min_size=rows, max_size=rows))
    return None if padding is None else np.arange(length) >= np.array(padding)[:, None]


def expected(
    start: int, count: int, prefix: np.ndarray | None, text: np.ndarray | None, *, causal: bool, window: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mask `[rows, count, start + count]` and the positions `[rows, count]` by loops."""
    size, rows = start + count, len(prefix if prefix is not None else text if text is not None else [0])
    kept = np.ones((rows, size), bool)
    first = 0 if prefix is None else prefix.shape[1]
    if prefix is not None:
        kept[:, :first] = prefix
    if text is not None:
        part = text[:, : size - first]
        kept[:, first : first + part.shape[1]] = part
    mask = np.zeros((rows, count, size), bool)
    positions = np.zeros((rows, count), int)
    for row in range(rows):
        for query in range(count):
            own = start + query
            for key in range(size):
                near = window is None or key > own - window
                mask[row, query, key] = key == own or (kept[row, key] and near and (key <= own or not causal))
            in_text = max(kept[row, first : own + 1].sum() - 1, 0)
            positions[row, query] = in_text + kept[row, :first].sum()
    return mask, positions


@pytest.mark.parametrize("causal", [True, False])
@settings(max_examples=8)  # JAX compiles each of them
@given(data=st.data())
def test_both_backends_agree_with_a_loop(causal: bool, data: st.DataObject) -> None:
    rows, first, read = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 3)), data.draw(st.integers(0, 4))
    count, spare = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 2))
    prefix = data.draw(masks(rows, first)) if first else None
    start = (0 if prefix is None else first) + read
    text = data.draw(masks(rows, data.draw(st.integers(1, read + count))))
    spec, size = spec_of(causal=causal), start + count

    def torch_mask(mask: np.ndarray | None) -> torch.Tensor | None:
        return None if mask is None else torch.from_numpy(mask)

    def jax_mask(mask: np.ndarray | None) -> jnp.ndarray | None:
        return None if mask is None else jnp.asarray(mask)

    buffer = torch.zeros(1, rows, 1, size + spare, 1)
    cache = Cache(keys=buffer, values=buffer, length=start, prefix_mask=torch_mask(prefix), text_mask=torch_mask(text))
    buffers = (jnp.zeros((rows, 1, size + spare, 1)),)
    jax_cache = JaxCache(
        keys=buffers, values=buffers, length=jnp.int32(start), prefix_mask=jax_mask(prefix), text_mask=jax_mask(text)
    )
    ours = decoding_step(spec, torch.zeros(rows, count, dtype=torch.long), cache)
    theirs = jax_decoding_step(spec, jnp.zeros((rows, count), jnp.int32), jax_cache)
    for window, name in (None, "mask"), (WINDOW, "local_mask"):
        mask, positions = expected(start, count, prefix, text, causal=causal, window=window)
        found, jax_found = getattr(ours, name), getattr(theirs, name)
        if found is not None:
            assert np.array_equal(
                np.broadcast_to(found[:, 0].numpy(), (rows, count, size)), np.broadcast_to(mask, (rows, count, size))
            )
        elif window is None:
            assert ours.causal == (causal and count > 1)
            assert ours.causal or mask.all()
        else:
            assert size <= window
        if jax_found is not None:
            whole = np.broadcast_to(np.asarray(jax_found)[:, 0], (rows, count, size + spare))
            assert np.array_equal(whole[:, :, :size], np.broadcast_to(mask, (rows, count, size)))
            assert not whole[:, :, size:].any()  # places not yet written
        for step in ours, theirs:
            if step.positions is not None:
                given_positions = np.broadcast_to(np.asarray(step.positions), (rows, count))
                assert np.array_equal(given_positions, np.broadcast_to(positions, (rows, count)))
            else:
                assert np.array_equal(positions, np.broadcast_to(start + np.arange(count), positions.shape))
