"""Configurations that take any name: fields and their second names, and attributes that are kept and saved."""

import warnings
from copy import copy
from dataclasses import MISSING, fields
from typing import Any, Protocol, Self
from weakref import ref

from dragoman.errors import ConfigError
from dragoman.families.kept import GENERAL, AttentionChoice, Labels, near_field

_TOLD = ("gradient_checkpointing",)  # no field of any family, and yet in force


class FieldAlias:
    """A second name of a field: `hidden_size = FieldAlias("n_embd")` reads and writes `n_embd`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else getattr(instance, self.name)

    def __set__(self, instance: Any, value: Any) -> None:
        setattr(instance, self.name, value)


class Follower(Protocol):
    """A module that follows the changes of its configuration."""

    def config_changed(self, name: str) -> None:
        """Take over a field that was set.

        Raises:
            ConfigError: If the module cannot; the configuration is then as before.
        """


class FreeFields(Labels, AttentionChoice):
    """A dataclass whose fields are set by keyword, and which takes any other name as an attribute."""

    def __init__(self, *vocab_size: int, **given: Any) -> None:
        """Set the given fields and attributes, and the defaults of all other fields.

        Args:
            *vocab_size: The vocabulary's size, which may come first without its name.
            **given: Fields under any of their names, and attributes.

        Raises:
            ConfigError: If a value is of the wrong type, or more comes without a name.
        """
        if len(vocab_size) > 1:
            raise ConfigError(
                f"Only `vocab_size` can come without its name, but {len(vocab_size)} values do. Name the fields: "
                f"{type(self).__name__}(vocab_size={vocab_size[0]!r}, hidden_size={vocab_size[1]!r}, …)."
            )
        for f in _fields(type(self)):
            default = f.default if f.default_factory is MISSING else f.default_factory()
            object.__setattr__(self, f.name, default)
        self.extra.update(given.pop("extra", {}))
        attention = given.pop("attn_implementation", None)
        given.pop("model_type", None)  # of the class: `Config(**other.to_dict())`
        for name, value in {**dict(zip(["vocab_size"], vocab_size, strict=False)), **given}.items():
            if self._is_other(name):
                self._warn_if_misspelt(name)
                self._keep(name, value)
            else:
                setattr(self, name, value)
        self.__post_init__()
        if attention is not None:  # after the parts of a joint configuration were copied
            self._attn_implementation = attention

    def __post_init__(self) -> None:
        """Check the values."""

    def _keep(self, name: str, value: Any) -> None:
        self.extra[name] = value  # as from a file: families read some of its older names there

    def __getattr__(self, name: str) -> Any:
        # Python calls this only for names that are no attribute: other keys of the file are attributes too.
        for known in (self.__dict__.get("extra", {}), GENERAL):
            if name in known:
                return known[name]
        # with `name` and `obj`, Python suggests a similar name
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "dtype":
            value = _dtype_name(value)
        elif self._is_other(name) and name not in vars(self):
            self._warn_if_misspelt(name)
            self.extra.pop(name, None)
        before = vars(self).get(name, MISSING)
        object.__setattr__(self, name, value)
        try:
            self._tell(name)
        except ConfigError:
            if before is not MISSING:
                object.__setattr__(self, name, before)
            raise

    def follow_by(self, part: "Follower") -> None:
        """Tell a module that was built from this configuration of each later change; it may refuse one."""
        others = [one for one in vars(self).get("_followers", ()) if one() not in (None, part)]
        self._followers = [*others, ref(part)]

    def set_quietly(self, **values: Any) -> None:
        """Set fields that follow from a change of the module itself."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _tell(self, name: str) -> None:
        if name.startswith("_") or (name not in _TOLD and self._is_other(name)):
            return
        for one in vars(self).get("_followers", ()):
            part = one()
            if part is not None:
                part.config_changed(name)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle keeps: its own modules follow a copy."""
        return {name: value for name, value in vars(self).items() if name != "_followers"}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FreeFields) or type(self) is not type(other):
            return NotImplemented
        return self._values() == other._values()

    def __copy__(self) -> Self:
        copied = object.__new__(type(self))
        own = {n: copy(v) if n in ("extra", "special_ids") else v for n, v in self.__getstate__().items()}
        copied.__dict__.update(own)
        return copied

    def _values(self) -> dict[str, Any]:
        """Return all fields and public attributes; tuples as lists, as JSON has them."""
        own = {n: v for n, v in vars(self).items() if not (n.startswith("_") or n == "special_ids")}
        values = {**own, **{f.name: getattr(self, f.name) for f in _fields(type(self))}}
        return {n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}

    def _is_other(self, name: str) -> bool:
        """Return whether a public name is no field, no second name of one and no property."""
        cls = type(self)
        return not (name in {f.name for f in _fields(cls)} or name.startswith("_") or hasattr(cls, name))

    def _warn_if_misspelt(self, name: str) -> None:
        cls = type(self)
        aliases = [n for n in dir(cls) if isinstance(getattr(cls, n, None), FieldAlias)]
        if near := near_field(name, [*(f.name for f in _fields(cls)), *aliases]):
            warnings.warn(
                f"{cls.__name__} has no field `{name}`: it is kept and saved, but changes nothing in the model. "
                f'Did you mean "{near}"?',
                UserWarning,
                stacklevel=4,
            )


def field_name(cls: type, name: str) -> str:
    """Return the field that a name stands for: its own or a second one."""
    alias = getattr(cls, name, None)
    return alias.name if isinstance(alias, FieldAlias) else name


def _fields(cls: Any) -> tuple[Any, ...]:
    return fields(cls)


def _dtype_name(dtype: Any) -> Any:
    """Return the name of a type of PyTorch, NumPy or JAX; anything else as it is."""
    if dtype is None or isinstance(dtype, str | int | float | list | dict):
        return dtype
    return str(getattr(dtype, "__name__", getattr(dtype, "name", dtype))).removeprefix("torch.")
