"""Folders are exchanged with `transformers` 4.57 and 5, in both directions: the same logits.

Each release runs in its own process (`interchange_peer.py`). Release 4.57 is installed once, with the two packages that
it needs older, below `.cache/` of the repository, which needs a package registry; the rest is this environment's.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from dragoman import CheckpointError, DragomanError, ModelNotFoundError, SpeechEncoderDecoderModel, UntrustedFileError
from dragoman.testing import tiny_config

ROOT = Path(__file__).parents[2]
PEER = Path(__file__).with_name("interchange_peer.py")
OLD = "4.57.6"
OLD_PACKAGES = (f"transformers=={OLD}", "tokenizers==0.22.1", "huggingface_hub==0.36.0")
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
IDS = {"decoder_start_token_id": 3, "pad_token_id": 1, "eos_token_id": 2}
PAIRS: dict[str, tuple[str, dict[str, Any], str]] = {
    "wav2vec2-bert": ("wav2vec2", {}, "bert"),
    "adapter-mbart": ("wav2vec2", {**LARGE, "add_adapter": True}, "mbart"),
    "hubert-gpt2": ("hubert", LARGE, "gpt2"),
    "hubert-bart": ("hubert", {}, "bart"),
}
LAYOUTS = ("safetensors", "sharded", "bin", "sharded-bin")


@dataclass(frozen=True)
class Peer:
    """An environment with `transformers`, and the folder of the exchange."""

    packages: Path | None
    root: Path

    def do(self, what: str) -> None:
        """Write or read in that environment."""
        command = [sys.executable, str(PEER), what, str(self.root)]
        env = os.environ if self.packages is None else {**os.environ, "PYTHONPATH": str(self.packages)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, done.stderr[-3000:]


def old_packages() -> Path:
    """Return a folder of packages with `transformers` 4.57 and what it needs older than this environment's."""
    folder = ROOT / ".cache" / f"transformers-{OLD}"
    if not (folder / "complete").is_file():
        command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run(
            [*command, "--upgrade", "--target", str(folder), *OLD_PACKAGES], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            reason = (done.stderr.strip() or "no message").splitlines()[-1]
            pytest.skip(f"transformers {OLD} cannot be installed here: {reason}")
        (folder / "complete").touch()
    return folder


@pytest.fixture(
    scope="module",
    params=[
        "5.x",
        pytest.param(OLD, marks=[pytest.mark.slow, pytest.mark.network]),
    ],
)
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Peer:
    """A release of `transformers` that has written a model of every pair in every layout."""
    packages = None if request.param == "5.x" else old_packages()
    root = tmp_path_factory.mktemp("exchange")
    flags = {"is_decoder": True, "add_cross_attention": True}
    cases = {
        f"{name}-{layout}": {
            "encoder": tiny_config(encoder, **fields).to_dict(),
            "decoder": tiny_config(decoder, **flags).to_dict(),
            "ids": IDS,
            "layout": layout,
        }
        for name, (encoder, fields, decoder) in PAIRS.items()
        for layout in LAYOUTS
    }
    (root / "cases.json").write_text(json.dumps(cases))
    found = Peer(packages, root)
    found.do("write")
    return found


def load(folder: Path) -> SpeechEncoderDecoderModel:
    model = SpeechEncoderDecoderModel.from_pretrained(folder)
    model.set_padding("reference")  # in `transformers`, padding affects group norms and adapters
    return model


def check(model: SpeechEncoderDecoderModel, expected: dict[str, torch.Tensor]) -> None:
    audio = {"inputs": expected["inputs"], "attention_mask": expected["attention_mask"]}
    with torch.no_grad():
        logits = model(**audio, decoder_input_ids=expected["tokens"]).logits
    assert logits.std() > 0.1
    assert (logits - expected["logits"]).abs().max() <= 1e-5
    assert model.generate(**audio, max_new_tokens=8, num_beams=2).tolist() == expected["ids"].tolist()


def test_folders_are_exchanged_in_both_directions(peer: Peer) -> None:
    """`transformers` writes, dragoman reads and writes, `transformers` reads and writes, dragoman reads."""
    expected = {}
    for number, folder in enumerate(sorted((peer.root / "theirs").iterdir())):
        names = {path.name for path in folder.iterdir()}
        layout = next(layout for layout in reversed(LAYOUTS) if folder.name.endswith(f"-{layout}"))
        assert ("pytorch_model" in " ".join(names)) is layout.endswith("bin"), "the peer wrote another layout"
        assert any("index.json" in name for name in names) is layout.startswith("sharded")
        expected[folder.name] = torch.load(folder / "expected.pt")
        model = load(folder)
        assert model.load_report.fresh == []
        check(model, expected[folder.name])
        model.save_pretrained(peer.root / "ours" / folder.name, max_shard_size="50KB" if number % 2 else "5GB")
    assert len(expected) == len(PAIRS) * len(LAYOUTS)
    peer.do("read")
    for name, wanted in expected.items():
        found = torch.load(peer.root / "ours" / name / "found.pt")
        assert (found["logits"] - wanted["logits"]).abs().max() <= 1e-5, name
        assert found["ids"].tolist() == wanted["ids"].tolist(), name
        check(load(peer.root / "again" / name), wanted)


@pytest.fixture
def folder(peer: Peer, tmp_path: Path) -> Callable[[str], Path]:
    """Copy a folder that the peer wrote, by layout."""

    def copy(layout: str) -> Path:
        return Path(shutil.copytree(peer.root / "theirs" / f"wav2vec2-bert-{layout}", tmp_path / layout))

    return copy


def weights(folder: Path) -> Path:
    return sorted(path for path in folder.iterdir() if path.suffix in (".bin", ".safetensors"))[-1]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("share", [0, 7, 0.5, 0.99])
def test_truncated_file_is_refused(folder: Callable[[str], Path], layout: str, share: float) -> None:
    path = weights(folder(layout))
    content = path.read_bytes()
    path.write_bytes(content[: int(share if share > 1 else share * len(content))])
    with pytest.raises(UntrustedFileError, match=path.name):
        SpeechEncoderDecoderModel.from_pretrained(path.parent)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html>", b"version https://git-lfs.github.com/spec/v1\n", b"PK\x03\x04junk", b"\x80\x04."]
)
def test_file_of_another_format_is_refused(folder: Callable[[str], Path], layout: str, content: bytes) -> None:
    path = weights(folder(layout))
    path.write_bytes(content)
    with pytest.raises(UntrustedFileError, match=path.name):
        SpeechEncoderDecoderModel.from_pretrained(path.parent)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors.index.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', '{"a": 1', "\x00\x01"])
def test_corrupt_json_is_refused(folder: Callable[[str], Path], name: str, content: str) -> None:
    path = folder("sharded") / name
    path.write_text(content)
    with pytest.raises(DragomanError, match=name):
        SpeechEncoderDecoderModel.from_pretrained(path.parent)


@pytest.mark.parametrize("layout", ["sharded", "sharded-bin"])
def test_missing_shard_is_refused(folder: Callable[[str], Path], layout: str) -> None:
    path = weights(folder(layout))
    path.unlink()
    with pytest.raises(ModelNotFoundError, match=path.name):
        SpeechEncoderDecoderModel.from_pretrained(path.parent)


def test_weights_of_another_model_are_refused(folder: Callable[[str], Path], peer: Peer) -> None:
    path = weights(folder("safetensors"))
    shutil.copy(weights(peer.root / "theirs" / "hubert-bart-safetensors"), path)
    with pytest.raises(CheckpointError, match=r"missing.*unexpected"):
        SpeechEncoderDecoderModel.from_pretrained(path.parent)


def test_pickle_that_runs_code_is_refused(folder: Callable[[str], Path], tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    path = weights(folder("bin"))
    torch.save({"weight": Trap()}, path)
    with pytest.raises(UntrustedFileError, match=path.name):
        SpeechEncoderDecoderModel.from_pretrained(path.parent)
    assert not (tmp_path / "ran").exists()


def test_pickle_of_before_2020_is_read(folder: Callable[[str], Path]) -> None:
    """PyTorch's older container, a plain pickle without a zip archive."""
    path = weights(folder("bin"))
    wanted = {name: tensor.clone() for name, tensor in load(path.parent).state_dict().items()}
    torch.save(torch.load(path), path, _use_new_zipfile_serialization=False)
    found = load(path.parent).state_dict()
    assert all(found[name].equal(tensor) for name, tensor in wanted.items())


def loads_as(folder: Path, expected: dict[str, torch.Tensor]) -> bool:
    check(load(folder), expected)
    return True


SMALL_DISK = """
import resource, signal, sys, dragoman
model = dragoman.SpeechEncoderDecoderModel.from_pretrained(sys.argv[1])
for parameter in model.parameters():
    parameter.data.zero_()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing beyond the limit then raises OSError, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
try:
    model.save_pretrained(sys.argv[1])
except dragoman.DragomanError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits of this kind")
def test_full_disk_keeps_the_old_folder(folder: Callable[[str], Path]) -> None:
    old = folder("safetensors")
    expected = torch.load(old / "expected.pt")
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    done = subprocess.run([sys.executable, "-c", SMALL_DISK, str(old)], capture_output=True, text=True, check=True)
    assert "what was there is unchanged" in done.stdout
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before
    assert loads_as(old, expected)


def test_folder_in_place_of_a_file_keeps_the_old_folder(folder: Callable[[str], Path]) -> None:
    """An error that also occurs for root, whom permissions do not stop."""
    old = folder("sharded")
    expected = torch.load(old / "expected.pt")
    model = load(old)
    (old / "model.safetensors").mkdir()
    with pytest.raises(DragomanError, match=r"model\.safetensors is a folder"):
        model.save_pretrained(old)
    (old / "model.safetensors").rmdir()
    assert loads_as(old, expected)


def test_saving_into_a_file_is_refused(folder: Callable[[str], Path], tmp_path: Path) -> None:
    model = load(folder("bin"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DragomanError, match="file"):
        model.save_pretrained(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_saved_weights_take_precedence_over_an_old_pickle(folder: Callable[[str], Path]) -> None:
    """The old pickle stays; the safetensors file takes precedence, also in `transformers`."""
    old = folder("bin")
    model = load(old)
    with torch.no_grad():
        model.decoder.head.bias.fill_(5.0)
    model.save_pretrained(old)
    assert load(old).decoder.head.bias.eq(5.0).all()
