"""What is to know of a data set before training: lengths, rates, damage, repetitions, contradictions, overlap."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from dragoman.data.audio import load_audio, with_duration
from dragoman.data.utterance import Manifest, Problem, Utterance
from dragoman.errors import AudioError, MissingDependencyError

_RATE = 16_000
_SILENT = 1e-4  # -80 dB below full scale
_BINS = 12


@dataclass(kw_only=True)
class Checked:
    """The result of checking one data set.

    Attributes:
        path: The data set.
        kind: Its format.
        utterances: The usable items, with their durations.
        problems: Items that cannot be used.
        notes: What is suspicious in usable items: repeated and contradictory texts, silence, audio given twice.
    """

    path: str
    kind: str
    utterances: list[Utterance] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "path": self.path,
            "format": self.kind,
            "items": len(self.utterances) + len(self.problems),
            "usable": len(self.utterances),
            "seconds": round(sum(utterance.duration or 0.0 for utterance in self.utterances), 3),
            "speakers": len({u.speaker for u in self.utterances if u.speaker is not None}),
            "languages": sorted({u.language for u in self.utterances if u.language is not None}),
            "quantities": {name: quantiles(values) for name, values in self.quantities().items() if values},
            "problem_counts": dict(Counter(problem.kind for problem in self.problems).most_common()),
            "note_counts": dict(Counter(note.kind for note in self.notes).most_common()),
            "problems": [asdict(problem) for problem in self.problems],
            "notes": [asdict(note) for note in self.notes],
        }

    def quantities(self) -> dict[str, list[float]]:
        """Return the durations in seconds, the lengths of the texts, and the speaking rates in characters a second."""
        timed = [u for u in self.utterances if u.duration]
        return {
            "seconds": [u.duration or 0.0 for u in timed],
            "characters": [float(len(u.text)) for u in self.utterances],
            "characters_per_second": [len(u.text) / (u.duration or 1.0) for u in timed],
        }


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Return minimum, 5 %, median, mean, 95 % and maximum."""
    low, five, middle, most, high = np.quantile(values, [0, 0.05, 0.5, 0.95, 1]).tolist()
    found = {"min": low, "p5": five, "median": middle, "mean": float(np.mean(values)), "p95": most, "max": high}
    return {name: round(value, 3) for name, value in found.items()}


def histogram(values: Sequence[float], bins: int = _BINS) -> list[tuple[float, float, int]]:
    """Return the start, the end and the count of each bin."""
    counts, edges = np.histogram(values, bins=bins)
    return [(float(a), float(b), int(n)) for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)]


def check_manifest(
    manifest: Manifest, *, decode: bool = True, advance: Callable[[int], object] = lambda done: None
) -> Checked:
    """Check a data set as read by `scan_manifest`.

    Args:
        manifest: The data set.
        decode: Decode every file to the end, which alone finds damage; otherwise only headers are read.
        advance: Called with the number of items done.
    """
    checked = Checked(path=manifest.path, kind=manifest.kind, problems=list(manifest.problems))
    contents: dict[str, list[Utterance]] = defaultdict(list)
    for done, utterance in enumerate(manifest.utterances, 1):
        try:
            timed, content, note = _decoded(utterance) if decode else (with_duration(utterance), None, None)
        except (AudioError, MissingDependencyError) as error:
            message = str(error).removeprefix(f"{utterance.source}: ")
            checked.problems.append(Problem(kind="broken audio", source=utterance.source, message=message))
        else:
            checked.utterances.append(timed)
            contents[content or f"{timed.audio}@{timed.offset:g}+{timed.duration:g}"].append(timed)
            checked.notes += [] if note is None else [note]
        advance(done)
    checked.notes += [*_same_audio(contents.values()), *_same_texts(checked.utterances)]
    return checked


def _decoded(utterance: Utterance) -> tuple[Utterance, str, Problem | None]:
    """Return an utterance with its true duration, a digest of its samples, and a note if it is silent."""
    samples = load_audio(utterance, _RATE)
    peak = float(np.abs(samples).max(initial=0.0))
    note = None
    if peak < _SILENT:
        message = f"{utterance.audio}: is silent, but has the text {utterance.text!r:.60}."
        note = Problem(kind="silent audio", source=utterance.source, message=message)
    seconds = len(samples) / _RATE
    if note is None and utterance.duration is not None and math.fabs(seconds - utterance.duration) > 0.1:
        message = f"{utterance.audio}: lasts {seconds:.2f} s, not {utterance.duration:.2f} s as written."
        note = Problem(kind="wrong duration", source=utterance.source, message=message)
    digest = hashlib.sha256(samples.tobytes()).hexdigest()[:16] if peak >= _SILENT else utterance.id
    return replace(utterance, duration=seconds), digest, note


def _same_audio(groups: Iterable[list[Utterance]]) -> Iterable[Problem]:
    for group in groups:
        first, *others = group
        for other in others:
            if _plain(other.text) == _plain(first.text):
                message = f"{other.audio}: the same audio and text as {first.source}."
                yield Problem(kind="repeated item", source=other.source, message=message)
            else:
                message = (
                    f"{other.audio}: the same audio as {first.source}, but another text: {other.text!r:.60}, there "
                    f"{first.text!r:.60}."
                )
                yield Problem(kind="contradictory text", source=other.source, message=message)


def _same_texts(utterances: Sequence[Utterance]) -> Iterable[Problem]:
    by_text: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        by_text[_plain(utterance.text)].append(utterance)
        if "\ufffd" in utterance.text:
            message = "the text holds U+FFFD, which stands for characters lost in a conversion."
            yield Problem(kind="lost characters", source=utterance.source, message=message)
        if "\n" in utterance.text:
            message = "the text has several lines. If they should be items, a quotation mark of the table is open."
            yield Problem(kind="several lines", source=utterance.source, message=message)
    for group in by_text.values():
        if len(group) > 1:
            message = f"{group[0].text!r:.60} is the text of {len(group)} items."
            yield Problem(kind="repeated text", source=group[0].source, message=message)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def overlaps(sets: Mapping[str, Sequence[Utterance]]) -> list[dict[str, Any]]:
    """Return what each two sets share: numbers of texts, recordings and speakers, with an example of each."""
    features: dict[str, Callable[[Utterance], str | None]] = {
        "texts": lambda u: _plain(u.text),
        "recordings": lambda u: u.audio,
        "speakers": lambda u: u.speaker,
    }
    names, found = list(sets), []
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            row: dict[str, Any] = {"first": first, "second": second}
            for what, feature in features.items():
                own = {value for u in sets[first] if (value := feature(u)) is not None}
                shared = sorted({value for u in sets[second] if (value := feature(u)) in own and value is not None})
                row[what] = {"count": len(shared), "example": shared[0] if shared else None}
            found.append(row)
    return found
