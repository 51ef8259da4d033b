"""Alignment against that of Whisper in `transformers`."""

import numpy as np
import pytest
import torch
from transformers.models.whisper import generation_whisper as reference

from dragoman.generation.alignment import align, alignment_matrix, warp


@pytest.mark.parametrize("seed", range(20))
def test_path_equals_transformers(seed):
    rng = np.random.default_rng(seed)
    cost = rng.normal(size=(rng.integers(1, 30), rng.integers(1, 60)))
    for ours, theirs in zip(warp(cost), reference._dynamic_time_warping(cost), strict=True):
        assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_matrix_equals_transformers(seed):
    rng = np.random.default_rng(seed)
    weights = torch.from_numpy(rng.random((3, 12, 40), np.float32)).softmax(-1)
    normal = (weights - weights.mean(dim=-2, keepdim=True)) / torch.std(weights, dim=-2, keepdim=True, unbiased=False)
    wanted = reference._median_filter(normal, 7).mean(dim=0)
    found = alignment_matrix(weights.numpy())
    assert np.abs(found - wanted.numpy()).max() < 1e-4
    frames = reference._dynamic_time_warping(-wanted.double().numpy())
    first = [int(frames[1][frames[0] == token].min()) for token in range(12)]
    assert align(found).tolist() == first
