"""Initial values of tensors that no checkpoint holds: each layer's distribution is that of its first training.

Modules are built on the meta device (shapes only); `initialise` gives the named tensors memory and values.
"""

import math
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from dragoman.spec import Positions, SpeechEncoderSpec, TextDecoderSpec
from dragoman.torch.net.conformer import ConformerAttention
from dragoman.torch.net.layers import WeightNormConv1d
from dragoman.torch.net.norms import ChannelNorm, RMSNorm
from dragoman.torch.net.position_bias import BiasGate
from dragoman.torch.net.positions import TablePositions


def put(root: nn.Module, name: str, tensor: Tensor) -> None:
    """Make `tensor` the parameter or buffer `name` of `root`, keeping whether it is trained."""
    owner_name, _, own = name.rpartition(".")
    owner = root.get_submodule(owner_name)
    old = owner._parameters.get(own)
    if old is None:
        owner._buffers[own] = tensor
    else:
        owner._parameters[own] = nn.Parameter(tensor, requires_grad=old.requires_grad)


def persistent_names(root: nn.Module) -> list[str]:
    """Return the names of the tensors that a checkpoint holds."""
    return list(nn.Module.state_dict(root, keep_vars=True))


def initialise(
    root: nn.Module,
    names: Collection[str],
    spec: SpeechEncoderSpec | TextDecoderSpec,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> None:
    """Give the tensors `names` of `root` memory and random (or neutral) values, drawn from PyTorch's generator."""
    wanted = set(names)
    for path, module in ((str(path), module) for path, module in nn.Module.named_modules(root)):
        own = [*module._parameters, *(n for n in module._buffers if n not in module._non_persistent_buffers_set)]
        todo = [name for name in own if _join(path, name) in wanted]
        if not todo:
            continue
        values = _values(module, path, spec)
        for name in todo:
            old = getattr(module, name)
            value = values[name].to(device=device, dtype=dtype if old.is_floating_point() else old.dtype)
            put(root, _join(path, name), value)


def redraw(root: nn.Module, module: nn.Module, spec: SpeechEncoderSpec | TextDecoderSpec) -> None:
    """Draw new values for the tensors that a module inside `root` has itself; they stay the same objects."""
    path = next((str(name) for name, own in nn.Module.named_modules(root) if own is module), None)
    names = [name for name in persistent_names(root) if name.rpartition(".")[0] == path]
    old = {name.rpartition(".")[2]: getattr(module, name.rpartition(".")[2]) for name in names}
    for name, tensor in old.items():
        initialise(root, [_join(path or "", name)], spec, tensor.dtype, tensor.device)
        tensor.data.copy_(getattr(module, name).data)
        registry: dict[str, Any] = module._parameters if name in module._parameters else module._buffers
        registry[name] = tensor


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _values(module: nn.Module, path: str, spec: SpeechEncoderSpec | TextDecoderSpec) -> dict[str, Tensor]:
    """Return initial values of all tensors of one module, by its class."""
    shapes = {name: t.shape for name, t in (*module._parameters.items(), *module._buffers.items()) if t is not None}
    values = {name: torch.zeros(shape) for name, shape in shapes.items()}
    if isinstance(module, nn.LayerNorm | ChannelNorm | nn.BatchNorm1d):
        for name in ("weight", "running_var"):
            if name in values:
                values[name] = torch.ones(shapes[name])
    elif isinstance(module, RMSNorm):
        values["weight"] += 0.0 if module.from_one else 1.0
    elif isinstance(module, nn.Conv1d | nn.Conv2d):
        _conv(module, values)
    elif isinstance(module, WeightNormConv1d):
        out, inside, kernel = shapes["weight_v"]
        direction = torch.empty(out, inside, kernel).normal_(
            0.0, 2.0 * math.sqrt(1.0 / (kernel * inside * module.groups))
        )
        values["weight_v"] = direction
        values["weight_g"] = direction.square().sum(dim=(0, 1), keepdim=True).sqrt()
    elif isinstance(module, TablePositions):
        length, width = shapes["weight"]
        values["weight"] = _sinusoids(length, width, width // 2 - 1)  # Whisper's
    elif isinstance(module, nn.Linear | nn.Embedding) or path == "head":
        if "weight" in values:
            values["weight"].normal_(0.0, _std(path, spec))
        if path == "frontend.proj":
            bound = math.sqrt(1.0 / shapes["weight"][1])
            values = {name: value.uniform_(-bound, bound) for name, value in values.items()}
        if path == "embed.positions" and _stored(spec):
            length, width = shapes["weight"]
            values["weight"] = _sinusoids(length, width, width / 2)  # Marian's
        untrained = spec.untrained_rows if isinstance(spec, TextDecoderSpec) else {}
        if path in untrained:
            values["weight"][untrained[path]] = 0.0
    elif isinstance(module, BiasGate):
        values["const"] = torch.ones(shapes["const"])
    elif isinstance(module, ConformerAttention):
        for value in values.values():
            nn.init.xavier_uniform_(value)
    elif "mask_embed" in values:
        values["mask_embed"].uniform_()
    return values


def _stored(spec: SpeechEncoderSpec | TextDecoderSpec) -> bool:
    positions = spec.embed.positions if isinstance(spec, TextDecoderSpec) else None
    return positions is not None and positions.kind is Positions.STORED


def _std(path: str, spec: SpeechEncoderSpec | TextDecoderSpec) -> float:
    if isinstance(spec, TextDecoderSpec) and spec.scaled_residual_init and path.endswith(".out_proj"):
        return spec.init_std / math.sqrt(2 * spec.stack.num_layers)
    return spec.init_std


def _conv(module: nn.Conv1d | nn.Conv2d, values: dict[str, Tensor]) -> None:
    nn.init.kaiming_normal_(values["weight"])
    if "bias" in values:
        inputs = module.in_channels * math.prod(module.kernel_size) // module.groups
        values["bias"].uniform_(-math.sqrt(1.0 / inputs), math.sqrt(1.0 / inputs))


def _sinusoids(length: int, width: int, steps: float) -> Tensor:
    """Return a position table: sines, then cosines, of frequencies that fall to 1/10,000 in `steps` equal steps.

    Reference: https://arxiv.org/abs/1706.03762, section 3.5.
    """
    frequencies = torch.exp(-math.log(10_000) / steps * torch.arange(width // 2))
    angles = torch.arange(length)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
