"""Speech2Text2 against recorded results of `transformers` 4.40, one of the last releases with it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from dragoman import AutoProcessor, AutoTokenizer, Speech2Text2Processor, SpeechEncoderDecoderModel
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.testing import TOLERANCES

GOLDEN = Path(__file__).parents[1] / "golden/speech_to_text_2"
COMPUTED = "decoder.model.decoder.embed_positions.weights"


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "expected.safetensors")


def speech(expected: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: expected[name] for name in ("inputs", "attention_mask")}


def test_model(expected: dict[str, torch.Tensor]) -> None:
    model = SpeechEncoderDecoderModel.from_pretrained(GOLDEN / "model")
    assert model.load_report.fresh == []
    assert model.load_report.dropped == {COMPUTED: "computed, not learned"}
    with torch.no_grad():
        found = model(**speech(expected), labels=expected["labels"])
    assert (found.logits - expected["logits"]).abs().max() <= TOLERANCES["logits"]
    assert abs(found.loss - expected["loss"]) <= TOLERANCES["loss"]
    assert len({tuple(text) for text in expected["greedy"].tolist()}) > 3, "texts must depend on the speech"
    for name, beams in ("greedy", 1), ("beam", 5):
        texts = model.generate(**speech(expected), num_beams=beams, max_new_tokens=12)
        assert texts.tolist() == expected[name].tolist()


def test_in_jax(expected: dict[str, torch.Tensor]) -> None:
    model = FlaxSpeechEncoderDecoderModel.from_pretrained(GOLDEN / "model")
    batch: dict[str, Any] = {name: tensor.numpy() for name, tensor in speech(expected).items()}
    logits = model(**batch, labels=expected["labels"].numpy()).logits
    assert np.abs(np.asarray(logits) - expected["logits"].numpy()).max() <= TOLERANCES["logits"]
    texts = model.generate(**batch, num_beams=5, max_new_tokens=12)
    assert np.asarray(texts).tolist() == expected["beam"].tolist()


def test_saved_file_equals_the_original_without_computed_tensors(tmp_path: Path) -> None:
    model = SpeechEncoderDecoderModel.from_pretrained(GOLDEN / "model")
    model.save_pretrained(tmp_path)
    with (
        safe_open(GOLDEN / "model/model.safetensors", "pt") as theirs,
        safe_open(tmp_path / "model.safetensors", "pt") as ours,
    ):
        assert set(ours.keys()) == set(theirs.keys()) - {COMPUTED}
        assert all(torch.equal(ours.get_tensor(name), theirs.get_tensor(name)) for name in list(ours.keys()))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["decoder"]["model_type"] == "speech_to_text_2"


def test_tokenizer(tmp_path: Path) -> None:
    ours = AutoTokenizer.from_pretrained(GOLDEN / "model")
    ours.save_pretrained(tmp_path)
    for tokenizer in ours, AutoTokenizer.from_pretrained(tmp_path):
        for text in json.loads((GOLDEN / "texts.json").read_text()):
            assert tokenizer(text["text"])["input_ids"] == text["ids"]
            assert tokenizer.decode(text["ids"]) == text["back"]


def test_processor() -> None:
    processor = AutoProcessor.from_pretrained(GOLDEN / "model")
    assert type(processor) is Speech2Text2Processor
    batch = processor(np.zeros(700, np.float32), text="hello world", sampling_rate=16_000)
    assert batch["labels"] == [5, 8, 7, 9]
