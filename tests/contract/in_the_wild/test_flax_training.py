"""The training script for Flax: a train state, decay masks, `pmap`, and the folder; PyTorch is the oracle.

`transformers` 5 has no Flax models, so the losses are compared with the same model and optimizer in PyTorch.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]
import pytest
import torch
from flax import jax_utils
from flax.training import train_state

import dragoman
from dragoman.jax.masks import decay_mask
from dragoman.testing import tiny_config

LABELS = np.array([[5, 6, 7, 2], [8, 9, 2, -100]])
RATE, DECAY, STEPS = 1e-2, 0.1, 2


def shift_tokens_right(labels: np.ndarray, pad: int, start: int) -> np.ndarray:
    """Return what the decoder reads for `labels`, as the script's collator makes it."""
    shifted = np.full_like(labels, start)
    shifted[:, 1:] = labels[:, :-1]
    return np.where(shifted == -100, pad, shifted)


@pytest.mark.slow
def test_training_steps_in_pmap_are_those_of_pytorch(tmp_path: Path) -> None:
    encoder = tiny_config("wav2vec2", layerdrop=0.0, num_hidden_layers=1, mask_time_prob=0.0)
    ids = {"decoder_start_token_id": 3, "pad_token_id": 1, "eos_token_id": 2}
    config = dragoman.SpeechEncoderDecoderConfig(encoder=encoder, decoder=tiny_config("bart", decoder_layers=1), **ids)
    dragoman.SpeechEncoderDecoderModel(config=config).save_pretrained(tmp_path / "start")
    audio = np.random.default_rng(0).standard_normal((2, 1600)).astype(np.float32)

    ours = dragoman.FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path / "start")
    optimizer = optax.adamw(RATE, weight_decay=DECAY, mask=decay_mask)
    state = train_state.TrainState.create(apply_fn=ours.__call__, params=ours.params, tx=optimizer)

    def train_step(state: Any, batch: Any) -> Any:
        def loss_of(params: Any) -> Any:
            batch_now = dict(batch)
            labels = batch_now.pop("labels")
            logits = state.apply_fn(**batch_now, params=params, train=False).logits
            losses = optax.softmax_cross_entropy(logits, jax.nn.one_hot(labels, logits.shape[-1]))
            valid = labels >= 0
            return jax.lax.psum((losses * valid).sum(), "batch") / jax.lax.psum(valid.sum(), "batch")

        loss, gradients = jax.value_and_grad(loss_of)(state.params)
        return state.apply_gradients(grads=jax.lax.pmean(gradients, "batch")), loss

    batch = {"inputs": audio, "decoder_input_ids": shift_tokens_right(LABELS, 1, 3), "labels": LABELS}
    sharded = jax.tree.map(lambda x: jnp.asarray(x)[None], batch)
    state = jax_utils.replicate(state, jax.local_devices()[:1])
    step, found = jax.pmap(train_step, "batch", devices=jax.local_devices()[:1]), []
    for _ in range(STEPS):
        state, loss = step(state, sharded)
        found.append(float(loss[0]))
    trained = jax.device_get(jax_utils.unreplicate(state.params))
    ours.save_pretrained(tmp_path / "end", params=trained)

    model = dragoman.SpeechEncoderDecoderModel.from_pretrained(tmp_path / "start")
    named = list(model.named_parameters())
    no_decay = ("bias", "layer_norm.weight", "layernorm_embedding.weight")
    groups = [
        {"params": [p for n, p in named if not any(part in n for part in no_decay)], "weight_decay": DECAY},
        {"params": [p for n, p in named if any(part in n for part in no_decay)], "weight_decay": 0.0},
    ]
    oracle, expected = torch.optim.AdamW(groups, lr=RATE), []
    for _ in range(STEPS):
        loss = model(torch.from_numpy(audio), labels=torch.from_numpy(LABELS)).loss
        loss.backward()
        oracle.step()
        oracle.zero_grad()
        expected.append(loss.item())
    assert found == pytest.approx(expected, rel=1e-4)
    again = dragoman.SpeechEncoderDecoderModel.from_pretrained(tmp_path / "end")
    losses = [m(torch.from_numpy(audio), labels=torch.from_numpy(LABELS)).loss.item() for m in (again, model)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_number_of_frames_of_a_clip(pair: Any) -> None:
    *_, (library, torch_model) = pair("wav2vec2", "bart", add_adapter=True)
    model = library.FlaxSpeechEncoderDecoderModel.from_pretrained(torch_model.name_or_path)
    expected = [torch_model.encoder._get_feat_extract_output_lengths(1600, adapter) for adapter in (True, False)]
    assert [model._get_feat_extract_output_lengths(1600, adapter) for adapter in (True, False)] == expected
    assert model._get_feat_extract_output_lengths(1600) == model.encoder(np.zeros((1, 1600)))[0].shape[1]
