"""Batches of items of similar length, by seconds of audio, for any number of processes.

An epoch is a list of steps, each of `world` batches, one per process. It depends on the durations, the seed and the
epoch alone, so every process works it out by itself, and a run continues at any step. Why this is not a library's
sampler is in `docs/decisions/027-own-sampler.md`.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dragoman.errors import ConfigError

Batch = list[int]


class BucketSampler:
    """Yields the batches of one process: lists of indices of items.

    Over all processes, every item comes exactly once an epoch, and every process has the same number of batches. If
    there are fewer items than processes, some batches are empty lists.

    Args:
        durations: Of all items, in seconds.
        seconds_per_batch: Limit of a batch with its padding: number of items times the longest. An item that is longer
            has a batch to itself.
        world: Number of processes.
        rank: Number of this process, from 0.
        seed: Of the order.
        epoch: Number of the epoch, from 0; each has an order of its own.
        shuffle: False keeps the order of the items, as far as batches allow, and cuts batches from it.
        num_buckets: Number of ranges of durations; a batch holds items of one. More waste less on padding and mix less.
        max_items: Limit of the items of a batch.
        items: Returns the indices that an epoch has, such as `Mixture.indices`; by default each once.

    Raises:
        ConfigError: If an argument is impossible.

    Example:
        >>> sampler = BucketSampler([1.0, 1.2, 7.5], seconds_per_batch=8.0)
        >>> sorted(index for batch in sampler for index in batch)
        [0, 1, 2]
    """

    def __init__(
        self,
        durations: Sequence[float],
        *,
        seconds_per_batch: float,
        world: int = 1,
        rank: int = 0,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = True,
        num_buckets: int = 20,
        max_items: int | None = None,
        items: Callable[[int], Sequence[int]] | None = None,
    ) -> None:
        self._durations = np.asarray(durations, np.float64)
        self._check(seconds_per_batch, world, rank, num_buckets, max_items)
        self.seconds_per_batch, self.world, self.rank, self.seed = seconds_per_batch, world, rank, seed
        self.shuffle, self.num_buckets, self.max_items = shuffle, num_buckets, max_items
        self._items = items
        self._epoch, self._position = epoch, 0
        self._steps: list[tuple[Batch, ...]] | None = None

    def _check(self, seconds_per_batch: float, world: int, rank: int, num_buckets: int, max_items: int | None) -> None:
        durations = self._durations
        if durations.ndim != 1 or not np.isfinite(durations).all() or (durations < 0).any():
            raise ConfigError("`durations` must be a list of finite numbers of seconds, 0 or more.")
        if not (math.isfinite(seconds_per_batch) and seconds_per_batch > 0):
            raise ConfigError(f"`seconds_per_batch` must be more than 0, but is {seconds_per_batch!r}.")
        if world < 1 or not 0 <= rank < world:
            raise ConfigError(f"`rank` must be 0 to `world` - 1, but they are {rank} and {world}.")
        for name, value in {"num_buckets": num_buckets, "max_items": max_items}.items():
            if value is not None and value < 1:
                raise ConfigError(f"`{name}` must be at least 1, but is {value}.")

    @property
    def epoch(self) -> int:
        """Number of the epoch, from 0."""
        return self._epoch

    @property
    def position(self) -> int:
        """Number of batches of this epoch that were yielded."""
        return self._position

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch."""
        if epoch != self._epoch:
            self._steps = None
        self._epoch, self._position = epoch, 0

    def __len__(self) -> int:
        """Return the number of batches of the epoch, the same for every process."""
        return len(self.steps())

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of the epoch's batches; after the last one, the position is again the beginning."""
        steps = self.steps()
        while self._position < len(steps):
            batch = steps[self._position][self.rank]
            self._position += 1
            yield list(batch)
        self._position = 0

    def steps(self) -> list[tuple[Batch, ...]]:
        """Return the whole epoch: for each step, the batches of all processes."""
        if self._steps is None:
            rng = np.random.default_rng([self.seed, self._epoch])
            every: Any = range(len(self._durations)) if self._items is None else self._items(self._epoch)
            batches = self._batches(np.asarray(every, np.int64), rng)
            self._steps = self._grouped(batches, rng)
        return self._steps

    def padding(self) -> float:
        """Return the share of the epoch's seconds that is padding, 0 to 1, batch by batch."""
        lists = [batch for step in self.steps() for batch in step if batch]
        total = sum(len(batch) * self._longest(batch) for batch in lists)
        used = sum(float(self._durations[batch].sum()) for batch in lists)
        return 1 - used / total if total else 0.0

    def state_dict(self, position: int | None = None) -> dict[str, Any]:
        """Return where the sampler is, as plain values.

        Args:
            position: Number of batches of the epoch that were really used; batches that were loaded ahead do not
                count. By default those yielded.
        """
        return {
            "epoch": self._epoch,
            "position": self._position if position is None else position,
            "fingerprint": self._fingerprint(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved place.

        Raises:
            ConfigError: If it was saved with other items, another seed or other limits: the batches would differ.
        """
        if state["fingerprint"] != self._fingerprint():
            raise ConfigError(
                "The data or its batches differ from those of the saved run: items, seed, `seconds_per_batch`, `world` "
                "and the other arguments of the sampler must be the same to continue in the middle of an epoch."
            )
        self.set_epoch(int(state["epoch"]))
        self._position = int(state["position"])

    def _fingerprint(self) -> str:
        settings = (self.seed, self.seconds_per_batch, self.world, self.shuffle, self.num_buckets, self.max_items)
        return hashlib.sha256(repr(settings).encode() + self._durations.tobytes()).hexdigest()[:16]

    def _longest(self, batch: Batch) -> float:
        return float(self._durations[batch].max())

    def _batches(self, items: Any, rng: np.random.Generator) -> list[Batch]:
        """Return the epoch's items in batches, those of one bucket after another."""
        order = rng.permutation(items) if self.shuffle else items
        batches: list[Batch] = []
        for bucket in self._buckets(order):
            held: Batch = []
            longest = 0.0
            for index in bucket:
                longest = max(longest, float(self._durations[index]))
                too_many = self.max_items is not None and len(held) >= self.max_items
                if held and (too_many or longest * (len(held) + 1) > self.seconds_per_batch):
                    batches.append(held)
                    held, longest = [], float(self._durations[index])
                held.append(int(index))
            if held:
                batches.append(held)
        return batches

    def _buckets(self, order: Any) -> list[Any]:
        """Split items by duration so that each bucket has about the same number of seconds; the order stays."""
        if not self.shuffle or len(order) == 0:
            return [order]
        durations = self._durations[order]
        ranks = np.argsort(durations, kind="stable")
        share = np.cumsum(durations[ranks])
        numbers = np.empty(len(order), np.int64)
        numbers[ranks] = np.minimum(share / (share[-1] or 1.0) * self.num_buckets, self.num_buckets - 1).astype(int)
        return [order[numbers == number] for number in range(self.num_buckets)]

    def _grouped(self, batches: list[Batch], rng: np.random.Generator) -> list[tuple[Batch, ...]]:
        """Return steps of one batch per process; batches of a step are of similar length, so that none waits long."""
        batches = _divisible(batches, self.world)
        steps = [tuple(batches[first : first + self.world]) for first in range(0, len(batches), self.world)]
        return [steps[number] for number in rng.permutation(len(steps))] if self.shuffle else steps


def _divisible(batches: list[Batch], world: int) -> list[Batch]:
    """Split the largest batches in two until their number is a multiple of `world`; add empty ones if none is left."""
    batches = list(batches)
    while len(batches) % world:
        sizes = [len(batch) for batch in batches]
        number = int(np.argmax(sizes)) if sizes else 0
        if not sizes or sizes[number] < 2:
            batches.append([])
            continue
        half = sizes[number] // 2
        batches[number : number + 1] = [batches[number][:half], batches[number][half:]]
    return batches
