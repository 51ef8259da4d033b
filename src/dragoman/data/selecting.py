"""Which items of a data set are used: filters, reproducible splits, and several sets mixed by weight."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dragoman.data.utterance import Problem, Utterance
from dragoman.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Which items are kept.

    Attributes:
        min_seconds: Minimum duration.
        max_seconds: Maximum duration.
        min_characters: Minimum length of the text.
        max_characters: Maximum length of the text.
        min_rate: Minimum speaking rate, in characters per second.
        max_rate: Maximum speaking rate; a transcript that belongs to other audio is often above 30.
    """

    min_seconds: float | None = None
    max_seconds: float | None = None
    min_characters: float | None = None
    max_characters: float | None = None
    min_rate: float | None = None
    max_rate: float | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "characters", "rate"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low is not None and high is not None and low > high:
                raise ConfigError(f"`min_{name}` must be at most `max_{name}`, but they are {low:g} and {high:g}.")

    def problem(self, utterance: Utterance) -> Problem | None:
        """Return why an item is left out, or `None`. What depends on an unknown duration is not checked."""
        seconds, characters = utterance.duration, float(len(utterance.text))
        values = {
            "seconds": (seconds, "too short", "too long"),
            "characters": (characters, "short text", "long text"),
            "rate": (characters / seconds if seconds else None, "slow", "fast"),
        }
        for name, (value, below, above) in values.items():
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            unit = "characters per second" if name == "rate" else name
            if value is not None and low is not None and value < low:
                message = f"{value:.4g} {unit} are less than the minimum of {low:g}."
                return Problem(kind=below, source=utterance.source, message=message)
            if value is not None and high is not None and value > high:
                message = f"{value:.4g} {unit} are more than the maximum of {high:g}."
                return Problem(kind=above, source=utterance.source, message=message)
        return None


def filtered(utterances: Sequence[Utterance], limits: Limits) -> tuple[list[Utterance], list[Problem]]:
    """Return the items within limits, and why the others are left out."""
    kept: list[Utterance] = []
    left_out: list[Problem] = []
    for utterance in utterances:
        problem = limits.problem(utterance)
        if problem is None:
            kept.append(utterance)
        else:
            left_out.append(problem)
    return kept, left_out


def split(
    utterances: Sequence[Utterance],
    shares: Mapping[str, float],
    *,
    by: Literal["speaker", "text", "id"] = "text",
    seed: int = 0,
) -> dict[str, list[Utterance]]:
    """Split a data set so that no speaker, or no text, is in two parts.

    The part of an item depends on the seed and on its speaker (or text) alone: it stays the same when other items are
    added, removed or reordered. Parts are therefore only about as large as their shares.

    Args:
        utterances: The items.
        shares: Share of each part, as `{"valid": 0.05}`; the rest is called `train`.
        by: What parts do not share: speakers, texts (case and blanks do not count) or only items.
        seed: Another seed gives another split.

    Returns:
        The items of each part, in their order.

    Raises:
        ConfigError: If the shares are impossible, a speaker is unknown, or a part would be empty.
    """
    wrong = [name for name, share in shares.items() if not 0 < share < 1]
    if wrong or sum(shares.values()) > 1 or ("train" in shares and abs(sum(shares.values()) - 1) > 1e-9):
        raise ConfigError(f"The shares of a split must be between 0 and 1, and at most 1 together, but are {shares}.")
    if by not in ("speaker", "text", "id"):
        raise ConfigError(f"`by` must be 'speaker', 'text' or 'id', but is {by!r}.")
    parts: dict[str, list[Utterance]] = {name: [] for name in ("train", *shares) if name != "train" or utterances}
    for utterance in utterances:
        parts[_part_of(_unit(utterance, by), shares, seed)].append(utterance)
    for name, items in parts.items():
        if not items:
            raise ConfigError(
                f"The part {name!r} of the split is empty: {len(utterances)} items have too few different "
                f"{by}s for its share. Give it a larger share, split by something else, or try another seed."
            )
    return parts


def _unit(utterance: Utterance, by: str) -> str:
    if by == "speaker":
        if utterance.speaker is None:
            raise ConfigError(
                f"{utterance.source or utterance.id}: has no speaker, so the data cannot be split by speaker. "
                "Split by text, or name the column of the speaker."
            )
        return utterance.speaker
    return utterance.id if by == "id" else " ".join(utterance.text.casefold().split())


def _part_of(unit: str, shares: Mapping[str, float], seed: int) -> str:
    digest = hashlib.sha256(f"{seed}\0{unit}".encode("utf-8", "surrogatepass")).digest()
    place, first = int.from_bytes(digest[:8], "big") / 2**64, 0.0
    for name, share in shares.items():
        first += share
        if place < first:
            return name
    return "train"


class Mixture:
    """Several sets as one, each with its share of an epoch.

    An epoch has as many items as all sets together. A set with more than its share is left out in part, others from
    epoch to epoch; one with less is repeated. Within a set, no item comes twice more often than another.

    Args:
        sets: The sets.
        weights: Relative frequency of the items of each set; by default the sizes, so that every item comes once.
        seed: Of the choice.

    Attributes:
        utterances: The items of all sets.

    Raises:
        ConfigError: If a weight is impossible, or a set with a weight is empty.
    """

    def __init__(
        self, sets: Sequence[Sequence[Utterance]], weights: Sequence[float] | None = None, *, seed: int = 0
    ) -> None:
        weights = [float(len(items)) for items in sets] if weights is None else list(weights)
        if len(weights) != len(sets) or any(not 0 <= weight < float("inf") for weight in weights) or sum(weights) <= 0:
            raise ConfigError(f"`weights` must be {len(sets)} numbers, 0 or more, one for each set, but are {weights}.")
        for number, (items, weight) in enumerate(zip(sets, weights, strict=True), 1):
            if weight > 0 and not items:
                raise ConfigError(f"Set {number} has the weight {weight:g}, but holds no items.")
        self.utterances = [utterance for items in sets for utterance in items]
        self._sizes, self._seed = [len(items) for items in sets], seed
        ends = np.round(np.cumsum(weights) / sum(weights) * len(self.utterances)).astype(int)
        self._counts = np.diff(ends, prepend=0).tolist()

    def indices(self, epoch: int) -> list[int]:
        """Return the indices of the items of an epoch, for `BucketSampler(items=…)`."""
        chosen: list[int] = []
        first = 0
        for number, (size, count) in enumerate(zip(self._sizes, self._counts, strict=True)):
            start, done = epoch * count, 0
            while done < count:  # the set's items in endless rounds, each in an order of its own
                turn, place = divmod(start + done, size)
                order = np.random.default_rng([self._seed, number, turn]).permutation(size)
                part = order[place : place + count - done]
                chosen += (first + part).tolist()
                done += len(part)
            first += size
        return chosen
