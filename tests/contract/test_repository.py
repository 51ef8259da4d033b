"""Rules of the repository that no other tool checks: sizes, machine paths, version, scripts."""

import os
import re
import runpy
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

from dragoman import _version

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if not path.name.startswith("_"))


@cache
def tracked() -> tuple[Path, ...]:
    """The files tracked by git, or all files in an unpacked archive."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git clone")
    paths = (ROOT / name for name in listing.stdout.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def test_no_large_files() -> None:
    sizes = {path: path.stat().st_size for path in tracked()}
    assert sizes
    assert {path for path, size in sizes.items() if size > 2_000_000} == set()


def test_no_paths_of_one_machine() -> None:
    # A home, a mounted workspace, a file below /tmp: none means anything to another reader.
    foreign = re.compile(rb"(?<![\w.~/])/(?:home|root|work|Users|mnt|tmp/\w)[/\w.-]*|\b[A-Z]:\\\\?Users")
    mine = Path(__file__).resolve()
    found = {
        f"{path.relative_to(ROOT)}: {match.group().decode()}"
        for path in tracked()
        if path.resolve() != mine
        for match in foreign.finditer(path.read_bytes())
        if b"\0" not in path.read_bytes()[:1024]
    }
    assert found == set()


def test_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project, "the version is written in _version.py only"
    number = _version.__version__.split(".dev")[0]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    heading = "## Unreleased" if ".dev" in _version.__version__ else f"## {number}"
    assert re.search(rf"^{heading}\b", changelog, re.MULTILINE)


def test_tools_are_pinned() -> None:
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert {"torch", "transformers", "ruff", "mypy", "import-linter", "mkdocs", "mkdocs-material"} <= pins.keys()


def test_extras_are_in_all_and_documented() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (everything,) = extras.pop("all")
    assert set(re.findall(r"[\w-]+", everything)) == {"dragoman", *extras}
    page = (ROOT / "docs/install.md").read_text()
    assert {name for name in extras if f"| `{name}` |" not in page} == set()


def test_contributing_page_lists_the_layers_of_the_linter() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract.get("containers") == ["dragoman"])
    # Layers in parentheses are still to come.
    lowest_first = [name for layer in reversed(layers) for name in layer.split(" | ") if "(" not in name]
    page = (ROOT / "CONTRIBUTING.md").read_text()
    table = re.search(r"^\| layer \|.*?\n\n", page, re.MULTILINE | re.DOTALL)
    assert table
    named = re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in table[0].strip().split("\n")))
    assert [*named, "__main__"] == [name.strip() for name in lowest_first]


def test_decision_records_are_listed() -> None:
    folder = ROOT / "docs/decisions"
    table = re.findall(r"^\| \[(\d{3})\]\((.+?)\) \|", (folder / "README.md").read_text(), re.MULTILINE)
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [name for _, name in table] == records
    assert [number for number, _ in table] == [f"{i:03d}" for i in range(1, len(records) + 1)]
    assert {name for name in records if not re.match(rf"# {name[:3]} \w", (folder / name).read_text())} == set()


def test_links_in_root_files_resolve() -> None:
    # mkdocs checks the pages of docs/.
    for page in ROOT.glob("*.md"):
        links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
        assert [link for link in links if not (ROOT / link).exists()] == [], page.name


def test_family_tables_are_current() -> None:
    tables = runpy.run_path(str(Path(__file__).with_name("family_tables.py")))
    page = tables["PAGE"].read_text()
    assert page == tables["written"](page), "run: python tests/contract/family_tables.py"


def test_matrix_is_current() -> None:
    matrix = runpy.run_path(str(Path(__file__).with_name("matrix_table.py")))
    assert matrix["PAGE"].read_text() == matrix["written"](), "run: python tests/contract/matrix_table.py"


def test_sample_is_short_and_labelled() -> None:
    import soundfile

    folder = ROOT / "src/dragoman/testing/data"
    audio = soundfile.info(str(folder / "sample_en.flac"))
    assert (audio.samplerate, audio.channels) == (16_000, 1)
    assert 5 < audio.duration < 10
    assert (folder / "sample_en.flac").stat().st_size < 150_000
    assert len((folder / "sample_en.txt").read_text().split()) > 15
    about = (folder / "README.md").read_text()
    assert "synthetic" in about
    assert "CC0" in about


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_executable_and_parse(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False).stderr == ""


def test_scripts_report_a_missing_python(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    for name in ("_setup.sh", "demo"):
        copy = tmp_path / "scripts" / name
        copy.write_bytes((ROOT / "scripts" / name).read_bytes())
        copy.chmod(0o755)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "cat", "cksum"):
        found = subprocess.run(["which", name], capture_output=True, text=True, check=True).stdout.strip()
        (tools / name).symlink_to(found)
    run = subprocess.run(
        [str(tools / "bash"), str(tmp_path / "scripts/demo")],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "apt install python3" in run.stderr
    assert len(run.stderr.splitlines()) == 1
