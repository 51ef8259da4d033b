"""The frame at which each token begins: dynamic time warping over the decoder's cross-attention.

Pure NumPy, for every backend: attention weights in, frame indices out. Not here: seconds and words (`transcriber`).

Legend: heads = attention heads that follow the speech, of any layer; tokens, frames = those of one sequence.
"""

from collections.abc import Sequence
from operator import index
from typing import Any, TypeAlias

import numpy as np

from dragoman.errors import CheckpointError

Array: TypeAlias = "np.ndarray[Any, Any]"

_MEDIAN_WIDTH = 7  # frames; OpenAI's number

_DIAGONAL, _DOWN, _RIGHT = range(3)  # a step of the path: next token and frame, next token, next frame


def pick_heads(
    alignment_heads: Sequence[Sequence[int]] | None, num_layers: int, num_heads: int
) -> tuple[tuple[int, int], ...]:
    """Return the heads to align with, as pairs of layer and head.

    Args:
        alignment_heads: The entry of a `generation_config.json`. `None` selects every head in the upper half of the
            layers, as OpenAI's Whisper does for models without known heads.
        num_layers: Layers of the decoder.
        num_heads: Heads of each layer.

    Raises:
        CheckpointError: If they are not pairs, or the decoder has no such head.
    """
    if not alignment_heads:
        return tuple((layer, head) for layer in range(num_layers // 2, num_layers) for head in range(num_heads))
    try:
        pairs = tuple((index(layer), index(head)) for layer, head in alignment_heads)
    except (TypeError, ValueError):  # the file may hold anything
        pairs = ((-1, -1),)
    if not all(0 <= layer < num_layers and 0 <= head < num_heads for layer, head in pairs):
        raise CheckpointError(
            f"`alignment_heads` must be pairs of a layer below {num_layers} and a head below {num_heads}, but is "
            f"{alignment_heads!r:.80}. Correct or remove it in the checkpoint's generation_config.json."
        )
    return pairs


def alignment_matrix(weights: Array) -> Array:
    """Return each token's attention to each frame relative to that of the other tokens, float32 `[tokens, frames]`.

    Frames that all tokens attend to alike say nothing about time, so each frame is standardised over the tokens; a
    median over seven frames removes single peaks; then the heads are averaged.

    Args:
        weights: Attention weights `[heads, tokens, frames]` over the frames of the speech; may sum to less than 1.

    Reference: the word times of https://github.com/openai/whisper (timing.py).
    """
    total = np.zeros(weights.shape[1:], np.float32)
    for head in weights:  # one at a time, to save memory: large models have hundreds
        head = np.asarray(head, np.float32)
        head = head / np.maximum(head.sum(axis=1, keepdims=True), 1e-10)
        head = (head - head.mean(axis=0)) / np.maximum(head.std(axis=0), 1e-10)
        total += _median(head, _MEDIAN_WIDTH)
    return total / np.float32(len(weights))


def _median(rows: Array, width: int) -> Array:
    """Return the running median along the last axis, which is reflected at its ends."""
    reach = width // 2
    if rows.shape[-1] <= reach:
        return rows
    padded = np.pad(rows, ((0, 0), (reach, reach)), mode="reflect")
    return np.partition(np.lib.stride_tricks.sliding_window_view(padded, width, axis=-1), reach, axis=-1)[..., reach]


def warp(cost: Array) -> tuple[Array, Array]:
    """Return the cheapest path from the first token and frame to the last, as indices `[steps]` of both.

    A step goes to the next token, the next frame, or both. Computed by antidiagonals, whose cells do not depend on each
    other.

    Args:
        cost: `[tokens, frames]`, at least one of each.

    Reference: H. Sakoe, S. Chiba, Dynamic programming algorithm optimization for spoken word recognition, 1978.
    """
    tokens, frames = cost.shape
    steps = np.empty((tokens, frames), np.int8)  # the last step of the cheapest path to each cell
    # Costs of the cheapest paths to the last diagonal and the one before, by token; index 0 means no token.
    last, before = np.full((2, tokens + 1), np.inf)
    before[0] = 0.0  # the start of the path
    for diagonal in range(tokens + frames - 1):
        rows = np.arange(max(0, diagonal - frames + 1), min(tokens, diagonal + 1))
        costs = np.stack([before[rows], last[rows], last[rows + 1]])  # in the order of _DIAGONAL, _DOWN, _RIGHT
        best = costs.argmin(axis=0)
        steps[rows, diagonal - rows] = best
        here = np.full(tokens + 1, np.inf)
        here[rows + 1] = costs[best, np.arange(len(rows))] + cost[rows, diagonal - rows]
        last, before = here, last
    return _backtrack(steps)


def _backtrack(steps: Array) -> tuple[Array, Array]:
    token, frame = (size - 1 for size in steps.shape)
    path = [(token, frame)]
    while token or frame:
        step = steps[token, frame]
        token -= step != _RIGHT
        frame -= step != _DOWN
        path.append((token, frame))
    found = np.array(path[::-1])
    return found[:, 0], found[:, 1]


def align(matrix: Array) -> Array:
    """Return the frame at which each token begins, int `[tokens]`, non-decreasing.

    Args:
        matrix: The result of `alignment_matrix`, `[tokens, frames]`.
    """
    tokens, frames = warp(-matrix.astype(np.float64))
    return frames[np.searchsorted(tokens, np.arange(len(matrix)))]
