"""The training and the validation set of a configuration: read, filtered, split and mixed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dragoman.data import BucketSampler, Limits, Mixture, Utterance, filtered, read_manifest, split
from dragoman.training.batches import Item, Preparation
from dragoman.training.config import Config

_VALID = "valid"


@dataclass(frozen=True, kw_only=True)
class Sets:
    """What a run is trained and evaluated on.

    Attributes:
        train: All items of the training sets.
        valid: The validation set; empty if there is none.
        indices: The numbers of the items of an epoch.
    """

    train: list[Item]
    valid: list[Item]
    indices: Callable[[int], Sequence[int]]

    def sampler(self, config: Config, *, world: int, rank: int) -> BucketSampler:
        """Return the sampler of the training set, at the beginning."""
        data, options = config.data, config.training
        seconds = [item.seconds for item in self.train]
        return BucketSampler(
            seconds,
            seconds_per_batch=data.seconds_per_batch,
            world=world,
            rank=rank,
            seed=options.seed,
            num_buckets=data.num_buckets or min(20, max(1, int(sum(seconds) / data.seconds_per_batch / 8))),
            max_items=options.per_device_train_batch_size,
            items=self.indices,
        )


def read_sets(config: Config, preparation: Preparation) -> Sets:
    """Read all sets of a configuration.

    Raises:
        DataError: If a manifest is malformed, or too many items cannot be used.
        ConfigError: If no item is left, or the weights do not fit the sets.
    """
    data, seed = config.data, config.training.seed
    paths = data.train if isinstance(data.train, list) else [str(data.train)]
    parts = [read_manifest(path, data.columns or None, data.train_split) for path in paths]
    held_out: list[Utterance] = []
    if data.valid_share:
        divided = [split(part, {_VALID: data.valid_share}, by=data.split_by, seed=seed) for part in parts]
        held_out = [utterance for part in divided for utterance in part[_VALID]]
        parts = [part["train"] for part in divided]
    items = [_usable(config, preparation, path, part) for path, part in zip(paths, parts, strict=True)]
    if data.valid is not None:
        held_out = read_manifest(data.valid, data.columns or None, data.valid_split)
    valid = _usable(config, preparation, data.valid or "the validation set", held_out) if held_out else []
    mixture = Mixture([[item.utterance for item in part] for part in items], data.train_weights, seed=seed)
    return Sets(train=[item for part in items for item in part], valid=valid, indices=mixture.indices)


def _usable(config: Config, preparation: Preparation, path: str, utterances: Sequence[Utterance]) -> list[Item]:
    data = config.data
    limits = Limits(
        min_seconds=data.min_duration_in_seconds,
        max_seconds=data.max_duration_in_seconds,
        min_rate=data.min_rate,
        max_rate=data.max_rate,
    )
    return preparation.items(
        path, utterances, lambda known: filtered(known, limits), threads=config.training.dataloader_num_workers
    )
