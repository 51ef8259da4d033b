"""The wheel holds everything and works without any framework."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.network


def run(*command: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def pip(python: str | Path, *arguments: str | Path) -> None:
    run(python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    probe = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "iniconfig"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("no package registry can be reached")
    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", folder, ROOT)
    (built,) = folder.glob("dragoman-*.whl")
    return built


def test_wheel_holds_every_module_and_the_sample(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src"
    modules = {path.relative_to(source).as_posix() for path in source.rglob("*.py")}
    held = ("sample_en.flac", "sample_en.txt", "sample_en.words.tsv", "README.md")
    data = {f"dragoman/testing/data/{name}" for name in held}
    assert modules | data | {"dragoman/py.typed"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {"dragoman", wheel.name.rsplit("-", 3)[0] + ".dist-info"}


def test_base_install_works_and_names_missing_extras(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python, dragoman = tmp_path / "venv/bin/python", tmp_path / "venv/bin/dragoman"
    pip(python, "install", "--constraint", ROOT / "constraints.txt", wheel)

    run(python, "-W", "error", "-c", "from dragoman import AutoTokenizer, BertConfig, Wav2Vec2Processor; BertConfig()")
    assert "dragoman" in run(dragoman, "--version").stdout
    sample = ROOT / "src/dragoman/testing/data/sample_en.flac"
    refused = run(dragoman, "transcribe", sample, status=3)
    assert f"pip install '{wheel}[torch]'" in refused.stderr
    assert "Traceback" not in refused.stderr
