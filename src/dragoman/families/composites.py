"""The composites of all families, by the `model_type` of a `config.json`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dragoman.checkpoint.folder import Checkpoint
from dragoman.families import FAMILIES
from dragoman.families.composite import Composite, CompositeCheckpoint

_COMPOSITES = {family.composite.model_type: family.composite for family in FAMILIES if family.composite}


def composite_of(data: Mapping[str, Any]) -> Composite | None:
    """Return how a `config.json` is made of those of two families; `None` if it is not."""
    name = data.get("model_type")
    return _COMPOSITES.get(name) if isinstance(name, str) else None


def joint_data(data: Mapping[str, Any], role: str = "") -> Mapping[str, Any]:
    """Return the joint configuration of a composite, or that of its "encoder" or "decoder"; other data as they are."""
    composite = composite_of(data)
    if composite is None:
        return data
    joint = composite.joint(data)
    return joint[role] if role else joint


def saved_composite(config: Any) -> Composite | None:
    """Return what a joint configuration is written as that was read from a composite, and still is one."""
    composite = composite_of(config.composite or {})
    return composite if composite is not None and composite.fits(config.to_dict()) else None


def presented(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint as that of a joint model if it is of a composite, else as it is."""
    composite = composite_of(checkpoint.config)
    if composite is None:
        return checkpoint
    fields = {**vars(checkpoint), "config": composite.joint(checkpoint.config)}
    return CompositeCheckpoint(**fields, composite=composite)


def of_part(checkpoint: Checkpoint, cls: Any) -> Checkpoint:
    """Return a composite's checkpoint as that of one part, which the main input of its class tells; others as is."""
    if not isinstance(checkpoint, CompositeCheckpoint):
        return checkpoint
    role = "decoder" if getattr(cls, "main_input_name", "") == "input_ids" else "encoder"
    return replace(checkpoint, config=checkpoint.config[role], part=f"{role}.")
