"""An exported model generates what PyTorch generates from the folder beside the graphs."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dragoman import OnnxSpeechEncoderDecoderModel, SpeechEncoderDecoderModel
from dragoman.errors import CheckpointError, ConfigError, GenerationError, ModelNotFoundError
from dragoman.jax.runner import Runner as JaxRunner
from dragoman.onnx.graphs import FOLDER, GraphFacts
from dragoman.onnx.runner import Runner
from dragoman.torch.export.checking import TOLERANCE
from dragoman.torch.export.folder import export
from dragoman.torch.export.quantizing import eight_bits
from dragoman.torch.runner import Runner as TorchRunner

SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "sampling": {"do_sample": True, "top_k": 20, "seed": 5},
    "sampled-beams": {"do_sample": True, "num_beams": 2, "seed": 5},
    "beams-with-rules": {"num_beams": 3, "no_repeat_ngram_size": 2, "repetition_penalty": 1.2},
}


@pytest.fixture(params=["bert", "whisper", "llama"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


def speech(folder: Path, rows: int = 3) -> dict[str, np.ndarray]:
    """Return noise of several lengths, padded, and its mask."""
    random = np.random.default_rng(1)
    if "input_features" in OnnxSpeechEncoderDecoderModel(folder).encoder.main_input_name:
        return {"input_features": random.standard_normal((rows, 8, 60)).astype(np.float32)}
    lengths = np.array([1600, 1100, 640, 1600][:rows])
    mask = np.arange(1600) < lengths[:, None]
    audio = random.standard_normal((rows, 1600)).astype(np.float32) * mask
    return {"input_values": audio, "attention_mask": mask.astype(np.int64)}


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.mark.parametrize("search", SEARCHES)
def test_tokens_are_those_of_pytorch(folder: Path, search: str) -> None:
    given = speech(folder)
    options = {"max_new_tokens": 9, **SEARCHES[search]}
    expected = SpeechEncoderDecoderModel.from_pretrained(folder).generate(**tensors(given), **options)
    found = OnnxSpeechEncoderDecoderModel.from_pretrained(folder).generate(**given, **options)
    assert found.tolist() == expected.tolist()
    assert (
        search != "greedy" or len({tuple(row) for row in found.tolist()}) > 1
    )  # the speech matters, or this would test little


def test_a_batch_changes_nothing(folder: Path) -> None:
    model, given = OnnxSpeechEncoderDecoderModel(folder), speech(folder)
    whole = model.generate(**given, max_new_tokens=9, num_beams=3, eos_token_id=None)
    for row in range(3):
        alone = {name: array[row : row + 1] for name, array in given.items()}
        if "attention_mask" in alone:
            count = alone["attention_mask"].sum()
            alone = {"input_values": alone["input_values"][:, :count]}
        assert model.generate(**alone, max_new_tokens=9, num_beams=3, eos_token_id=None).tolist() == [
            whole[row].tolist()
        ]


def test_runner_agrees_with_that_of_pytorch(folder: Path) -> None:
    given, prompt = speech(folder), np.array([[0, 5], [0, 6], [0, 7]])
    ours, theirs = Runner.load(folder, "cpu"), TorchRunner.load(folder, "cpu")
    encoded, expected = ours.encode(given), theirs.encode(given)
    assert ours.max_text_length(encoded) == theirs.max_text_length(expected)
    np.testing.assert_allclose(ours.next_log_probs(encoded, prompt), theirs.next_log_probs(expected, prompt), atol=1e-4)
    some, others = ours.take(encoded, [2, 0]), theirs.take(expected, [2, 0])
    tokens, log_probs = ours.generate(some, prompt[:2], max_new_tokens=6, num_beams=2)
    wanted, wanted_log_probs = theirs.generate(others, prompt[:2], max_new_tokens=6, num_beams=2)
    assert tokens.tolist() == wanted.tolist()
    np.testing.assert_allclose(log_probs, wanted_log_probs, atol=1e-4)
    if ours.facts.has_cross_attention:
        heads = [(1, 0), (0, 1), (1, 1)]
        for mine, other in zip(
            ours.cross_attention(encoded, prompt, heads), theirs.cross_attention(expected, prompt, heads), strict=True
        ):
            np.testing.assert_allclose(mine, other, atol=1e-5)


def test_runners_take_prompts_as_they_are(folder: Path) -> None:
    """Also those that do not begin with the start id: the text before a window, in a Whisper's prompt."""
    given, prompt = speech(folder), np.array([[9, 5, 0, 8], [9, 6, 0, 8], [7, 5, 0, 8]])
    for runner in (
        Runner.load(folder, "cpu"),
        TorchRunner.load(folder, "cpu"),
        JaxRunner.load(folder, JaxRunner.device("auto")),
    ):
        encoded = runner.encode(given)
        wanted = runner.next_log_probs(encoded, prompt)
        tokens, log_probs = runner.generate(encoded, prompt, max_new_tokens=3, suppress_tokens=None)
        assert tokens.shape[1] <= 3
        assert tokens[:, 0].tolist() == wanted.argmax(1).tolist()
        np.testing.assert_allclose(log_probs[:, 0], wanted.max(1), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"output_attentions": True, "return_dict_in_generate": True}, "`output_attentions`"),
        ({"penalty_alpha": 0.5, "top_k": 4}, "contrastive"),
        (
            {
                "decoder_input_ids": np.array([[1, 5], [6, 5]]),
                "decoder_attention_mask": np.array([[0, 1], [1, 1]]),
            },
            "different lengths",
        ),
    ],
)
def test_what_graphs_cannot_do_is_refused(bert: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(GenerationError, match=named):
        OnnxSpeechEncoderDecoderModel(bert).generate(**speech(bert, 2), **options)


def test_only_the_cpu(bert: Path) -> None:
    assert Runner.device("auto") == "cpu"
    with pytest.raises(ConfigError, match="cuda"):
        Runner.device("cuda")
    with pytest.raises(ConfigError, match="torch or jax"):
        Runner.load(bert, "cpu").language_model("some/model")


def copied(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def test_a_folder_without_graphs_says_how_to_write_them(bert: Path, tmp_path: Path) -> None:
    folder = copied(bert, tmp_path / "plain")
    shutil.rmtree(folder / FOLDER)
    with pytest.raises(ModelNotFoundError, match="dragoman export"):
        OnnxSpeechEncoderDecoderModel(folder)


def test_graphs_of_another_version_are_refused(bert: Path, tmp_path: Path) -> None:
    folder = copied(bert, tmp_path / "old")
    path = GraphFacts.path(folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 0}))
    with pytest.raises(CheckpointError, match="Export the model again"):
        OnnxSpeechEncoderDecoderModel(folder)


