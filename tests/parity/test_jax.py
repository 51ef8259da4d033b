"""JAX against PyTorch from the same folder: logits, gradients, an optimizer step, generation, and saving.

`pair_of` is in conftest.py: random models that `transformers` built and saved. The nightly tests also compare every
pair of families, in models saved by dragoman, as `transformers` cannot join most of them; `scripts/matrix` runs them
with XLA options that compile fast, as compiling takes most of their time.
"""

from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
import torch
from safetensors.torch import load_file

from dragoman import SpeechEncoder
from dragoman.checkpoint.options import LoadOptions
from dragoman.families import find
from dragoman.families.config import SpecAugmentConfig
from dragoman.jax.backend import BACKEND
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.jax.net.tree import flat
from dragoman.jax.parts import SpeechEncoder as JaxEncoder
from dragoman.model.load import load_part
from dragoman.testing import TOLERANCES, configs, tiny_config

from .conftest import DECODERS, ENCODERS, MORE_DECODERS, Encoder, Pair, are_varied, own_pair, randomize

# Every kind of part once; the nightly tests cover the whole matrix.
QUICK = {("wav2vec2-adapter-proj", "gpt2"), ("whisper", "whisper")}
PAIRS = [
    pytest.param((encoder, decoder), id=f"{encoder}-{decoder}",
                 marks=[] if (encoder, decoder) in QUICK else [pytest.mark.nightly])
    for encoder in ENCODERS for decoder in DECODERS
]  # fmt: skip
PAIRS += [
    pytest.param(("wav2vec2-layer", decoder), id=f"wav2vec2-layer-{decoder}", marks=pytest.mark.nightly)
    for decoder in MORE_DECODERS
]
PAIRS += [
    pytest.param((encoder, *decoder), id=f"own-{encoder}-to-{decoder[0]}-{decoder[1] or 'native'}",
                 marks=pytest.mark.nightly)
    for encoder, decoder in product(configs.ENCODERS, configs.DECODERS)
]  # fmt: skip


AUGMENTED = [name for name in configs.ENCODERS if issubclass(find(name).config, SpecAugmentConfig)]


