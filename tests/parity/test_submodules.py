"""Each part of wav2vec 2.0 at its published width against `transformers`: base (group norm), large (layer norm).

The stacks have one layer, as all layers are equal. test_models.py compares whole tiny models.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import transformers

from dragoman import SpeechEncoder
from dragoman.testing import TOLERANCES, synthetic_speech
from dragoman.torch.net.step import LayerInputs, Step

BASE = {"num_hidden_layers": 1}
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 1,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "do_stable_layer_norm": True,
    "add_adapter": True,
    "output_hidden_size": 768,
}


class Both(NamedTuple):
    theirs: Any
    ours: SpeechEncoder


@pytest.fixture(scope="module", params=[BASE, LARGE], ids=["base", "large"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    torch.manual_seed(0)
    theirs = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**request.param)).eval()
    with torch.no_grad():
        for tensor in theirs.parameters():
            if tensor.ndim == 1:
                tensor.add_(0.1 * torch.randn_like(tensor))
    folder = tmp_path_factory.mktemp("part")
    theirs.save_pretrained(folder)
    return Both(theirs, SpeechEncoder.from_pretrained(folder))


def waves() -> torch.Tensor:
    """Two clips of one second."""
    clips = torch.stack([torch.from_numpy(synthetic_speech(1.0, seed=seed)) for seed in range(2)])
    return (clips - clips.mean(1, keepdim=True)) / clips.std(1, keepdim=True)


def frames(width: int, count: int = 49) -> torch.Tensor:
    return torch.randn(2, count, width, generator=torch.Generator().manual_seed(1))


def assert_equal(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape
    assert theirs.std() > 1e-2
    assert (ours - theirs).abs().max() <= TOLERANCES["part"]


def test_front_end(both: Both) -> None:
    features = both.theirs.feature_extractor(waves()).transpose(1, 2)
    projected, normalised = both.theirs.feature_projection(features)
    states, ours = both.ours.frontend(waves(), None)
    assert_equal(ours, normalised)
    assert_equal(states, projected)
    assert states.shape[1] == 49


def test_positions(both: Both) -> None:
    states = frames(both.ours.spec.width)
    assert_equal(both.ours.positions(states), both.theirs.encoder.pos_conv_embed(states))


@pytest.mark.parametrize("masked", [False, True])
def test_stack(both: Both, masked: bool) -> None:
    states = frames(both.ours.spec.width)
    valid = torch.arange(49) < torch.tensor([[49], [30]])
    mask = valid[:, None, None] if masked else None
    ours = both.ours.stack(states, Step(mask=mask), LayerInputs())
    bias = None if mask is None else torch.zeros(2, 1, 49, 49).masked_fill(~mask, torch.finfo().min)
    theirs = both.theirs.encoder.layers[0](states, attention_mask=bias)
    theirs = theirs[0] if isinstance(theirs, tuple) else theirs
    if both.ours.stack.final_norm is not None:
        theirs = both.theirs.encoder.layer_norm(theirs)
    assert_equal(ours.states, theirs)


@pytest.mark.parametrize("count", [49, 8, 2])
def test_adapter(both: Both, count: int) -> None:
    if both.ours.adapter is None:
        assert both.theirs.adapter is None
        return
    states = frames(both.ours.spec.width, count)
    assert_equal(both.ours.adapter(states, None), both.theirs.adapter(states))


def test_whole_encoder(both: Both) -> None:
    theirs = both.theirs(waves())
    ours = both.ours(waves())
    assert_equal(ours.last_hidden_state, theirs.last_hidden_state)
    assert_equal(ours.extract_features, theirs.extract_features)


def test_frame_counts(both: Both) -> None:
    """The number of frames is known without running the encoder."""
    theirs: Callable[[int], int] = both.theirs._get_feat_extract_output_lengths
    for samples in (400, 719, 720, 16_000, 480_000):
        assert both.ours.spec.frame_lengths(samples) == int(theirs(samples))
    states, _ = both.ours.frontend(waves()[:, :5_000], None)
    assert states.shape[1] == both.ours.spec.frontend.frame_lengths(5_000)
