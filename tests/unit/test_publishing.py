"""Uploads, against a stand-in for the hub in a process of its own, from where both libraries download them again."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import dragoman
from dragoman.errors import ConfigError, DragomanError
from dragoman.publishing import language_codes
from dragoman.testing import tiny_config


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The endpoint, and the folder where repositories arrive."""
    root = tmp_path_factory.mktemp("hub")
    server = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("stand_in_hub.py"), root], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    yield f"http://127.0.0.1:{int(server.stdout.readline())}", root
    server.terminate()
    server.wait()
    server.stdout.close()


def run(hub: tuple[str, Path], home: Path, code: str, *arguments: Any, token: str = "right") -> str:
    """Run a program whose hub is the stand-in, and return its output."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env |= {"HF_HOME": str(home), "HF_ENDPOINT": hub[0], "HF_TOKEN": token, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


PUSH = """
import sys, dragoman
folder, own = sys.argv[1], sys.argv[2]
model = dragoman.SpeechEncoderDecoderModel.from_pretrained(folder)
processor = dragoman.AutoProcessor.from_pretrained(folder)
url = model.push_to_hub("org/speech", commit_message="First", private=True, tags=["arabic"])
print(url, url.oid)
processor.push_to_hub("org/speech")
model.save_pretrained(own + "/named", push_to_hub=True)
processor.save_pretrained(own + "/named", push_to_hub=True, repo_id="me/named")
model.decoder.push_to_hub("org/decoder", revision="draft")
processor.tokenizer.push_to_hub("org/tokenizer")
processor.feature_extractor.push_to_hub("org/features")
model.config.push_to_hub("org/config")
model.push_to_hub("org/speech", tags=["second"])
try:
    model.push_to_hub("org/speech", token="wrong")
except dragoman.DragomanError as error:
    print(error)
"""

LOAD = """
import numpy as np, torch, transformers, dragoman
wave = np.sin(np.arange(4000) / 9).astype(np.float32)
for library in (dragoman, transformers):
    model = library.SpeechEncoderDecoderModel.from_pretrained("org/speech").eval()
    ids = torch.tensor([[1, 2, 3]])
    print(model(inputs=torch.from_numpy(wave)[None], decoder_input_ids=ids).logits.sum().item())
processor = dragoman.AutoProcessor.from_pretrained("org/speech")
print(processor(wave, sampling_rate=16_000, return_tensors="np").input_values.shape)
named = dragoman.SpeechEncoderDecoderModel.from_pretrained("me/named")
print(named.name_or_path, named.config.name_or_path)
print(dragoman.TextDecoder.from_pretrained("org/decoder").name_or_path)
"""


def test_upload_and_back(hub: tuple[str, Path], tiny_checkpoint: Path, tmp_path: Path) -> None:
    url, oid, *error = run(hub, tmp_path / "home", PUSH, tiny_checkpoint, tmp_path).split(maxsplit=2)
    _, root = hub
    assert url.startswith(f"{hub[0]}/org/speech/commit/")
    assert oid in url
    assert "'org/speech' cannot be uploaded to http://127.0.0.1" in error[0]
    assert "the token may write: pass `token`" in error[0]
    assert '"private"' in (root / "org/speech/.created").read_text()
    names = {path.name for path in (root / "org/speech").iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "README.md", "tokenizer.json"} <= names
    assert {path.name for path in (root / "me/named").iterdir()} == names
    assert (tmp_path / "named/config.json").is_file()
    assert '"revision": "draft"' in (root / "org/decoder/.commit").read_text()
    assert (root / "org/tokenizer/tokenizer_config.json").is_file()
    assert (root / "org/features/preprocessor_config.json").is_file()
    assert [path.name for path in (root / "org/config").glob("[!.]*")] == ["config.json"]
    card = (root / "org/speech/README.md").read_text()
    assert card.startswith("---\nlibrary_name: dragoman\npipeline_tag: automatic-speech-recognition\ntags:\n")
    assert all(f"- {tag}\n" in card for tag in ("wav2vec2", "gpt2", "arabic", "second"))
    assert "A wav2vec2 encoder and a gpt2 decoder, " in card
    assert 'SpeechEncoderDecoderModel.from_pretrained("org/speech")' in card
    assert str(tiny_checkpoint) not in card

    first, second, shape, named, part = run(hub, tmp_path / "other", LOAD).strip().splitlines()
    assert abs(float(first) - float(second)) < 1e-2
    assert shape == "(1, 4000)"
    assert named == "me/named me/named"
    assert part == "org/decoder"


def test_saving_without_an_upload_knows_no_repository(tiny_checkpoint: Path, tmp_path: Path) -> None:
    model = dragoman.SpeechEncoderDecoderModel.from_pretrained(tiny_checkpoint)
    with pytest.raises(ConfigError, match="`repo_id` is not an option"):
        model.save_pretrained(tmp_path, repo_id="org/x")
    with pytest.raises(ConfigError, match="`repo` is not an option"):
        dragoman.AutoProcessor.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path, repo="org/x")


def test_an_upload_that_fails_leaves_the_folder(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = dragoman.SpeechEncoderDecoderModel.from_pretrained(tiny_checkpoint)
    with pytest.raises(DragomanError, match="'org/x' cannot be uploaded"):
        model.save_pretrained(tmp_path, push_to_hub=True, repo_id="org/x")
    assert torch.equal(
        dragoman.SpeechEncoderDecoderModel.from_pretrained(tmp_path).bridge.proj.weight, model.bridge.proj.weight
    )


def test_card_names_what_is_known() -> None:
    config = dragoman.SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=tiny_config("t5"))
    config.encoder.name_or_path, config.decoder.name_or_path = "facebook/wav2vec2-base", "/srv/models/t5"
    for cls in (dragoman.SpeechEncoderDecoderModel, dragoman.FlaxSpeechEncoderDecoderModel):
        model = cls(config=config)
        model.generation_config.language = "<|ar|>"
        card = model.hub_card("org/arabic")
        assert "base_model:\n- facebook/wav2vec2-base\n---" in card
        assert "language:\n- ar\n" in card
        assert "/srv/models" not in card
        assert "# arabic\n" in card
        assert "`transformers` cannot load it: it cannot build a model with this 't5' decoder." in card
        assert f"{cls.__name__}.from_pretrained" in card
        assert model.name_or_path == ""


def test_language_codes() -> None:
    assert language_codes(["en_XX", "<|ar|>", "de", None, "english", "de"]) == ["en", "ar", "de"]
