"""The special token ids, shared by a model's configuration and its generation configuration.

`transformers` keeps two copies, so ids set for training do not reach `generate`. Here an id set on `model.config` is
that of `model.generation_config` too, and the other way round. Only `None` differs: on the configuration it means that
the decoder's own id applies, on the generation configuration that `generate` does without.
"""

from dataclasses import dataclass, field, fields
from typing import Any, overload


@dataclass(kw_only=True)
class SpecialIds:
    """Token ids with a role; `None` for not set. Any one of a list of end ids ends a sequence.

    Attributes:
        owner: The joint configuration that has these ids; its `decoder` has those that apply where none is set.
        changes: How often each id was assigned.
    """

    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | list[int] | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | list[int] | None = None
    owner: Any = field(default=None, repr=False, compare=False)
    changes: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an id and count the assignment."""
        object.__setattr__(self, name, value)
        if name != "changes":
            counts = self.__dict__.setdefault("changes", {})
            counts[name] = counts.get(name, 0) + 1

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of the ids."""
        return tuple(one.name for one in fields(cls) if one.name.endswith("_id"))

    def given(self) -> dict[str, Any]:
        """Return the ids that are set."""
        return {name: value for name in self.names() if (value := getattr(self, name)) is not None}

    def or_decoders(self, name: str) -> Any:
        """Return an id, or the decoder's own where it is not set."""
        value = getattr(self, name)
        return getattr(getattr(self.owner, "decoder", None), name, None) if value is None else value


class SharedId:
    """A dataclass field stored in the instance's `special_ids` object instead of in the instance.

    Two configurations share their ids by sharing that object: `generation_config.special_ids = config.special_ids`.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> None: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Any: ...
    def __get__(self, instance: object | None, owner: type) -> Any:
        if instance is None:
            return None  # the default of the dataclass field
        return getattr(self._ids(instance), self.name)

    def __set__(self, instance: object, value: Any) -> None:
        setattr(self._ids(instance), self.name, value)

    @staticmethod
    def _ids(instance: object) -> SpecialIds:
        ids: SpecialIds = instance.__dict__.setdefault("special_ids", SpecialIds())
        return ids


class GenerationId(SharedId):
    """A `SharedId` of a generation configuration: shows the id that `generate` uses.

    That is the one assigned here, `None` included, until another is assigned to the model's configuration; else the
    model's or its decoder's.
    """

    def __get__(self, instance: object | None, owner: type) -> Any:
        if instance is None:
            return None
        ids, own = self._ids(instance), instance.__dict__.get("own_ids", {}).get(self.name)
        if own is not None and own[1] == ids.changes.get(self.name):
            return own[0]
        return ids.or_decoders(self.name)

    def __set__(self, instance: object, value: Any) -> None:
        ids = self._ids(instance)
        if value is not None:
            setattr(ids, self.name, value)
        keep_own_id(instance, self.name, value)


def keep_own_id(instance: Any, name: str, value: Any) -> None:
    """Let a generation configuration have an id, or none, that its model's configuration does not share."""
    ids: SpecialIds = instance.special_ids
    instance.__dict__.setdefault("own_ids", {})[name] = (value, ids.changes.get(name))
