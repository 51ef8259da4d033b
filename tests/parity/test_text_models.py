"""Text models without cross-attention, alone: logits and sequences equal `transformers` in both backends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from flax import nnx
from safetensors.torch import save_file

from dragoman.checkpoint.options import LoadOptions
from dragoman.jax.backend import BACKEND
from dragoman.jax.parts import TextDecoder as JaxTextDecoder
from dragoman.model.load import load_part
from dragoman.testing import TOLERANCES, configs, tiny_config
from dragoman.testing.configs import DECODERS
from dragoman.torch.parts import TextDecoder

from .conftest import randomize, reference_config

ALONE = {family for family, fusion in DECODERS if fusion}
VARIANTS = {name: variant for name, variant in configs.VARIANTS.items() if variant[0] in ALONE}


class Both:
    """A text model of `transformers` and its folder."""

    def __init__(self, folder: Path, model_type: str, fields: dict[str, Any]) -> None:
        self.folder = folder
        config = reference_config(model_type, **fields)
        self.theirs: Any = transformers.AutoModelForCausalLM.from_config(config).eval()
        randomize(self.theirs)
        self.theirs.save_pretrained(folder)
        self.tokens = torch.randint(3, 99, (3, 12), generator=torch.Generator().manual_seed(1))

    def written(self) -> torch.Tensor:
        """Return the sequences of `transformers` after the first three tokens of each row."""
        start = self.tokens[:, :3]
        options = {"max_new_tokens": 10, "do_sample": False, "eos_token_id": None}
        return self.theirs.generate(start, attention_mask=torch.ones_like(start), **options)

    def torch(self) -> TextDecoder:
        return TextDecoder.from_pretrained(self.folder)

    def jax(self) -> JaxTextDecoder:
        return load_part(BACKEND, JaxTextDecoder, self.folder, LoadOptions())[0]


# Compiling takes seconds in JAX; these cover every part.
QUICK = ("gemma2", "gemma3_text", "gpt_neox", "qwen3-windows")
JAX = [pytest.param(kind, marks=[] if kind in QUICK else [pytest.mark.nightly]) for kind in VARIANTS]


@pytest.fixture(scope="module", params=VARIANTS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(tmp_path_factory.mktemp("text"), *VARIANTS[request.param])


def greedy(first: torch.Tensor, step: Callable[[torch.Tensor], torch.Tensor], count: int) -> torch.Tensor:
    """Generate `count` tokens greedily with `step`, which takes the new tokens and returns logits."""
    texts, new = first, first
    for _ in range(count):
        new = step(new).argmax(-1, keepdim=True)
        texts = torch.cat([texts, new], 1)
    return texts


def torch_logits(both: Both, **options: Any) -> torch.Tensor:
    return both.torch()(both.tokens, **options).logits


def test_logits(both: Both) -> None:
    expected = both.theirs(both.tokens).logits
    assert expected.std() > 0.1
    assert (torch_logits(both) - expected).abs().max() <= TOLERANCES["logits"]
    mask = (torch.arange(12) < torch.tensor([[12], [7], [1]])).long()
    expected = both.theirs(both.tokens, attention_mask=mask).logits
    difference = torch_logits(both, attention_mask=mask) - expected
    assert difference[mask.bool()].abs().max() <= TOLERANCES["logits"]


def test_greedy_search_with_a_cache(both: Both) -> None:
    decoder = both.torch()
    cache: Any = decoder.new_cache(3, 13)

    def step(tokens: torch.Tensor) -> torch.Tensor:
        nonlocal cache
        out, cache = decoder.decode(tokens, None, cache)
        return decoder.logits(out.states[:, -1])

    assert torch.equal(greedy(both.tokens[:, :3], step, 10), both.written())


@pytest.mark.parametrize("both", JAX, indirect=True)
def test_jax_equals_torch(both: Both) -> None:
    decoder = both.jax()
    cache: Any = decoder.new_cache(3, 16)

    @nnx.jit
    def run(decoder: JaxTextDecoder, tokens: Any, cache: Any) -> Any:
        out, cache = decoder.decode(tokens, None, cache)
        return decoder.logits(out.states), cache

    def step(tokens: torch.Tensor) -> torch.Tensor:
        nonlocal cache
        logits, cache = run(decoder, tokens.numpy(), cache)
        return torch.from_numpy(np.array(logits[:, -1]))

    wanted = both.written()
    assert torch.equal(greedy(both.tokens[:, :3], step, 10), wanted)
    ours, _ = run(decoder, wanted.numpy(), None)
    assert np.abs(np.asarray(ours) - both.theirs(wanted).logits.numpy()).max() <= TOLERANCES["logits"]


def test_transformers_loads_the_saved_folder(both: Both, tmp_path: Path) -> None:
    both.torch().save_pretrained(tmp_path)
    again, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert {name: keys for name, keys in info.items() if keys} == {}
    assert torch.equal(again(both.tokens).logits, both.theirs(both.tokens).logits)


@pytest.mark.parametrize("kind", ["su", "yarn"])
def test_first_files_of_phi3(kind: str, tmp_path: Path) -> None:
    """With other names for LongRoPE, and its parameters outside `rope_parameters`.

    `transformers` 5 is meant to read both names, but fails on "su".
    """
    both = Both(tmp_path, *VARIANTS["phi3-longrope"])
    said = json.loads((tmp_path / "config.json").read_text())
    rope = said.pop("rope_parameters")
    factors = {name: rope[name] for name in ("short_factor", "long_factor")}
    said |= {name: rope[name] for name in ("rope_theta", "partial_rotary_factor")}
    said |= {"rope_scaling": {"type": kind, **factors}}
    (tmp_path / "config.json").write_text(json.dumps(said))
    assert (torch_logits(both) - both.theirs(both.tokens).logits).abs().max() <= TOLERANCES["logits"]


def test_text_part_of_a_multimodal_model(tmp_path: Path) -> None:
    """With both spellings of its tensor names, and with the config.json of `transformers` before 5."""
    text = tiny_config("gemma3_text").to_dict()
    eye = {"num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "hidden_size": 8, "intermediate_size": 8}
    config = transformers.Gemma3Config(text_config=text, vision_config=eye, mm_tokens_per_image=4)
    theirs = transformers.Gemma3ForConditionalGeneration(config).eval()
    randomize(theirs)
    tokens = torch.randint(3, 99, (2, 12), generator=torch.Generator().manual_seed(1))
    expected = theirs(tokens).logits
    theirs.save_pretrained(tmp_path / "files")
    ours = TextDecoder.from_pretrained(tmp_path / "files")
    assert (ours(tokens).logits - expected).abs().max() <= TOLERANCES["logits"]
    save_file(
        {name: tensor.clone() for name, tensor in theirs.state_dict().items()}, tmp_path / "files/model.safetensors"
    )
    said = json.loads((tmp_path / "files/config.json").read_text())
    half = said["text_config"]
    half |= {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window_pattern": 2}
    del half["rope_parameters"], half["layer_types"], half["_sliding_window_pattern"]
    (tmp_path / "files/config.json").write_text(json.dumps(said))
    ours = TextDecoder.from_pretrained(tmp_path / "files")
    assert (ours(tokens).logits - expected).abs().max() <= TOLERANCES["logits"]
    ours.save_pretrained(tmp_path / "ours")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert type(again) is transformers.Gemma3ForCausalLM
    assert (again(tokens).logits - expected).abs().max() <= TOLERANCES["logits"]
