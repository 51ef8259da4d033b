"""The evaluation of a system: figures with intervals, by group, against another system, with its worst items."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dragoman.data.utterance import Problem, Utterance
from dragoman.errors import ConfigError
from dragoman.evaluation.bootstrap import Comparison, Figure, compare, interval, rounded
from dragoman.evaluation.confusions import Confusion, confusions
from dragoman.evaluation.metrics import METRICS, Measured, measure

_SECONDS = (0.0, 2.0, 5.0, 10.0, 20.0)  # where ranges of durations begin
_GROUPS = 50  # of speakers or languages, the largest


@dataclass(frozen=True, kw_only=True)
class Group:
    """The figures of some items: those of a speaker, of a language, or of similar length."""

    name: str
    items: int
    seconds: float
    figures: tuple[Figure, ...]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One item with what the systems made of it.

    Attributes:
        utterance: The item, with its reference.
        hypothesis: What the system wrote.
        against: What the other system wrote, if there is one.
        scores: Of `hypothesis`, by metric.
    """

    utterance: Utterance
    hypothesis: str
    against: str | None
    scores: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        model: Name of the system.
        against: Name of the other system, or `None`.
        data: Name of the data set.
        normalizer: Of the error rates.
        units: What was resampled for intervals: `item` or `speaker`.
        figures: The scores.
        other_figures: Those of the other system.
        comparisons: The differences between the two.
        groups: Figures by `length`, `speaker` and `language`.
        confusions: The most frequent mistakes.
        items: Every item, the worst first.
        problems: Items that were left out.
        rtfx: Seconds of audio per second of computation, or `None` if nothing was decoded.
        options: Of the decoding.
    """

    model: str
    against: str | None
    data: str
    normalizer: str
    units: str
    figures: tuple[Figure, ...]
    other_figures: tuple[Figure, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    groups: Mapping[str, tuple[Group, ...]] = field(default_factory=dict)
    confusions: tuple[Confusion, ...] = ()
    items: tuple[Item, ...] = ()
    problems: tuple[Problem, ...] = ()
    rtfx: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return sum(item.utterance.duration or 0.0 for item in self.items)

    def figure(self, name: str) -> Figure:
        """Return the figure of a metric.

        Raises:
            ConfigError: If it was not computed.
        """
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise ConfigError(f"{name!r} was not computed, only {', '.join(one.name for one in self.figures)}.")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "model": self.model,
            "against": self.against,
            "data": self.data,
            "items": len(self.items),
            "seconds": round(self.seconds, 3),
            "rtfx": rounded(self.rtfx),
            "normalizer": self.normalizer,
            "intervals": {"level": 0.95, "units": self.units},
            "figures": {one.name: _plain(one) for one in self.figures},
            "other_figures": {one.name: _plain(one) for one in self.other_figures},
            "comparisons": {one.name: _plain(one) for one in self.comparisons},
            "groups": {
                kind: [
                    {**_plain(group), "figures": {one.name: _plain(one) for one in group.figures}} for group in groups
                ]
                for kind, groups in self.groups.items()
            },
            "confusions": [asdict(one) for one in self.confusions],
            "results": [_item(item) for item in self.items],
            "skipped": [asdict(one) for one in self.problems],
            "options": dict(self.options),
        }


def _plain(value: Any) -> dict[str, Any]:
    fields = {name: one for name, one in vars(value).items() if name != "figures"}
    return {name: rounded(one) if isinstance(one, float) else one for name, one in fields.items()}


def _item(item: Item) -> dict[str, Any]:
    utterance = item.utterance
    facts = {
        "id": utterance.id,
        "audio": utterance.audio,
        "offset": utterance.offset,
        "duration": utterance.duration,
        "speaker": utterance.speaker,
        "language": utterance.language,
        "reference": utterance.text,
        "hypothesis": item.hypothesis,
    }
    against = {} if item.against is None else {"against": item.against}
    return {**facts, **against, "scores": {name: rounded(score) for name, score in item.scores.items()}}


def score(
    utterances: Sequence[Utterance],
    hypotheses: Sequence[str],
    against: Sequence[str] | None = None,
    *,
    metrics: Sequence[str] = METRICS,
    normalizer: str = "basic",
    bleu_tokenizer: str = "13a",
    units: Literal["item", "speaker"] = "item",
    resamples: int = 1000,
    seed: int = 0,
    **facts: Any,
) -> Evaluation:
    """Score what a system wrote for the items of a data set.

    Args:
        utterances: The items, with their references.
        hypotheses: What the system wrote, one for each.
        against: What another system wrote.
        metrics: Of `METRICS`; the first one orders the items.
        normalizer: For error rates: `"english"`, `"basic"` or `"none"`.
        bleu_tokenizer: sacrebleu's, for BLEU.
        units: What intervals resample; `"speaker"` is honest where new speakers are expected.
        resamples: For intervals and tests.
        seed: For them too.
        **facts: `name` and `against_name` of the systems, and fields of `Evaluation`: `data`, `problems`, `rtfx`,
            `options`.

    Raises:
        ConfigError: If there is nothing to score, or an argument is impossible.
    """
    if not utterances or not metrics:
        raise ConfigError("There is nothing to score: give at least one item and one metric.")
    if units == "speaker" and any(utterance.speaker is None for utterance in utterances):
        raise ConfigError("Intervals over speakers need a speaker for every item. Use `units` 'item'.")
    names = [utterance.speaker for utterance in utterances] if units == "speaker" else None
    references = [utterance.text for utterance in utterances]
    how = {"normalizer": normalizer, "bleu_tokenizer": bleu_tokenizer}
    drawn: dict[str, Any] = {"resamples": resamples, "seed": seed, "units": names}
    measured = [measure(name, references, hypotheses, **how) for name in metrics]
    others = [] if against is None else [measure(name, references, against, **how) for name in metrics]
    return Evaluation(
        model=facts.pop("name", "hypotheses"),
        against=None if against is None else facts.pop("against_name", "the other system"),
        data=facts.pop("data", ""),
        normalizer=normalizer,
        units=units,
        figures=tuple(interval(one, **drawn) for one in measured),
        other_figures=tuple(interval(one, **drawn) for one in others),
        comparisons=tuple(compare(a, b, **drawn) for a, b in zip(measured, others, strict=False)),
        groups=_groups(utterances, measured, resamples, seed),
        confusions=tuple(confusions(references, hypotheses, normalizer)),
        items=_worst_first(utterances, hypotheses, against, measured),
        **{name: value for name, value in facts.items() if name != "against_name"},
    )


def _worst_first(
    utterances: Sequence[Utterance],
    hypotheses: Sequence[str],
    against: Sequence[str] | None,
    measured: Sequence[Measured],
) -> tuple[Item, ...]:
    each = {one.name: one.per_item().tolist() for one in measured}
    items = [
        Item(
            utterance=utterance,
            hypothesis=hypotheses[number],
            against=None if against is None else against[number],
            scores={name: values[number] for name, values in each.items()},
        )
        for number, utterance in enumerate(utterances)
    ]
    first = measured[0]
    sign = -1 if first.lower_is_better else 1
    return tuple(sorted(items, key=lambda item: sign * item.scores[first.name]))


def _groups(
    utterances: Sequence[Utterance], measured: Sequence[Measured], resamples: int, seed: int
) -> dict[str, tuple[Group, ...]]:
    kinds: dict[str, dict[str, list[int]]] = {name: defaultdict(list) for name in ("length", "speaker", "language")}
    for number, utterance in enumerate(utterances):
        names = {"length": _length(utterance.duration), "speaker": utterance.speaker, "language": utterance.language}
        for kind, name in names.items():
            if name is not None:
                kinds[kind][name].append(number)
    found = {}
    for kind, groups in kinds.items():
        largest = sorted(groups.items(), key=lambda group: -len(group[1]))[:_GROUPS]
        if kind == "length":
            largest.sort(key=lambda group: float(group[0].partition("-")[0].rstrip("+")))
        if largest:
            found[kind] = tuple(
                _group(name, numbers, utterances, measured, resamples, seed) for name, numbers in largest
            )
    return found


def _length(duration: float | None) -> str | None:
    if duration is None:
        return None
    number = sum(duration >= start for start in _SECONDS) - 1
    start, end = _SECONDS[number], _SECONDS[number + 1 : number + 2]
    return f"{start:g}-{end[0]:g}" if end else f"{start:g}+"


def _group(
    name: str,
    numbers: list[int],
    utterances: Sequence[Utterance],
    measured: Sequence[Measured],
    resamples: int,
    seed: int,
) -> Group:
    figures = []
    for one in measured:
        part = Measured(name=one.name, signature=one.signature, statistics=one.statistics[numbers], score=one.score)
        figures.append(interval(part, resamples=min(resamples, 300), seed=seed))
    seconds = sum(utterances[number].duration or 0.0 for number in numbers)
    return Group(name=name, items=len(numbers), seconds=round(seconds, 3), figures=tuple(figures))
