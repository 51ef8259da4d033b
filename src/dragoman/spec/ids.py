"""The special token ids, shared by a model's configuration and its generation configuration.

`transformers` keeps two copies, so ids set for training do not reach `generate`. Here `model.config.pad_token_id` and
`model.generation_config.pad_token_id` are one value: training and generation use it, and both files are saved with it.
"""

from dataclasses import dataclass, fields
from typing import Any, overload


@dataclass(kw_only=True)
class SpecialIds:
    """Token ids with a role; `None` for not set. Any one of a list of end ids ends a sequence."""

    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | list[int] | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | list[int] | None = None

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in fields(cls))


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
