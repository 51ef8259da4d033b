"""The load report: which tensors of a checkpoint were loaded or dropped, which are new, and which did not fit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dragoman.errors import CheckpointError

# Entries shown in a list before the rest is counted; the layers of a stack are one entry.
_IN_A_SUMMARY = 12
_IN_AN_ERROR = 100


@dataclass(kw_only=True)
class LoadReport:
    """The outcome of loading one checkpoint into one part (or, merged, into a model).

    Attributes:
        source: The checkpoint, for messages.
        loaded: Our names of the tensors that were loaded.
        dropped: Incoming names that the part does not need, with the reason.
        lost: Incoming names of trained tensors that the part cannot use, with the remedy.
        fresh: Our names of the tensors that no checkpoint holds and that were initialised at random.
        computed: Our names of the tensors that the checkpoint omits because they follow from the configuration.
        missing: Our names of tensors that the checkpoint should hold but does not.
        unexpected: Incoming names that match no rule.
        misshapen: Our names with the shape in the checkpoint and the shape that the configuration requires; those that
            are in `fresh` too are initialised at random (`ignore_mismatched_sizes`).
        not_finite: Our names of the tensors that have NaN or infinite values.
    """

    source: str = ""
    loaded: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    computed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    not_finite: list[str] = field(default_factory=list)

    def raise_if_unfit(self) -> None:
        """Raise one error with all tensors that are missing, unexpected or misshapen, or have NaN or infinity.

        Raises:
            CheckpointError: If there is any.
        """
        problems = []
        if self.missing:
            problems.append(f"{len(self.missing)} missing ({_listed(self.missing)})")
        if self.unexpected:
            problems.append(f"{len(self.unexpected)} unexpected ({_listed(self.unexpected)})")
        unfit = self.misshapen.keys() - set(self.fresh)
        if unfit:
            shapes = [self._shapes(name) for name in self.misshapen if name in unfit]
            problems.append(f"{len(shapes)} of another shape ({_listed(shapes)})")
        if problems:
            raise CheckpointError(
                f"The checkpoint {self.source or ''} does not fit its configuration: {'; '.join(problems)}. "
                f"{self._remedy()}"
            )
        if self.not_finite:
            raise CheckpointError(
                f"{_tensors(self.not_finite)} of the checkpoint {self.source or ''} have NaN or infinite values "
                f"({_listed(self.not_finite)}): its training diverged or the file is damaged. Use an earlier "
                "checkpoint or download it again; allow_nan=True loads it as it is."
            )

    def _shapes(self, name: str) -> str:
        got, want = self.misshapen[name]
        return f"{name}: {list(got)} instead of {list(want)}"

    def _remedy(self) -> str:
        """Return the advice for a checkpoint that does not fit."""
        absent = [prefix for prefix in ("", "encoder.", "decoder.") if self._lacks_all_layers(prefix)]
        if absent:
            part = absent[0].rstrip(".") or "requested part"
            return (
                f"It has no layer of the {part}: such files are saved by classes with only another part of the network "
                "(T5EncoderModel, WhisperForAudioClassification, …). Use a checkpoint of the whole network."
            )
        return (
            "Check that config.json belongs to these weights; to initialise some tensors at random, name them: "
            'allow_new=["decoder.head.*"], or those of another shape: ignore_mismatched_sizes=True.'
        )

    def _lacks_all_layers(self, prefix: str) -> bool:
        layers = f"{prefix}stack.layers."
        if 2 * len(self.unexpected) > len(self.missing):  # they may exist under other names
            return False
        return any(name.startswith(layers) for name in self.missing) and not any(
            name.startswith(layers) for name in (*self.loaded, *self.misshapen)
        )

    def set_computed(self, names: Sequence[str]) -> None:
        """Move `names` from `fresh` to `computed`: they need no training."""
        self.computed = [name for name in self.fresh if name in names]
        self.fresh = [name for name in self.fresh if name not in names]

    def merged(self, prefix: str, other: "LoadReport") -> "LoadReport":
        """Return this report plus that of a part, our names of the part with `prefix`."""
        return LoadReport(
            source=" and ".join(dict.fromkeys(source for source in (self.source, other.source) if source)),
            loaded=self.loaded + [prefix + name for name in other.loaded],
            dropped={**self.dropped, **other.dropped},
            lost={**self.lost, **other.lost},
            fresh=self.fresh + [prefix + name for name in other.fresh],
            computed=self.computed + [prefix + name for name in other.computed],
            missing=self.missing + [prefix + name for name in other.missing],
            unexpected=self.unexpected + other.unexpected,
            misshapen={**self.misshapen, **{prefix + name: shapes for name, shapes in other.misshapen.items()}},
            not_finite=self.not_finite + [prefix + name for name in other.not_finite],
        )

    def summary(self) -> str:
        """Return a few lines for users: loaded, new and dropped tensors, with the reasons."""
        lines = [f"{_tensors(self.loaded)} loaded{f' from {self.source}' if self.source else ''}"]
        if self.fresh:
            are = "is new and needs" if len(self.fresh) == 1 else "are new and need"
            lines.append(f"{_tensors(self.fresh)} {are} training: {_listed(self.fresh, _IN_A_SUMMARY)}")
        lines += [f"It has another shape in the checkpoint: {self._shapes(name)}" for name in self.misshapen]
        lines += [f"{name} is trained, but left out: {remedy}" for name, remedy in self.lost.items()]
        by_reason: dict[str, list[str]] = {}
        for name, why in self.dropped.items():
            by_reason.setdefault(why, []).append(name)
        for why, names in by_reason.items():
            lines.append(f"{_tensors(names)} left out, {why}: {_listed(names, _IN_A_SUMMARY)}")
        return "\n".join(lines)


def _tensors(names: Sequence[str]) -> str:
    return f"{len(names)} tensor{'' if len(names) == 1 else 's'}"


def _listed(names: Iterable[str], most: int = _IN_AN_ERROR) -> str:
    """Return the names in one line, `layers.0.x` and `layers.1.x` as `layers.{0-1}.x`."""
    entries: dict[tuple[str, str], list[int]] = {}  # what is before and after a number, and the numbers
    for name in names:
        words = name.split(".")
        places = [place for place, word in enumerate(words) if word.isascii() and word.isdigit() and len(word) < 6]
        if len(places) == 1:
            key = (".".join(words[: places[0]]), ".".join(words[places[0] + 1 :]))
            entries.setdefault(key, []).append(int(words[places[0]]))
        else:
            entries.setdefault((name, ""), [])
    shown = [
        ".".join(filter(None, (before, _ranges(numbers), after))) if numbers else before
        for (before, after), numbers in list(entries.items())[:most]
    ]
    return "; ".join(shown) + (f" and {len(entries) - most} more kinds" if len(entries) > most else "")


def _ranges(numbers: Iterable[int]) -> str:
    """Return `{0-2,5}` for 0, 1, 2 and 5, and a single number as it is."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    return texts[0] if texts[0].isdigit() and len(texts) == 1 else "{" + ",".join(texts) + "}"
