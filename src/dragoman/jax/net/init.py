"""Initial values of tensors that no checkpoint holds: each layer's distribution is that of its first training.

Modules are built with shapes only; `initialise` draws values of the named tensors in NumPy from a seed, so that nothing
is compiled.
"""

import math
from collections.abc import Collection
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import DTypeLike

from dragoman.jax.net.conformer import ConformerAttention
from dragoman.jax.net.layers import Conv1d, Conv2d, Embedding, Linear, WeightNormConv1d
from dragoman.jax.net.norms import ChannelNorm, LayerNorm, RMSNorm, StoredNorm
from dragoman.jax.net.position_bias import BiasGate
from dragoman.jax.net.positions import TablePositions
from dragoman.jax.net.tree import flat, nested, update
from dragoman.spec import Positions, SpeechEncoderSpec, TextDecoderSpec

Values = dict[str, np.ndarray[Any, Any]]


def shapes_of(root: nnx.Module) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return shape and dtype of every tensor by its dotted name."""
    state = nnx.to_pure_dict(nnx.state(root))
    return {name: (tuple(leaf.shape), leaf.dtype) for name, leaf in flat(_named(state)).items()}


def _named(tree: dict[Any, Any]) -> dict[str, Any]:
    return {str(name): _named(value) if isinstance(value, dict) else value for name, value in tree.items()}


def persistent_names(root: nnx.Module) -> list[str]:
    """Return the names of the tensors that a checkpoint holds."""
    return list(shapes_of(root))


def initialise(
    root: nnx.Module,
    names: Collection[str],
    spec: SpeechEncoderSpec | TextDecoderSpec,
    dtype: DTypeLike = jnp.float32,
    seed: int = 0,
) -> None:
    """Give the tensors `names` of `root` random (or neutral) values."""
    random = np.random.default_rng(seed)
    shapes = shapes_of(root)
    new: dict[str, Any] = {}
    for path, module in nnx.iter_modules(root):
        place = ".".join(map(str, path))
        own = {
            name.rpartition(".")[2]: shape for name, (shape, _) in shapes.items() if name.rpartition(".")[0] == place
        }
        todo = [name for name in own if _join(place, name) in names]
        if not todo:
            continue
        values = _values(module, place, own, spec, random)
        for name in todo:
            full = _join(place, name)
            kind = dtype if jnp.issubdtype(shapes[full][1], jnp.floating) else shapes[full][1]
            new[full] = jnp.asarray(values[name], kind)
    update(root, nested(new))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _values(
    module: nnx.Module,
    path: str,
    shapes: dict[str, tuple[int, ...]],
    spec: SpeechEncoderSpec | TextDecoderSpec,
    random: np.random.Generator,
) -> Values:
    """Return initial values of all tensors of one module, by its class."""
    values: Values = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    if isinstance(module, LayerNorm | ChannelNorm | StoredNorm):
        for name in {"weight", "running_var"} & set(values):
            values[name] += 1.0
    elif isinstance(module, RMSNorm):
        values["weight"] += 0.0 if module.from_one else 1.0
    elif isinstance(module, Conv1d | Conv2d):
        inputs = math.prod(shapes["weight"][1:])
        values["weight"] = random.normal(0.0, math.sqrt(2.0 / inputs), shapes["weight"])
        if "bias" in values:
            bound = math.sqrt(1.0 / inputs)
            values["bias"] = random.uniform(-bound, bound, shapes["bias"])
    elif isinstance(module, BiasGate):
        values["const"] += 1.0
    elif isinstance(module, WeightNormConv1d):
        _, inside, kernel = shapes["weight_v"]
        std = 2.0 * math.sqrt(1.0 / (kernel * inside * module.groups))
        values["weight_v"] = random.normal(0.0, std, shapes["weight_v"])
        values["weight_g"] = np.sqrt(np.square(values["weight_v"]).sum((0, 1), keepdims=True))
    elif isinstance(module, TablePositions):
        length, width = shapes["weight"]
        values["weight"] = _sinusoids(length, width, width // 2 - 1)  # Whisper's
    elif path == "frontend.proj":
        bound = math.sqrt(1.0 / shapes["weight"][1])
        values = {name: random.uniform(-bound, bound, shape) for name, shape in shapes.items()}
    elif isinstance(module, Linear | Embedding) or path == "head":
        if "weight" in values:
            values["weight"] = random.normal(0.0, _std(path, spec), shapes["weight"])
        if path == "embed.positions" and _stored(spec):
            length, width = shapes["weight"]
            values["weight"] = _sinusoids(length, width, width / 2)  # Marian's
        untrained = spec.untrained_rows if isinstance(spec, TextDecoderSpec) else {}
        if path in untrained:
            values["weight"][untrained[path]] = 0.0
    elif isinstance(module, ConformerAttention):
        for name, shape in shapes.items():
            bound = math.sqrt(6.0 / sum(shape))
            values[name] = random.uniform(-bound, bound, shape)
    elif "mask_embed" in values:
        values["mask_embed"] = random.uniform(size=shapes["mask_embed"])
    return values


def _stored(spec: SpeechEncoderSpec | TextDecoderSpec) -> bool:
    positions = spec.embed.positions if isinstance(spec, TextDecoderSpec) else None
    return positions is not None and positions.kind is Positions.STORED


def _std(path: str, spec: SpeechEncoderSpec | TextDecoderSpec) -> float:
    if isinstance(spec, TextDecoderSpec) and spec.scaled_residual_init and path.endswith(".out_proj"):
        return spec.init_std / math.sqrt(2 * spec.stack.num_layers)
    return spec.init_std


def _sinusoids(length: int, width: int, steps: float) -> np.ndarray[Any, Any]:
    """Return a position table: sines, then cosines, of frequencies that fall to 1/10,000 in `steps` equal steps.

    Reference: https://arxiv.org/abs/1706.03762, section 3.5.
    """
    frequencies = np.exp(-math.log(10_000) / steps * np.arange(width // 2))
    angles = np.arange(length)[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
