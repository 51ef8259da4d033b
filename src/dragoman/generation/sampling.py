"""Sampling: the filters that reshape the distribution, in upstream's order, and the draws.

A filter takes scores float32 `[rows, vocab]` and returns them with the tokens it drops set to minus infinity; `keep`
tokens are always left. Ties at a threshold are kept, where upstream keeps the one that its sort happens to put first.
"""

from collections.abc import Callable

from dragoman.generation.arrays import Array, Ops
from dragoman.generation.noise import gumbel, uniform
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import Plan
from dragoman.generation.processors import Processor

__all__ = ["build_filters", "draw", "draw_without_replacement"]

_MINUS_INFINITY = float("-inf")


def build_filters(ops: Ops, options: GenerationConfig, plan: Plan) -> list[Processor]:
    """Return what comes after all processors: the filters of sampling, and a last normalisation if asked for."""
    keep, chain = plan.min_tokens_to_keep, list[Callable[[Array], Array]]()
    if options.do_sample:
        if options.temperature != 1.0:
            chain.append(lambda scores: scores / options.temperature)
        if options.top_k > 0:
            chain.append(lambda scores: top_k(ops, scores, max(options.top_k, keep)))
        if options.top_p < 1.0:
            chain.append(lambda scores: top_p(ops, scores, options.top_p, keep))
        if options.min_p is not None:
            least = options.min_p
            chain.append(lambda scores: min_p(ops, scores, least, keep))
        if options.typical_p < 1.0:
            chain.append(lambda scores: typical(ops, scores, options.typical_p, keep))
        if options.epsilon_cutoff > 0.0:
            chain.append(lambda scores: epsilon(ops, scores, options.epsilon_cutoff, keep))
        if options.eta_cutoff > 0.0:
            chain.append(lambda scores: eta(ops, scores, options.eta_cutoff, keep))
    if options.renormalize_logits:
        chain.append(ops.log_softmax)
    return [lambda tokens, length, scores, one=one: one(scores) for one in chain]  # type: ignore[misc]


def top_k(ops: Ops, scores: Array, k: int) -> Array:
    """Keep the `k` greatest scores."""
    return _drop(ops, scores, scores < _kth(ops, scores, k))


def top_p(ops: Ops, scores: Array, p: float, keep: int) -> Array:
    """Keep the likeliest tokens, as many as it takes to reach the probability `p` together.

    Reference: nucleus sampling, https://arxiv.org/abs/1904.09751.
    """
    xp = ops.xp
    ascending = xp.sort(scores, axis=-1)
    below = xp.cumulative_sum(xp.exp(ops.log_softmax(ascending)), axis=-1) <= 1.0 - p
    dropped = xp.count_nonzero(below, axis=-1, keepdims=True)
    threshold = ops.gather(ascending, xp.clip(dropped, 0, max(scores.shape[-1] - keep, 0)))
    return _drop(ops, scores, scores < threshold)


def min_p(ops: Ops, scores: Array, least: float, keep: int) -> Array:
    """Keep tokens at least `least` times as likely as the likeliest (https://arxiv.org/abs/2407.01082)."""
    xp = ops.xp
    log_probs = ops.log_softmax(scores)
    probs = xp.exp(log_probs)
    unlikely = probs < least * xp.max(probs, axis=-1, keepdims=True)
    return _drop(ops, scores, unlikely & (scores < _kth(ops, scores, keep)))


def typical(ops: Ops, scores: Array, mass: float, keep: int) -> Array:
    """Keep the tokens whose surprise is nearest to the entropy, as many as it takes to hold `mass` together.

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
    """Draw a token for each row: int `[rows]`, with probabilities softmax(scores) and the random `keys` `[rows]`."""
    xp = ops.xp
    weights = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
    sums = xp.cumulative_sum(weights, axis=-1)
    # The first sum beyond a uniform share of the whole; a token of weight 0 adds nothing, so it is never first.
    return xp.argmax(xp.astype(sums > uniform(ops, keys)[:, None] * sums[:, -1:], xp.int8), axis=-1)


def draw_without_replacement(ops: Ops, keys: Array, scores: Array, count: int) -> tuple[Array, Array]:
    """Draw `count` columns of each row in turn, none twice.

    Returns:
        Their scores and indices `[rows, count]` in the order drawn.
    """
    _, indices = ops.top_k(ops.log_softmax(scores) + gumbel(ops, keys, scores.shape[-1]), count)
    return ops.gather(scores, indices), indices


def _drop(ops: Ops, scores: Array, dropped: Array) -> Array:
    return ops.xp.where(dropped, _MINUS_INFINITY, scores)


def _kth(ops: Ops, scores: Array, k: int) -> Array:
    """Return the `k`-th greatest score of each row, `[rows, 1]`."""
    return ops.top_k(scores, min(k, scores.shape[-1]))[0][:, -1:]


def _entropy(ops: Ops, log_probs: Array, probs: Array) -> Array:
    xp = ops.xp
    return -xp.sum(xp.where(probs > 0, log_probs, 0.0) * probs, axis=-1, keepdims=True)
