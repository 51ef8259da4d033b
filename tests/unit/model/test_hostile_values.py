"""Values that no result can come from, in both backends: NaN weights and scores, masks that are none, forbidden ids."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dragoman import FlaxSpeechEncoderDecoderModel, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.checkpoint.filling import all_finite
from dragoman.checkpoint.report import LoadReport
from dragoman.errors import CheckpointError, ConfigError, GenerationError
from dragoman.testing.configs import tiny_config

IDS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0}
VOCABULARY = 99


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    config = SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=tiny_config("bert"), **IDS)
    torch.manual_seed(0)
    SpeechEncoderDecoderModel(config=config).save_pretrained(path)
    return path


@pytest.fixture(scope="module", params=[SpeechEncoderDecoderModel, FlaxSpeechEncoderDecoderModel], ids=["torch", "jax"])
def model(request: pytest.FixtureRequest, folder: Path) -> Any:
    return request.param.from_pretrained(folder)


def audio(model: Any, rows: int = 1) -> Any:
    waves = np.random.default_rng(0).normal(size=(rows, 4000)).astype(np.float32)
    return torch.from_numpy(waves) if model.backend == "torch" else waves


def array(model: Any, values: Any) -> Any:
    return torch.tensor(values) if model.backend == "torch" else np.asarray(values)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_nan_or_infinity_in_a_tensor_is_found(dtype: str, value: float) -> None:
    tensor = torch.full((300,), torch.finfo(getattr(torch, dtype)).max, dtype=getattr(torch, dtype))  # its sum is too
    arrays = [tensor] if dtype == "bfloat16" else [tensor, tensor.numpy()]
    assert all(map(all_finite, arrays))
    tensor[17] = value
    assert not any(map(all_finite, arrays))
    assert all_finite(torch.arange(3))
    assert all_finite(np.arange(3))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("cls", [SpeechEncoderDecoderModel, FlaxSpeechEncoderDecoderModel])
def test_damaged_weights_are_named(cls: Any, value: float, folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    names = [name for name in tensors if name.endswith(("k_proj.weight", "output.dense.bias"))]
    for name in names:
        tensors[name].view(-1)[0] = value
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"^{len(names)} tensors of .* have NaN or infinite values .*k_proj"):
        cls.from_pretrained(tmp_path)
    cls.from_pretrained(tmp_path, allow_nan=True)
    (tmp_path / "model.safetensors").unlink()
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    if cls is SpeechEncoderDecoderModel:
        with pytest.raises(CheckpointError, match="NaN or infinite"):
            cls.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "options", [{}, {"num_beams": 3}, {"do_sample": True}, {"penalty_alpha": 0.5, "top_k": 3}, {"max_time": 60.0},
                {"num_beams": 2, "force_words_ids": [[5]]}, {"num_beams": 2, "max_time": 60.0}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("cls", [SpeechEncoderDecoderModel, FlaxSpeechEncoderDecoderModel])
def test_nan_in_the_scores_is_an_error(cls: Any, options: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("cls.predictions.transform.LayerNorm.bias"))
    tensors[name][0] = float("nan")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    model = cls.from_pretrained(tmp_path, allow_nan=True)
    with pytest.raises(GenerationError, match="No token could be chosen in rows 0, 1"):
        model.generate(audio(model, 2), max_new_tokens=4, **options)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"suppress_tokens": list(range(VOCABULARY))}, "forbids all 99 tokens"),
        ({"bad_words_ids": [[i] for i in range(VOCABULARY)], "eos_token_id": None}, "every token was forbidden"),
        ({"bad_words_ids": [[i] for i in range(VOCABULARY)], "eos_token_id": None, "num_beams": 2}, "was forbidden"),
        ({"pad_token_id": VOCABULARY}, "`pad_token_id` must be from 0 to 98"),
        ({"forced_decoder_ids": [[1, 10**9]]}, "`forced_decoder_ids` must be from 0 to 98"),
        ({"forced_decoder_ids": [[3, VOCABULARY]]}, "`forced_decoder_ids` must be from 0 to 98"),
        ({"forced_decoder_ids": [[1, "x"]]}, "list of pairs"),
        ({"num_beams": 10**9}, "at most 100000"),
        ({"prefix_allowed_tokens_fn": lambda row, tokens: [VOCABULARY]}, "must return token ids from 0 to 98"),
        ({"prefix_allowed_tokens_fn": lambda row, tokens: [-1]}, "must return token ids from 0 to 98"),
        ({"prefix_allowed_tokens_fn": lambda row, tokens: [1.5]}, "must return token ids from 0 to 98"),
        ({"logits_processor": [lambda tokens, scores: None]}, "returned a NoneType"),
        ({"logits_processor": [lambda tokens, scores: scores[:, :5]]}, r"returned the shape \[1, 5\]"),
        ({"logits_processor": [lambda tokens, scores: scores * float("nan")]}, "scores are NaN"),
    ],
)
def test_impossible_requests_are_errors(model: Any, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        model.generate(audio(model), max_new_tokens=3, **options)


@pytest.mark.parametrize("value", [2.0, -1.0, 0.5, float("nan")])
@pytest.mark.parametrize("name", ["attention_mask", "decoder_attention_mask"])
def test_masks_hold_zeros_and_ones_only(model: Any, name: str, value: float) -> None:
    tokens = array(model, [[0, 5, 6]])
    length = 4000 if name == "attention_mask" else 3
    mask = np.ones((1, length), np.float32)
    mask[0, 1] = value
    given = {"attention_mask": array(model, np.ones((1, 4000), np.float32)), name: array(model, mask)}
    with pytest.raises(ConfigError, match=f"`{name}` must hold only"):
        model(audio(model), decoder_input_ids=tokens, **given)
    with pytest.raises(ConfigError, match=f"`{name}` must hold only"):
        model.generate(audio(model), decoder_input_ids=tokens, max_new_tokens=3, **given)


@pytest.mark.parametrize("cls", [SpeechEncoderDecoderModel, FlaxSpeechEncoderDecoderModel])
def test_huge_tables_of_positions_are_not_computed(cls: Any, tmp_path: Path) -> None:
    config = SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=tiny_config("marian"), **IDS)
    SpeechEncoderDecoderModel(config=config).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop("decoder.model.decoder.embed_positions.weight", None)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    changed = json.loads((tmp_path / "config.json").read_text())
    changed["decoder"]["max_position_embeddings"] = 2**22
    (tmp_path / "config.json").write_text(json.dumps(changed))
    with pytest.raises(CheckpointError, match=r"position tables of .* at most 16,777,216 are computed"):
        cls.from_pretrained(tmp_path)


def test_thousands_of_unknown_names_are_reported_in_linear_time() -> None:
    report = LoadReport(unexpected=[str(i) for i in range(50_000)])
    start = time.process_time()
    with pytest.raises(CheckpointError, match=r"50000 unexpected \(\{0-49999\}\)"):
        report.raise_if_unfit()
    assert time.process_time() - start < 2
