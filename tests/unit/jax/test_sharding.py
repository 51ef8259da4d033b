"""Eight simulated devices give the results of one: rows over "data", matrices over "model"."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import jax, numpy as np, optax
from jax.sharding import Mesh
from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.jax.sharding import place_batch, place_params
from dragoman.jax.train import Trainer
from dragoman.jax.net.tree import flat
from dragoman.testing import tiny_config

quiet = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layerdrop": 0.0}
config = SpeechEncoderDecoderConfig(
    encoder=tiny_config("wav2vec2", num_hidden_layers=1, intermediate_size=36, **quiet),
    decoder=tiny_config("bert", vocab_size=98, num_hidden_layers=1, hidden_dropout_prob=0.0,
                        attention_probs_dropout_prob=0.0),
    decoder_start_token_id=0, pad_token_id=1, eos_token_id=2,
)
model = FlaxSpeechEncoderDecoderModel(config=config)
random = np.random.default_rng(0)
clips = {"input_values": random.standard_normal((4, 600)).astype(np.float32), "labels": random.integers(3, 98, (4, 4))}
trainer = Trainer(model, optax.sgd(0.1))
batch = trainer.batch([clips])
alone, loss = trainer.step(trainer.begin(model.tree), batch)

mesh = Mesh(np.asarray(jax.devices()).reshape(4, 2), ("data", "model"))
params = place_params(model.tree, mesh)
cut = [name for name, array in flat(params).items() if not array.sharding.is_fully_replicated]
assert len(cut) >= 20, cut
placed = place_batch(batch, mesh)
assert len(placed.inputs.sharding.device_set) == 8
together, same = trainer.step(trainer.begin(params), placed)
assert abs(float(loss) - float(same)) < 1e-5, (loss, same)
for name, array in flat(alone.params).items():
    assert np.abs(np.asarray(array) - np.asarray(flat(together.params)[name])).max() < 1e-5, name
still = [name for name in cut if not flat(together.params)[name].sharding.is_fully_replicated]
assert still == cut, "a step leaves tensors where they are"
print("same", len(cut))
"""
FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"


@pytest.mark.nightly
def test_mesh_equals_one_device() -> None:
    environment = {**os.environ, "XLA_FLAGS": FLAGS, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("same")
