import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.errors import CheckpointError
from dragoman.generation.alignment import align, alignment_matrix, pick_heads, warp


def cheapest(cost):
    """The cost of the cheapest path, by the definition."""
    tokens, frames = cost.shape
    best = np.full((tokens + 1, frames + 1), np.inf)
    best[0, 0] = 0
    for i in range(tokens):
        for j in range(frames):
            best[i + 1, j + 1] = cost[i, j] + min(best[i, j], best[i, j + 1], best[i + 1, j])
    return best[-1, -1]


@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_warp_finds_the_cheapest_path_in_single_steps(tokens, frames, seed):
    cost = np.random.default_rng(seed).normal(size=(tokens, frames))
    rows, columns = warp(cost)
    assert (rows[0], columns[0], rows[-1], columns[-1]) == (0, 0, tokens - 1, frames - 1)
    steps = np.stack([np.diff(rows), np.diff(columns)])
    assert ((steps == 0) | (steps == 1)).all()
    assert (steps.sum(axis=0) > 0).all()
    assert cost[rows, columns].sum() == pytest.approx(cheapest(cost))


@given(st.lists(st.integers(4, 12), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_tokens_begin_at_the_frames_they_attend_to(lengths, seed):
    """Each token attends to its own span of frames, with noise; one head attends to nothing in particular."""
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    logits = rng.normal(0, 0.3, (3, len(lengths), sum(lengths)))
    for token, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        logits[:2, token, start : start + length] += 4
    weights = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    found = align(alignment_matrix(weights))
    assert found[0] == 0
    assert np.abs(found - starts).max() <= 1


@pytest.mark.parametrize("frames", [1, 2, 3, 7])
def test_more_tokens_than_frames_can_be_aligned(frames):
    weights = np.random.default_rng(0).random((2, 9, frames))
    found = align(alignment_matrix(weights))
    assert len(found) == 9
    assert (np.diff(found) >= 0).all()
    assert found[-1] == frames - 1 or frames == 1


def test_frames_without_attention_stay_finite():
    weights = np.zeros((2, 4, 20), np.float32)
    weights[:, :, :10] = 0.1
    assert np.isfinite(alignment_matrix(weights)).all()


def test_heads_default_to_the_upper_layers():
    assert pick_heads([[1, 0], [3, 5]], 4, 6) == ((1, 0), (3, 5))
    assert pick_heads(None, 3, 2) == ((1, 0), (1, 1), (2, 0), (2, 1))
    assert pick_heads(None, 1, 2) == ((0, 0), (0, 1))


@pytest.mark.parametrize(
    "heads", [[[4, 0]], [[0, 6]], [[-1, 0]], [[1]], [[0, 1, 2]], 5, "ab", ["ab"], [[0.5, 1]], [None]]
)
def test_invalid_heads_are_refused(heads):
    with pytest.raises(CheckpointError, match="pairs of a layer below 4 and a head below 6"):
        pick_heads(heads, 4, 6)