def test_graphs_of_another_model_are_refused(bert: Path, llama: Path, tmp_path: Path) -> None:
    folder = copied(bert, tmp_path / "mixed")
    shutil.copy(llama / "config.json", folder)
    with pytest.raises(CheckpointError, match="another model"):
        OnnxSpeechEncoderDecoderModel(folder)


@pytest.mark.parametrize("name", ["decoder.onnx", "weights.bin"])
def test_a_cut_file_is_reported(bert: Path, tmp_path: Path, name: str) -> None:
    folder = copied(bert, tmp_path / "cut")
    path = folder / FOLDER / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="ONNX Runtime cannot read"):
        OnnxSpeechEncoderDecoderModel(folder)


def test_all_graphs_share_one_file_of_weights(bert: Path) -> None:
    sizes = [one.nbytes for one in SpeechEncoderDecoderModel.from_pretrained(bert).parameters()]
    aligned = 4096 * sum(size >= 1024 for size in sizes)
    assert (bert / FOLDER / "weights.bin").stat().st_size < sum(sizes) + 2 * aligned


@pytest.mark.parametrize("decoder", ["whisper", "llama"])
def test_eight_bits_are_close_and_batches_change_nothing(build: Any, decoder: str, tmp_path: Path) -> None:
    model = build("wav2vec2", decoder, **({"fusion": "prefix"} if decoder == "llama" else {}))
    apart = export(model, tmp_path, "int8")
    assert 1e-4 < apart.largest < TOLERANCE["int8"]
    runner, given = Runner.load(tmp_path, "cpu"), speech(tmp_path)
    whole = runner.next_log_probs(runner.encode(given), np.array([[0, 5]] * 3))
    for row in range(3):
        alone = {name: array[row : row + 1, : given["attention_mask"][row].sum()] for name, array in given.items()}
        found = runner.next_log_probs(runner.encode(alone), np.array([[0, 5]]))
        np.testing.assert_allclose(found[0], whole[row], atol=1e-4)


def test_eight_bits_of_a_weight() -> None:
    weight = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    weight[:, 3] = 0
    numbers, scales = eight_bits(weight)
    assert numbers.dtype == np.uint8
    assert np.abs((numbers.astype(np.float32) - 128) * scales - weight).max() <= scales.max() / 2 + 1e-6
