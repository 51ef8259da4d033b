"""The batches of an epoch: every item exactly once, for any number of processes, and the same again after a stop."""

import numpy as np
import pytest

from dragoman.data import BucketSampler
from dragoman.errors import ConfigError


def samplers(durations, world, **options):
    return [BucketSampler(durations, world=world, rank=rank, **options) for rank in range(world)]


def test_every_item_comes_once_an_epoch_in_a_thousand_random_settings():
    rng = np.random.default_rng(0)
    for trial in range(1_000):
        durations = rng.lognormal(1.2, 0.7, rng.integers(0, 200)).tolist()
        world = int(rng.integers(1, 12))
        options = {
            "seconds_per_batch": float(rng.uniform(1, 120)),
            "num_buckets": int(rng.integers(1, 40)),
            "max_items": int(rng.integers(1, 20)) if rng.random() < 0.5 else None,
            "shuffle": bool(rng.random() < 0.8),
            "seed": trial,
            "epoch": int(rng.integers(0, 5)),
        }
        per_rank = [list(sampler) for sampler in samplers(durations, world, **options)]
        assert len({len(batches) for batches in per_rank}) == 1
        seen = sorted(index for batches in per_rank for batch in batches for index in batch)
        assert seen == list(range(len(durations)))
        for batch in (batch for batches in per_rank for batch in batches if len(batch) > 1):
            assert len(batch) * max(durations[i] for i in batch) <= options["seconds_per_batch"]
            assert len(batch) <= (options["max_items"] or len(batch))


def test_epochs_and_seeds_have_orders_of_their_own_which_repeat():
    durations = np.random.default_rng(1).uniform(1, 10, 300)
    one = BucketSampler(durations, seconds_per_batch=40, seed=1)
    first = list(one)
    assert list(one) == first  # the same epoch again
    one.set_epoch(1)
    assert list(one) != first
    assert list(BucketSampler(durations, seconds_per_batch=40, seed=2)) != first
    assert list(BucketSampler(durations, seconds_per_batch=40, seed=1)) == first


@pytest.mark.parametrize("world", [1, 3])
def test_a_run_continues_at_any_batch(world):
    durations = np.random.default_rng(2).uniform(1, 10, 100)
    for rank in range(world):
        options = {"seconds_per_batch": 30, "world": world, "rank": rank, "seed": 5, "epoch": 2}
        whole = list(BucketSampler(durations, **options))
        for stop in range(len(whole) + 1):
            begun = BucketSampler(durations, **options)
            batches = iter(begun)
            for _ in range(stop):
                next(batches)
            resumed = BucketSampler(durations, **{**options, "epoch": 0})
            resumed.load_state_dict(begun.state_dict())
            assert (resumed.epoch, resumed.position) == (2, stop)
            assert list(resumed) == whole[stop:]
            resumed.load_state_dict(begun.state_dict(position=0))  # the rest was only loaded ahead
            assert list(resumed) == whole


def test_a_place_in_other_data_is_refused():
    state = BucketSampler([1.0, 2.0], seconds_per_batch=4).state_dict()
    for other in (
        BucketSampler([1.0, 2.5], seconds_per_batch=4),
        BucketSampler([1.0, 2.0], seconds_per_batch=5),
        BucketSampler([1.0, 2.0], seconds_per_batch=4, world=2),
    ):
        with pytest.raises(ConfigError, match="differ from those of the saved run"):
            other.load_state_dict(state)


def test_buckets_save_padding():
    durations = np.random.default_rng(3).lognormal(1.2, 0.7, 3_000)
    assert BucketSampler(durations, seconds_per_batch=60, num_buckets=1).padding() > 0.4
    assert BucketSampler(durations, seconds_per_batch=60).padding() < 0.12


def test_batches_of_one_step_have_similar_lengths():
    durations = np.random.default_rng(4).lognormal(1.2, 0.7, 3_000)
    sampler = BucketSampler(durations, seconds_per_batch=60, world=4)
    longest = np.array([[max(durations[i] for i in batch) for batch in step if batch] for step in sampler.steps()])
    assert np.median(longest.max(axis=1) / longest.min(axis=1)) < 1.3


def test_a_long_item_has_a_batch_to_itself_and_items_can_repeat():
    sampler = BucketSampler([50.0, 1.0, 1.0], seconds_per_batch=10, items=lambda epoch: [0, 0, 1, 2 if epoch else 1])
    assert sorted(map(len, sampler)) == [1, 1, 2]
    sampler.set_epoch(1)
    assert sorted(index for batch in sampler for index in batch) == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds_per_batch": 0}, "`seconds_per_batch` must be more than 0, but is 0"),
        ({"rank": 2, "world": 2}, "`rank` must be 0 to `world` - 1, but they are 2 and 2"),
        ({"num_buckets": 0}, "`num_buckets` must be at least 1, but is 0"),
        ({"durations": [1.0, float("nan")]}, "`durations` must be a list of finite numbers"),
    ],
)
def test_impossible_arguments_are_refused(options, message):
    arguments = {"durations": [1.0], "seconds_per_batch": 10, **options}
    with pytest.raises(ConfigError, match=message):
        BucketSampler(arguments.pop("durations"), **arguments)
