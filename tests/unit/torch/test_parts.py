"""Parts of modern text models: norms, gates, rotary positions, grouped heads, windows."""

import math

import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from dragoman.errors import ConfigError
from dragoman.families.llama import LlamaConfig
from dragoman.spec import (
    Activation,
    AttentionSpec,
    BlockSpec,
    FeedForwardSpec,
    LocalAttentionSpec,
    NormOrder,
    RotarySpec,
    StackSpec,
)
from dragoman.torch.net.block import Stack
from dragoman.torch.net.norms import RMSNorm
from dragoman.torch.net.rotary import rotary_for
from dragoman.torch.net.step import LayerInputs, Step


def test_rms_norm_has_mean_square_one() -> None:
    norm = RMSNorm(6, 0.0)
    torch.nn.init.ones_(norm.weight)
    states = torch.arange(1.0, 13.0).reshape(2, 6)
    out = norm(states)
    assert torch.allclose(out.square().mean(-1), torch.ones(2))
    from_one = RMSNorm(6, 0.0, from_one=True)
    torch.nn.init.zeros_(from_one.weight)
    assert torch.equal(from_one(states), out)


def test_rotary_scores_depend_on_distances_only() -> None:
    spec = RotarySpec(width=6)
    queries, keys = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def score(query: int, key: int) -> torch.Tensor:
        turned = [rotary_for(spec, torch.tensor([[at]]), x)(x) for at, x in ((query, queries), (key, keys))]
        return (turned[0] * turned[1]).sum()

    assert torch.allclose(score(3, 1), score(43, 41), atol=1e-5)
    assert not torch.allclose(score(3, 1), score(3, 2), atol=1e-3)


LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
YARN: dict[str, object] = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
LONG: dict[str, object] = {
    "rope_type": "longrope",
    "long_factor": [9.0] * 32,
    "short_factor": [1.0 + i for i in range(32)],
}


@pytest.mark.parametrize(
    "parameters",
    [
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "dynamic", "factor": 4.0},
        {"rope_type": "llama3", "factor": 8.0, **LLAMA3},
        YARN,
        YARN | {"beta_fast": 20, "beta_slow": 2, "truncate": False},
        YARN | {"attention_factor": 1.5, "rope_theta": 100.0},
        YARN | {"mscale": 0.7, "mscale_all_dim": 0.3},
        YARN | {"partial_rotary_factor": 0.5, "factor": None},
        {"rope_type": "yarn", "factor": 4.0},
        LONG | {"original_max_position_embeddings": 512},
        LONG | {"original_max_position_embeddings": 512, "attention_factor": 1.2},
        LONG | {"factor": 3.0},
    ],
)
def test_scaled_frequencies_equal_transformers(parameters: dict[str, object]) -> None:
    parameters = {"rope_theta": 500000.0, **parameters}
    sizes = {"hidden_size": 256, "num_attention_heads": 4, "max_position_embeddings": 2048}
    config = transformers.LlamaConfig(**sizes, rope_parameters=dict(parameters))
    frequencies, magnitude = ROPE_INIT_FUNCTIONS[str(parameters["rope_type"])](config, None)
    ours = LlamaConfig(**sizes, rope_parameters=parameters).text_spec()  # type: ignore[arg-type]
    rotary = ours.stack.block.self_attn.rotary
    assert rotary is not None
    assert torch.allclose(torch.tensor(rotary.frequencies), frequencies, rtol=1e-5, atol=0)
    assert rotary.magnitude == pytest.approx(magnitude)
    longrope = parameters["rope_type"] == "longrope"
    assert ours.num_positions == (parameters.get("original_max_position_embeddings", 2048) if longrope else 2048)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (YARN | {"factor": -1.0}, "factor and positions above 0"),
        (YARN | {"factor": "4"}, "`factor` is '4'"),
        (YARN | {"beta_fast": 0.5}, "`slow` from 0 to `fast`"),
        (YARN | {"attention_factor": -2.0}, "must be above 0, but is -2.0"),
        (YARN | {"attention_factor": "big"}, "must be a number or null"),
        (YARN | {"rope_theta": 1.0}, "must be above 1"),
        (LONG | {"short_factor": [1.0] * 3}, "need one factor"),
        (LONG | {"short_factor": [0.0] * 32}, "must be above 0"),
        (LONG | {"short_factor": 2.0}, "must be a list of numbers"),
        (LONG | {"original_max_position_embeddings": 1}, "at least 2"),
        ({"rope_type": "proportional"}, "must be one of default, linear, dynamic"),
    ],
)
def test_invalid_scalings_are_refused(parameters: dict[str, object], message: str) -> None:
    sizes = {"hidden_size": 256, "num_attention_heads": 4, "max_position_embeddings": 2048}
    with pytest.raises(ConfigError, match=message):
        LlamaConfig(**sizes, rope_parameters=parameters).text_spec()  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", [{"width": 3}, {"width": 0}, {"width": 4, "theta": 0.0}])
def test_invalid_rotary_positions_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="otary positions"):
        RotarySpec(**fields)  # type: ignore[arg-type]


def attention(**fields: object) -> AttentionSpec:
    return AttentionSpec(width=16, num_heads=4, **fields)  # type: ignore[arg-type]


def test_inconsistent_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="not a multiple of 3"):
        attention(num_kv_heads=3)
    with pytest.raises(ConfigError, match="rotate 8 channels of each head, but a head has 4"):
        attention(rotary=RotarySpec(width=8))


def test_window_masks_tokens_further_back() -> None:
    """In one windowed layer a token attends to the last tokens only."""
    block = BlockSpec(
        self_attn=attention(rotary=RotarySpec(width=4)),
        ffn=FeedForwardSpec(width=8, activation=Activation.SILU),
        norm_order=NormOrder.PRE,
    )
    local = LocalAttentionSpec(window=3, layers=frozenset({0}))
    stack = Stack(StackSpec(block=block, num_layers=1, local=local))
    for parameter in stack.parameters():
        torch.nn.init.normal_(parameter, std=1 / math.sqrt(16))
    states = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(0))
    other = states.clone()
    other[:, 1, ::2] += 1.0
    near = torch.ones(6, 6, dtype=torch.bool).tril().triu(-2)[None, None]
    with torch.no_grad():
        windowed, full = (
            (stack(states, step, LayerInputs()).states - stack(other, step, LayerInputs()).states).abs()
            for step in (Step(causal=True, local_mask=near), Step(causal=True))
        )
    assert [bool(row.max() > 1e-6) for row in windowed[0]] == [False, True, True, True, False, False]
    assert [bool(row.max() > 1e-6) for row in full[0]] == [False, True, True, True, True, True]
