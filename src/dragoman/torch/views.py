"""Modules and tensors under their paths in `transformers`: found, shown as modules, and replaced."""

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.modules.module import _IncompatibleKeys

from dragoman.checkpoint.keymap import Drop
from dragoman.errors import ConfigError
from dragoman.model.naming import Stored
from dragoman.torch.places import as_stored, contained, copy_stored, meaning, module_name, names_of, tensor_of


class ModuleView(nn.Module):
    """The modules below one path of `transformers`, which has no module of the same children here.

    It has no tensors of its own. Freezing, `parameters()`, `state_dict()`, `train()` and children reach ours; hooks and
    calls do where one module of ours holds the same tensors.
    """

    def __init__(self, root: nn.Module, path: str) -> None:
        super().__init__()
        self.__dict__.update(_root=root, _path=path)  # not registered: it belongs to the model

    @property
    def _below(self) -> dict[str, Stored]:
        return names_of(self._root).below(self._path)

    @property
    def target(self) -> nn.Module | None:
        """The module of ours that holds the same tensors, `None` if there is no such module."""
        found = module_name(self._root, self._below)
        return None if found is None else self._root.get_submodule(found)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "_path" not in self.__dict__:
            return super().__getattr__(name)
        path = f"{self._path}.{name}"
        names = names_of(self._root)
        if path in names.theirs or names.below(path):
            return resolve(self._root, path)
        target = self.target
        if target is None or not hasattr(target, name):
            raise AttributeError(f"`{self._path}` has no {name!r}: {meaning(self._root, self._path)}")
        return getattr(target, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "training" or name.startswith("_"):
            super().__setattr__(name, value)
        elif isinstance(value, nn.Module | Tensor):
            replace(self._root, f"{self._path}.{name}", value)
        else:
            target = self.target
            if target is None or not hasattr(target, name):
                raise AttributeError(f"{name!r} of `{self._path}` has no effect: {meaning(self._root, self._path)}")
            setattr(target, name, value)

    def _numbers(self) -> list[str]:
        words = dict.fromkeys(name.partition(".")[0] for name in self._below)
        return sorted((word for word in words if word.isdigit()), key=int)

    def __len__(self) -> int:
        return len(self._numbers())

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return (resolve(self._root, f"{self._path}.{word}") for word in self._numbers())

    def __getitem__(self, index: int | slice) -> Any:
        words = self._numbers()[index]
        if isinstance(words, str):
            return resolve(self._root, f"{self._path}.{words}")
        return nn.ModuleList([resolve(self._root, f"{self._path}.{word}") for word in words])

    def __setitem__(self, index: int, value: nn.Module) -> None:
        replace(self._root, f"{self._path}.{self._numbers()[index]}", value)

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the modules below, by their names in `transformers`."""
        for word in dict.fromkeys(name.partition(".")[0] for name in self._below if "." in name):
            yield word, resolve(self._root, f"{self._path}.{word}")

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """Yield this view and all modules of ours that it consists of."""
        yield prefix, self
        yield from ((f"{prefix}.{name}" if prefix else name, m) for name, m in contained(self._root, self._below))

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters, by the rest of their names in `transformers`; each once."""
        named, seen = dict(nn.Module.named_parameters(self._root)), set[str]()
        for name, stored in self._below.items():
            for ours in stored.ours:
                if ours in named and ours not in seen:
                    seen.add(ours)
                    yield f"{prefix}.{name}" if prefix else name, named[ours]

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the buffers likewise."""
        named = dict(self._root.named_buffers())
        for name, stored in self._below.items():
            if stored.ours[0] in named:
                yield f"{prefix}.{name}" if prefix else name, named[stored.ours[0]]

    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Return the tensors as `transformers` stores them, by the rest of their names."""
        found = {} if destination is None else destination
        for name, stored in self._below.items():
            tensors = [tensor_of(self._root, ours) for ours in stored.ours]
            tensors = tensors if keep_vars else [tensor.detach() for tensor in tensors]
            found[prefix + name] = as_stored(self._root, f"{self._path}.{name}", stored, tensors)
        return found

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _IncompatibleKeys:
        """Copy tensors as `transformers` stores them into ours; the arguments are PyTorch's."""
        below = self._below
        missing = [name for name in below if name not in state_dict]
        unexpected = [name for name in state_dict if name not in below]
        errors = [f"Missing: {missing}."] * bool(missing) + [f"Unexpected: {unexpected}."] * bool(unexpected)
        errors = errors if strict else []
        for name in below:
            if name in state_dict:
                errors += copy_stored(self._root, f"{self._path}.{name}", below[name], state_dict[name])
        if errors:
            raise RuntimeError(f"The tensors of `{self._path}` cannot be loaded. {' '.join(errors)}")
        return _IncompatibleKeys(missing, unexpected)

    def train(self, mode: bool = True) -> "ModuleView":
        """Set the mode of all modules of ours that it consists of."""
        for _, module in contained(self._root, self._below):
            module.training = mode
        return self

    def _freeze_parameters(self) -> None:
        """Freeze the parameters, under the name that scripts call on `encoder.feature_extractor`."""
        self.requires_grad_(False)

    def _apply(self, fn: Any, recurse: bool = True) -> "ModuleView":
        for _, module in contained(self._root, self._below):
            module._apply(fn, recurse=False)
        return self

    def _one(self, action: str) -> nn.Module:
        target = self.target
        if target is None:
            raise ConfigError(f"`{self._path}` cannot {action}: {meaning(self._root, self._path)}")
        return target

    def register_forward_hook(self, hook: Any, **options: Any) -> Any:
        """Register a hook on the module of ours that holds the same tensors."""
        return self._one("have a hook").register_forward_hook(hook, **options)

    def register_forward_pre_hook(self, hook: Any, **options: Any) -> Any:
        """Register a hook on the module of ours that holds the same tensors."""
        return self._one("have a hook").register_forward_pre_hook(hook, **options)

    def register_full_backward_hook(self, hook: Any, prepend: bool = False) -> Any:
        """Register a hook on the module of ours that holds the same tensors."""
        return self._one("have a hook").register_full_backward_hook(hook, prepend)

    def register_full_backward_pre_hook(self, hook: Any, prepend: bool = False) -> Any:
        """Register a hook on the module of ours that holds the same tensors."""
        return self._one("have a hook").register_full_backward_pre_hook(hook, prepend)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        below = self._below
        if below.keys() <= {"weight", "bias"} and "weight" in below:
            tensors = {name: tensor_of(self._root, stored.ours[0]) for name, stored in below.items()}
            if tensors["weight"].ndim == 2 and all(len(stored.ours) == 1 for stored in below.values()):
                return F.linear(args[0], tensors["weight"], tensors.get("bias"))
        raise ConfigError(
            f"`{self._path}` cannot be called alone: {meaning(self._root, self._path)} Call the model, the encoder or "
            "the decoder, or a module of ours with our arguments."
        )

    def extra_repr(self) -> str:
        """Return the path and what it is here."""
        return f"{self._path!r}: {meaning(self._root, self._path)}"


def resolve(root: nn.Module, path: str) -> Any:
    """Return what a path of `transformers` leads to: a tensor, a module of ours, or a view of several."""
    names = names_of(root)
    stored = names.theirs.get(path)
    if stored is not None:
        tensor = tensor_of(root, stored.ours[0])
        difference = stored.difference(tensor.ndim)
        if difference:
            raise AttributeError(
                f"`{path}` of transformers is {' and '.join(stored.ours)} here: {difference}. Use these."
            )
        return tensor
    below = names.below(path)
    if not below:
        raise AttributeError(
            f"{type(root).__name__} has no `{path}`, neither in our names nor in those of transformers."
        )
    tied = any(isinstance(stored.rule, Drop) for stored in below.values())
    found = None if tied else module_name(root, below)
    if found is not None and all(_equal(root, found, name, stored) for name, stored in below.items()):
        return root.get_submodule(found)
    return ModuleView(root, path)


def _equal(root: nn.Module, module: str, name: str, stored: Stored) -> bool:
    """Return whether a tensor has the same name and layout in a module of ours as below a path of `transformers`."""
    return stored.ours == (f"{module}.{name}",) and not stored.difference(tensor_of(root, stored.ours[0]).ndim)


def replace(root: nn.Module, path: str, value: Any) -> None:
    """Put a module or a tensor in the place that a path of `transformers` leads to.

    Raises:
        ConfigError: If the path is not one place here, or the value does not fit it.
    """
    names = names_of(root)
    stored, below = names.theirs.get(path), names.below(path)
    if stored is not None:
        own = tensor_of(root, stored.ours[0])
        difference = stored.difference(own.ndim)
        if difference or not isinstance(value, nn.Parameter) or value.shape != own.shape:
            _refuse(path, difference or f"it is `{stored.ours[0]}`, a parameter of the shape {list(own.shape)}")
        _set(root, stored.ours[0], value)
        return
    heads = {"embed.tokens.weight": "set_input_embeddings", "head.weight": "set_output_embeddings"}
    weight = below.get("weight")
    if weight is not None and below.keys() <= {"weight", "bias"}:
        last = weight.ours[0].removeprefix("decoder.")
        if isinstance(weight.rule, Drop) or last in heads:
            method = "set_output_embeddings" if isinstance(weight.rule, Drop) else heads[last]
            getattr(root, method)(value)
            return
    found = module_name(root, below) if below else None
    if found is None:
        _refuse(path, meaning(root, path) if below else "there is no such module here, so it would have no effect")
    old = root.get_submodule(found)
    new = value.target if isinstance(value, ModuleView) else value
    if isinstance(new, nn.ModuleList):
        layers: list[Any] = [layer.target if isinstance(layer, ModuleView) else layer for layer in new]
        new = nn.ModuleList(layers)
        if not isinstance(old, nn.ModuleList) or len(new) != len(old):
            _refuse(
                path, f"it is `{found}`, whose number of layers follows from the configuration: load with other fields"
            )
        if not all(isinstance(layer, type(before)) for layer, before in zip(new, old, strict=True)):
            _refuse(path, f"the layers of `{found}` are of the class {type(old[0]).__name__}")
    elif not isinstance(new, type(old)) and (len(list(old.children())) or new is None):
        _refuse(path, f"it is `{found}`, a {type(old).__name__}, and is called as such")
    _set(root, found, new)


def _set(root: nn.Module, name: str, value: Any) -> None:
    owner, _, last = name.rpartition(".")
    setattr(root.get_submodule(owner), last, value)


def _refuse(path: str, reason: str) -> NoReturn:
    raise ConfigError(f"`{path}` cannot be replaced: {reason.rstrip('.')}.")