@pytest.fixture(scope="module", params=PAIRS)
def both(request: pytest.FixtureRequest, pair_of: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same checkpoint in PyTorch and in JAX, and its pair."""
    by_transformers = len(request.param) == 2
    pair = pair_of(*request.param) if by_transformers else own_pair(tmp_path_factory.mktemp("own"), *request.param)
    ours = FlaxSpeechEncoderDecoderModel.from_pretrained(pair.folder)
    theirs = pair.load()
    theirs.set_padding("exact")
    return ours, theirs, pair


def arrays(batch: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in batch.items()}


def assert_close(ours: Any, theirs: torch.Tensor, what: str = "logits") -> None:
    assert tuple(ours.shape) == tuple(theirs.shape)
    assert np.abs(np.asarray(ours) - theirs.detach().numpy()).max() <= TOLERANCES[what]


def test_logits_gradients_and_a_step(both: Any) -> None:
    """Against PyTorch in float64; its float32 gradients differ from these by up to 1.1e-4, those of JAX by 0.5e-4."""
    ours, _, pair = both
    theirs = pair.load(dtype="float64")
    theirs.set_padding("exact")
    batch = pair.lesson()

    def loss(params: Any) -> Any:
        output = ours(**arrays(batch), params=params)
        return output.loss, (output.logits, output.encoder_last_hidden_state)

    with torch.enable_grad():
        expected = theirs(**{name: x.double() if x.is_floating_point() else x for name, x in batch.items()})
        expected.loss.backward()
    optimizer = optax.adamw(1e-3, eps=1e-6, weight_decay=0.1)

    @jax.jit
    def step(params: Any) -> Any:
        (found, (logits, states)), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        return found, logits, states, gradients, optax.apply_updates(params, updates)

    found, logits, states, gradients, stepped = step(ours.tree)
    assert_close(found, expected.loss, "loss")
    assert_close(logits, expected.logits)
    assert_close(states, expected.encoder_last_hidden_state)
    gradients, stepped = flat(gradients), flat(stepped)
    trained = {name: p for name, p in theirs.named_parameters() if p.grad is not None}
    assert set(trained) <= set(gradients)
    for name, parameter in trained.items():
        assert_close(gradients[name], parameter.grad)
    torch.optim.AdamW(trained.values(), 1e-3, eps=1e-6, weight_decay=0.1).step()
    for name, parameter in trained.items():
        # The first step of Adam divides a gradient by its magnitude, which is rounding noise for tiny gradients.
        clear = np.abs(np.asarray(gradients[name])) > 1e-5
        difference = np.abs(np.asarray(stepped[name]) - parameter.detach().numpy())
        assert difference[clear].max(initial=0.0) <= 1e-4, name


@pytest.mark.parametrize("num_beams", [1, 5])
def test_generate(both: Any, num_beams: int) -> None:
    ours, theirs, pair = both
    batch = pair.audio(100, seed=2)
    expected = theirs.generate(**batch, num_beams=num_beams, max_new_tokens=12)
    assert are_varied(expected), "the transcripts must depend on the speech for this test to mean anything"
    found = np.asarray(ours.generate(**arrays(batch), num_beams=num_beams, max_new_tokens=12))
    assert found.shape == tuple(expected.shape)
    # Two sequences may tie in float32; of the 9,000 of the whole matrix, this has happened to at most one.
    assert (found != expected.numpy()).any(1).sum() <= 1


def test_saved_folder_equals_that_of_transformers(both: Any, tmp_path: Path) -> None:
    """JAX saves the same bits as `transformers`."""
    ours, _, pair = both
    ours.save_pretrained(tmp_path)
    before, after = load_file(pair.folder / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name].to(after[name].dtype), after[name]) for name in before)
    again = FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert all(map(np.array_equal, jax.tree.leaves(again.params), jax.tree.leaves(ours.params)))
    assert again.generation_config.eos_token_id == ours.generation_config.eos_token_id


@pytest.mark.parametrize("name", AUGMENTED)
def test_spec_augment_masks_equal_torch(name: str, tmp_path: Path) -> None:
    """For one seed, both mask the same frames and channels, except padding, with the same values."""
    quiet = {"dropout" if name == "whisper" else "hidden_dropout": 0.0, "apply_spec_augment": True}
    hidden = {"mask_time_prob": 0.3, "mask_time_length": 2, "mask_feature_prob": 0.3, "mask_feature_length": 2}
    theirs = SpeechEncoder(tiny_config(name, **quiet, **hidden)).eval()
    randomize(theirs)
    theirs.save_pretrained(tmp_path)
    ours, _ = load_part(BACKEND, JaxEncoder, tmp_path, LoadOptions())
    batch = Pair(None, tmp_path, Encoder(name, {}, "exact"), "bert").audio(3, seed=1)
    ready, lengths = ours.prepare(
        *(batch[key].numpy() if key in batch else None for key in ("inputs", "attention_mask"))
    )
    torch.manual_seed(7)
    seed = int(torch.randint(2**31, ()))  # the seed that PyTorch's generator gives to NumPy's
    torch.manual_seed(7)
    theirs.training = True  # its parts are in evaluation mode: only SpecAugment is random
    expected = theirs(*batch.values()).last_hidden_state

    def difference(seed: int) -> float:
        masks = ours.draw_masks(ready, lengths, np.random.default_rng(seed))
        assert masks.time.any()
        assert masks.channels.any()
        found = ours.encode(ready, lengths, masks=masks).last_hidden_state
        return float(np.abs(np.asarray(found) - expected.numpy()).max())

    assert difference(seed) <= TOLERANCES["logits"]
    assert difference(seed + 1) > 0.01, "other masks must show"


@pytest.mark.parametrize("decoder", MORE_DECODERS)
def test_every_decoder_in_two_steps(pair_of: Any, decoder: str) -> None:
    """A sequence in two pieces, without compiling, which is fast enough for each decoder."""
    pair = pair_of("wav2vec2-layer", decoder)
    theirs = pair.load().decoder
    ours = FlaxSpeechEncoderDecoderModel.from_pretrained(pair.folder).decoder
    generator = torch.Generator().manual_seed(4)
    memory = torch.randn(2, 5, theirs.spec.memory_width, generator=generator)
    tokens = torch.randint(2, 30, (2, 5), generator=generator)
    tokens[0, 3:] = (
        1  # padding at the end: after padding inside, some decoders count positions differently with a cache
    )
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    expected = theirs(tokens, encoder_hidden_states=memory, encoder_attention_mask=mask).logits
    memory, tokens, mask = memory.numpy(), tokens.numpy(), mask.numpy()
    first = ours(tokens[:, :3], encoder_hidden_states=memory, encoder_attention_mask=mask, use_cache=True)
    second = ours(
        tokens[:, 3:],
        encoder_hidden_states=memory,
        encoder_attention_mask=mask,
        past_key_values=first.past_key_values,
    )
    assert_close(np.concatenate([first.logits, second.logits], 1), expected)


def test_cached_steps_equal_the_full_sequence(pair_of: Any) -> None:
    model = FlaxSpeechEncoderDecoderModel.from_pretrained(pair_of("wav2vec2-group", "bert").folder)
    batch = arrays(pair_of("wav2vec2-group", "bert").audio(2, 3))
    tokens = np.asarray([[0, 5, 6, 7], [0, 8, 9, 4]])
    encoded = model.encode(**batch)
    whole = model.decode(tokens, encoded)
    cache = model.init_cache(2, 8, encoded)
    assert cache.memory is not None, "keys and values of the speech are computed once"
    for place in range(4):  # one program for all steps
        step = model.decode(tokens[:, place : place + 1], encoded, past_key_values=cache)
        cache = step.past_key_values
        assert np.abs(step.logits[:, 0] - whole.logits[:, place]).max() <= TOLERANCES["cached"]
    assert int(cache.length) == 4
