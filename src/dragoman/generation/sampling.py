"""Sampling: the filters that reshape the distribution, and the draws.

A filter takes scores float32 `[rows, vocab]` and sets those of the tokens it drops to minus infinity; it keeps at least
`keep` tokens. All tokens tied at a threshold are kept; `transformers` keeps the one that its sort puts first.
"""

from dragoman.generation.arrays import MINUS_INFINITY, Array, Ops
from dragoman.generation.noise import gumbel, uniform


def top_k(ops: Ops, scores: Array, k: int) -> Array:
    """Keep the `k` greatest scores."""
    return _drop(ops, scores, scores < _kth(ops, scores, k))


def top_p(ops: Ops, scores: Array, p: float, keep: int) -> Array:
    """Keep the most likely tokens, as few as reach the total probability `p`.

    Reference: nucleus sampling, https://arxiv.org/abs/1904.09751.
    """
    xp = ops.xp
    ascending = xp.sort(scores, axis=-1)
    below = xp.cumulative_sum(xp.exp(ops.log_softmax(ascending)), axis=-1) <= 1.0 - p
    dropped = xp.count_nonzero(below, axis=-1, keepdims=True)
    threshold = ops.gather(ascending, xp.clip(dropped, 0, max(scores.shape[-1] - keep, 0)))
    return _drop(ops, scores, scores < threshold)


def min_p(ops: Ops, scores: Array, least: float, keep: int) -> Array:
    """Keep tokens at least `least` times as likely as the most likely one (https://arxiv.org/abs/2407.01082)."""
    xp = ops.xp
    log_probs = ops.log_softmax(scores)
    probs = xp.exp(log_probs)
    unlikely = probs < least * xp.max(probs, axis=-1, keepdims=True)
    return _drop(ops, scores, unlikely & (scores < _kth(ops, scores, keep)))


def typical(ops: Ops, scores: Array, mass: float, keep: int) -> Array:
    """Keep the tokens whose surprisal is nearest to the entropy, as few as reach the total probability `mass`.

    Reference: https://arxiv.org/abs/2202.00666.
    """
    xp = ops.xp
    log_probs = ops.log_softmax(scores)
    probs = xp.exp(log_probs)
    distance = xp.abs(-log_probs - _entropy(ops, log_probs, probs))
    order = xp.argsort(distance, axis=-1)
    nearest = ops.gather(distance, order)
    below = xp.cumulative_sum(ops.gather(probs, order), axis=-1) < mass
    last = xp.count_nonzero(below, axis=-1, keepdims=True)
    size = scores.shape[-1]
    last = xp.clip(last, min(keep, size) - 1, size - 1)
    return _drop(ops, scores, distance > ops.gather(nearest, last))


def epsilon(ops: Ops, scores: Array, least: float, keep: int) -> Array:
    """Keep tokens with a probability of at least `least` (https://arxiv.org/abs/2210.15191)."""
    unlikely = ops.xp.exp(ops.log_softmax(scores)) < least
    return _drop(ops, scores, unlikely & (scores < _kth(ops, scores, keep)))


def eta(ops: Ops, scores: Array, least: float, keep: int) -> Array:
    """Keep tokens at least min(least, sqrt(least) exp(-entropy)) likely (https://arxiv.org/abs/2210.15191)."""
    xp = ops.xp
    log_probs = ops.log_softmax(scores)
    probs = xp.exp(log_probs)
    threshold = xp.clip(least**0.5 * xp.exp(-_entropy(ops, log_probs, probs)), max=least)
    return _drop(ops, scores, (probs < threshold) & (scores < _kth(ops, scores, keep)))


def draw(ops: Ops, keys: Array, scores: Array) -> Array:
    """Draw a token for each row from softmax(scores), with random `keys` int32 `[rows]`: int `[rows]`."""
    xp = ops.xp
    weights = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
    sums = xp.cumulative_sum(weights, axis=-1)
    # The first sum above a uniform fraction of the total; a token of weight 0 adds nothing, so it is never first.
    return xp.argmax(xp.astype(sums > uniform(ops, keys)[:, None] * sums[:, -1:], xp.int8), axis=-1)


def draw_without_replacement(ops: Ops, keys: Array, scores: Array, count: int) -> tuple[Array, Array]:
    """Draw `count` columns of each row, none twice.

    Returns:
        Their scores and indices `[rows, count]` in the order drawn.
    """
    _, indices = ops.top_k(ops.log_softmax(scores) + gumbel(ops, keys, scores.shape[-1]), count)
    return ops.gather(scores, indices), indices


def _drop(ops: Ops, scores: Array, dropped: Array) -> Array:
    return ops.xp.where(dropped, MINUS_INFINITY, scores)


def _kth(ops: Ops, scores: Array, k: int) -> Array:
    """Return the `k`-th greatest score of each row, `[rows, 1]`."""
    return ops.top_k(scores, min(k, scores.shape[-1]))[0][:, -1:]


def _entropy(ops: Ops, log_probs: Array, probs: Array) -> Array:
    xp = ops.xp
    return -xp.sum(xp.where(probs > 0, log_probs, 0.0) * probs, axis=-1, keepdims=True)
