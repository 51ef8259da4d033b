"""Hints how to install something fit how dragoman was installed, and do not name it on the index before it is there."""

import json
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from dragoman import _install
from dragoman._install import install_command
from dragoman._lazy import EXTRAS, require
from dragoman.cli import main
from dragoman.errors import MissingDependencyError

REQUIRES = [
    'av>=14 ; extra == "media"',
    'dragoman[media,gguf] ; extra == "all"',
    "gguf>=0.17; extra == 'gguf'",
    "numpy",
]


class Installed:
    requires = REQUIRES

    def __init__(self, record: object) -> None:
        self.record = record

    def read_text(self, name: str) -> str | None:
        return None if self.record is None else json.dumps(self.record)


@pytest.fixture
def installed(monkeypatch, tmp_path):
    def install(record, checkout=None):
        monkeypatch.setattr(_install, "_distribution", lambda: Installed(record))
        monkeypatch.setattr(_install, "_CHECKOUT", checkout or tmp_path / "nowhere")
        _install.origin.cache_clear()

    yield install
    monkeypatch.undo()
    _install.origin.cache_clear()


def test_the_command_fits_the_installation(installed, tmp_path):
    folder, wheel = tmp_path / "a clone", tmp_path / "dragoman-1-py3-none-any.whl"
    folder.mkdir()
    wheel.touch()
    installed({"url": folder.as_uri(), "dir_info": {"editable": True}})
    assert install_command("media") == f"pip install -e '{folder}[media]'"
    installed({"url": folder.as_uri(), "dir_info": {}})
    assert install_command("media") == f"pip install '{folder}[media]'"
    installed({"url": wheel.as_uri(), "archive_info": {}})
    assert install_command("media") == f"pip install '{wheel}[media]'"
    installed({"url": "https://host/d.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}})
    assert install_command("media") == "pip install 'dragoman[media] @ git+https://host/d.git@abc'"
    wheel.unlink()
    installed({"url": wheel.as_uri(), "archive_info": {}})  # the wheel is gone: the packages themselves
    assert install_command("all") == "pip install 'av>=14' 'gguf>=0.17'"
    installed(None, Path(_install.__file__).parents[2])  # a checkout that is not installed
    assert install_command("media").startswith("pip install -e '")


def test_without_an_installation(monkeypatch, tmp_path):
    def none(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(_install, "distribution", none)
    monkeypatch.setattr(_install, "_CHECKOUT", tmp_path)
    _install.origin.cache_clear()
    assert install_command("gguf") == "pip install 'gguf'"
    _install.origin.cache_clear()


def test_no_hint_names_dragoman_on_the_index(installed, monkeypatch):
    installed(None)
    for extra in set(EXTRAS.values()):
        assert "dragoman" not in install_command(extra)
    monkeypatch.setattr(_install, "_ON_INDEX", True)
    assert install_command("gguf") == "pip install 'dragoman[gguf]'"


def test_no_page_or_module_sends_people_to_the_index():
    root = Path(_install.__file__).parents[2]
    pages = [
        *root.glob("*.md"),
        *(root / "docs").rglob("*.md"),
        *(root / "src").rglob("*.py"),
        *(root / "recipes").rglob("*"),
    ]
    own = Path(_install.__file__)
    found = [
        (path.name, line)
        for path in pages
        if path.is_file() and path != own and path.suffix in (".md", ".py", ".sh", "")
        for line in path.read_text(errors="replace").splitlines()
        if "pip install dragoman" in line or "pip install 'dragoman" in line or 'pip install "dragoman' in line
    ]
    assert found == []


def test_missing_packages_are_named_with_the_command(installed, monkeypatch):
    installed(None)
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(MissingDependencyError, match=r"needs the package `gguf`.*pip install 'gguf>=0.17'"):
        require("gguf", "This")


def test_doctor_names_what_is_installed_and_missing(capsys, monkeypatch):
    doctor = import_module("dragoman.cli.doctor")

    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name in ("av", "flax", "jax") else name)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "missing    media         m4a, mp4, webm and other formats that FFmpeg reads. Install it with: " in out
    assert install_command("media") in out
    assert "installed  torch         models in PyTorch (torch " in out
    assert "\nprocessor: " in out
    assert "\ntorch: PyTorch " in out
    assert "\njax: " not in out
