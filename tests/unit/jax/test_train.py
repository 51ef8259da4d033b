"""A training step: loss, accumulation, precision, recomputation, randomness, freezing."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dragoman.errors import AudioError, ConfigError
from dragoman.jax.net.tree import flat
from dragoman.jax.train import Trainer

from .conftest import build

QUIET = {
    "encoder": {
        "hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layerdrop": 0.0,
        "feat_proj_dropout": 0.0,
    },
    "decoder": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}  # fmt: skip


def clips(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(3, 99, (rows, 4))
    labels[:, -1] = 2
    return {"input_values": random.standard_normal((rows, 600)).astype(np.float32), "labels": labels}


@pytest.fixture(scope="module")
def quiet() -> Any:
    return build(**QUIET)


def difference(ours: Any, theirs: Any) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True))


def test_training_reduces_the_loss_and_keeps_the_model(quiet: Any) -> None:
    before = jax.tree.map(np.array, quiet.params)
    trainer = Trainer(quiet, optax.adam(3e-3))
    state, batch, losses = trainer.begin(), trainer.batch([clips(2)]), []
    for _ in range(40):
        state, loss = trainer.step(state, batch)
        losses.append(float(loss))
    assert losses[-1] < losses[0] / 3
    assert int(state.step) == 40
    assert difference(quiet.params, before) == 0.0


def test_accumulated_parts_equal_one_batch(quiet: Any) -> None:
    """The loss is the average over all labels, also if the parts have different numbers of them."""
    whole = clips(4)
    whole["labels"][3, 1:] = -100
    parts = [{name: array[rows] for name, array in whole.items()} for rows in (slice(0, 2), slice(2, 4))]
    trainer = Trainer(quiet, optax.sgd(0.1))
    once, loss = trainer.step(trainer.begin(), trainer.batch([whole]))
    twice, same = trainer.step(trainer.begin(), trainer.batch(parts))
    assert abs(float(loss) - float(same)) < 1e-5
    assert difference(once.params, twice.params) < 1e-6


@pytest.mark.slow
def test_recomputation_is_exact_and_bfloat16_close() -> None:
    model, batch = build(**QUIET), [clips(2)]
    plain = Trainer(model, optax.sgd(0.1))
    expected, loss = plain.step(plain.begin(), plain.batch(batch))
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    anew = Trainer(model, optax.sgd(0.1))
    found, _ = anew.step(anew.begin(), anew.batch(batch))
    assert difference(found.params, expected.params) < 1e-6
    model.gradient_checkpointing_disable()
    half = Trainer(model, optax.sgd(0.1), dtype=jnp.bfloat16)
    state, near = half.step(half.begin(), half.batch(batch))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state.params))
    assert 0 < abs(float(near) - float(loss)) < 0.05


def test_randomness_follows_keys_and_masks() -> None:
    fields = {"encoder": {"layerdrop": 0.5, "mask_time_prob": 0.5, "mask_time_length": 2, "mask_feature_prob": 0.2}}
    model = build(**fields)
    trainer = Trainer(model, optax.sgd(0.1))

    def step(seed: int, masks: int) -> float:
        batch = trainer.batch([clips(2)], np.random.default_rng(masks))
        return float(trainer.step(trainer.begin(seed=seed), batch)[1])

    assert step(0, 0) == step(0, 0)
    assert len({step(0, 0), step(1, 0), step(0, 1)}) == 3


def test_masked_frames_have_no_effect(quiet: Any) -> None:
    """The speech in masked frames has no effect."""
    random = np.random.default_rng(0)
    waves = random.standard_normal((1, 600)).astype(np.float32)
    masks = quiet.encoder.draw_masks(waves, None, random)
    assert masks.time is not None
    hidden = type(masks)(time=np.ones_like(masks.time))
    one, other = (quiet.encode(x, masks=hidden).last_hidden_state for x in (waves, waves[:, ::-1].copy()))
    assert np.abs(one - other).max() < 1e-6
    assert np.abs(quiet.encode(waves).last_hidden_state - one).max() > 1e-3


def test_frozen_front_end_is_unchanged(quiet: Any) -> None:
    trainer = Trainer(quiet, optax.sgd(0.1), freeze_feature_encoder=True)
    state, _ = trainer.step(trainer.begin(quiet.tree), trainer.batch([clips(2)]))
    before, after = flat(quiet.tree), flat(state.params)
    moved = {name for name in before if np.abs(np.asarray(before[name] - after[name])).max() > 0}
    assert not [name for name in moved if name.startswith("encoder.frontend.convs")]
    assert "encoder.frontend.proj.weight" in moved


@pytest.mark.parametrize(
    ("options", "still"),
    [
        ({"freeze_encoder": True}, lambda name: name.startswith("encoder.")),
        ({"freeze_decoder": True}, lambda name: name.startswith("decoder.") and "cross_attn" not in name),
    ],
)
def test_frozen_part_is_unchanged_and_has_no_optimizer_state(quiet: Any, options: Any, still: Any) -> None:
    """Also with an optimizer that decays all weights it is given."""
    trainer = Trainer(quiet, optax.adamw(0.1, weight_decay=0.5), **options)
    begun = trainer.begin(quiet.tree)
    before = flat(jax.tree.map(np.array, begun.params))
    frozen = {name for name in before if still(name)}
    assert frozen
    moments = sum(leaf.size for leaf in jax.tree.leaves(begun.optimizer) if leaf.ndim)
    assert moments == 2 * sum(array.size for name, array in before.items() if name not in frozen and array.ndim)
    state, _ = trainer.step(begun, trainer.batch([clips(2)], np.random.default_rng(0)))
    moved = {name for name, array in flat(state.params).items() if not np.array_equal(array, before[name])}
    assert moved == before.keys() - frozen


def test_invalid_batches_are_refused(quiet: Any) -> None:
    trainer = Trainer(quiet, optax.sgd(0.1))
    with pytest.raises(ConfigError, match="at least one batch"):
        trainer.batch([])
    with pytest.raises(ConfigError, match="equal shapes"):
        trainer.batch([clips(2), clips(3)])
    with pytest.raises(ConfigError, match="labels"):
        trainer.batch([{"input_values": clips(2)["input_values"]}])
    with pytest.raises(ConfigError, match="from 0 to 98"):
        trainer.batch([{**clips(2), "labels": np.full((2, 3), 99)}])
    with pytest.raises(AudioError, match="shape"):
        trainer.batch([{**clips(2), "input_values": np.zeros((2, 1, 600), np.float32)}])
    with pytest.raises(ConfigError, match="dropout_rng"):
        quiet(clips(2)["input_values"], decoder_input_ids=np.zeros((2, 1), int), train=True)
