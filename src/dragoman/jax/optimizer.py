"""AdamW with a rate and a weight decay for each parameter, and clipping; what is not finite changes nothing.

What `torch.optim.AdamW` and `clip_grad_norm_` compute, as one transformation of optax whose state is a dictionary.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax  # type: ignore[import-untyped]
from jaxtyping import Array

from dragoman.model.learning import LearnerOptions, depths_of, has_decay, rate_of

_CLIP_EPSILON = 1e-6  # as in PyTorch


def adamw(options: LearnerOptions) -> optax.GradientTransformation:
    """Return the transformation.

    Its state holds `exp_avg` and `exp_avg_sq` (trees as the parameters), `step`, `share` (of the highest rates, set by
    the caller before each step), and `grad_norm` and `finite` of the last step.
    """
    (beta1, beta2), limit = options.betas, options.max_grad_norm

    def init(params: Any) -> dict[str, Any]:
        return {
            "exp_avg": jax.tree.map(jnp.zeros_like, params),
            "exp_avg_sq": jax.tree.map(jnp.zeros_like, params),
            "step": jnp.zeros((), jnp.int32),
            "share": jnp.ones(()),
            "grad_norm": jnp.zeros(()),
            "finite": jnp.ones((), bool),
        }

    def update(gradients: Any, state: dict[str, Any], params: Any = None) -> tuple[Any, dict[str, Any]]:
        norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree.leaves(gradients)))
        finite = jnp.isfinite(norm)
        scale = jnp.minimum(limit / (norm + _CLIP_EPSILON), 1.0) if limit else 1.0
        gradients = jax.tree.map(lambda g: g * scale, gradients)
        step = state["step"] + 1
        means = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, state["exp_avg"], gradients)
        squares = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, state["exp_avg_sq"], gradients)
        depths = depths_of(_names(params))

        def change(path: Any, p: Array, m: Array, v: Array) -> Array:
            name = _name(path)
            rate = rate_of(name, options.rates, depths) * state["share"]
            decay = options.rates.weight_decay if has_decay(name) else 0.0
            spread = jnp.sqrt(v / (1 - beta2**step)) + options.epsilon
            changed: Array = -rate * (decay * p + m / (1 - beta1**step) / spread)
            return jnp.where((v > 0).any(), changed, 0.0)  # what no gradient ever reached stays, as in PyTorch

        changes = jax.tree_util.tree_map_with_path(change, params, means, squares)
        kept = {"exp_avg": means, "exp_avg_sq": squares, "step": step}
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), kept, {name: state[name] for name in kept})
        changes = jax.tree.map(lambda x: jnp.where(finite, x, jnp.zeros_like(x)), changes)
        return changes, {**kept, "share": state["share"], "grad_norm": norm, "finite": finite}

    return optax.GradientTransformation(init, update)


def _name(path: Any) -> str:
    return ".".join(str(key.key) for key in path)


def _names(params: Any) -> list[str]:
    return [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
