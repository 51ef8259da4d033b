"""docs/cli.md and the command line agree: exactly the real options are documented, with their defaults."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from dragoman.cli import app

PAGE = (Path(__file__).parents[2] / "docs/cli.md").read_text()
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
SECTIONS = dict(re.findall(r"^## dragoman (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
ROW = re.compile(r"^\| (?P<names>`-[^|]*) \| (?P<default>[^|]*?) ?\|", re.MULTILINE)


def documented(command: str) -> dict[str, str]:
    rows = ROW.finditer(SECTIONS[command])
    return {name: row["default"].strip("`") for row in rows for name in re.findall(r"`(-[^`]+)`", row["names"])}


def test_every_command_has_a_section() -> None:
    assert SECTIONS.keys() == COMMANDS.keys()


def test_tables_are_those_of_the_commands() -> None:
    tables = runpy.run_path(str(Path(__file__).with_name("cli_tables.py")))
    assert tables["written"](PAGE) == PAGE, "run: python tests/contract/cli_tables.py"


def test_the_options_of_training_are_documented() -> None:
    tables = runpy.run_path(str(Path(__file__).with_name("training_tables.py")))
    page = tables["PAGE"].read_text()
    assert tables["written"](page) == page, "run: python tests/contract/training_tables.py"


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_options_equal_the_real_ones(command: str) -> None:
    options = [p for p in COMMANDS[command].params if p.param_type_name == "option" and p.name != "help"]
    table = documented(command)
    assert set(table) == {name for option in options for name in (*option.opts, *option.secondary_opts)}
    for option in options:
        says = table[option.opts[0]]
        if isinstance(option.default, bool):
            assert says == ("on" if option.default else "off"), option.name
        elif option.default is not None:
            assert says == str(option.default), option.name


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help(command: str | None) -> None:
    dragoman = Path(sys.executable).with_name("dragoman")
    words = [str(dragoman), *([command] if command else []), "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={"COLUMNS": "200", "PATH": ""})
    assert (done.returncode, done.stderr) == (0, "")
    known = COMMANDS if command is None else documented(command)
    assert [name for name in known if name not in done.stdout] == []


@pytest.mark.parametrize(
    "page", ["README.md", "docs/index.md", "docs/quickstart.md", "docs/guide.md", "docs/ar/guide.md"]
)
def test_options_named_elsewhere_exist(page: str) -> None:
    text = (Path(__file__).parents[2] / page).read_text()
    for command, rest in re.findall(r"dragoman (transcribe|inspect)([^\n#]*)", text):
        assert set(re.findall(r"(?<!\S)--?[a-z_]+", rest)) <= documented(command).keys(), page
