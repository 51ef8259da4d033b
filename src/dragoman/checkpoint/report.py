"""What became of the tensors of a checkpoint: loaded, dropped and why, new, and what did not fit."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from dragoman.errors import CheckpointError

__all__ = ["LoadReport"]

_SHOWN = 12  # names an error or a summary line lists before it counts the rest


@dataclass(kw_only=True)
class LoadReport:
    """The outcome of loading one checkpoint into one part (or, merged, into a model).

    Attributes:
        loaded: Our names of the tensors that came from the checkpoint.
        dropped: Incoming names that the part does not need, with the reason.
        fresh: Our names of the tensors that no checkpoint holds and that were initialised at random.
        missing: Our names that the checkpoint should hold but does not.
        unexpected: Incoming names that no rule knows.
        misshapen: Our names with the shape that came and the shape that the configuration asks for.
    """

    source: str = ""
    loaded: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    def raise_if_unfit(self) -> None:
        """Raise one error with every tensor that is missing, unexpected or misshapen.

        Raises:
            CheckpointError: If there is any.
        """
        problems = []
        if self.missing:
            problems.append(f"{len(self.missing)} missing ({_some(self.missing)})")
        if self.unexpected:
            problems.append(f"{len(self.unexpected)} unexpected ({_some(self.unexpected)})")
        if self.misshapen:
            shapes = [f"{name}: {list(got)} instead of {list(want)}" for name, (got, want) in self.misshapen.items()]
            problems.append(f"{len(shapes)} of another shape ({_some(shapes, '; ')})")
        if problems:
            raise CheckpointError(
                f"The checkpoint {self.source or ''} does not fit its configuration: {'; '.join(problems)}. "
                "Check that config.json belongs to these weights; to start some tensors at random on purpose, "
                'name them: allow_new=["decoder.head.*"].'
            )

    def merged(self, prefix: str, other: "LoadReport") -> "LoadReport":
        """Return this report plus that of a part: our names get the `prefix`, those of the file stay as they are."""
        return LoadReport(
            source=self.source or other.source,
            loaded=self.loaded + [prefix + name for name in other.loaded],
            dropped={**self.dropped, **other.dropped},
            fresh=self.fresh + [prefix + name for name in other.fresh],
            missing=self.missing + [prefix + name for name in other.missing],
            unexpected=self.unexpected + other.unexpected,
            misshapen={**self.misshapen, **{prefix + name: shapes for name, shapes in other.misshapen.items()}},
        )

    def summary(self) -> str:
        """Return a few lines for people: how many tensors came, what is new, what was left out and why."""
        lines = [f"{len(self.loaded)} tensors loaded{f' from {self.source}' if self.source else ''}"]
        if self.fresh:
            lines.append(f"{len(self.fresh)} tensors are new and need training: {_some(_grouped(self.fresh))}")
        by_reason: dict[str, list[str]] = {}
        for name, why in self.dropped.items():
            by_reason.setdefault(why, []).append(name)
        lines += [f"{len(names)} tensors left out, {why}: {_some(_grouped(names))}" for why, names in by_reason.items()]
        return "\n".join(lines)


def _some(names: Iterable[str], separator: str = ", ") -> str:
    names = list(names)
    more = f"{separator}and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return separator.join(names[:_SHOWN]) + more


def _grouped(names: Iterable[str]) -> list[str]:
    """Fold layer numbers: `layers.0.x` and `layers.1.x` become `layers.{i}.x`."""
    folded = (".".join("{i}" if word.isdigit() else word for word in name.split(".")) for name in names)
    return list(dict.fromkeys(folded))
