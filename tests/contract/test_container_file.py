"""The container file installs extras that exist, and starts the command with options that exist."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import typer

from dragoman.cli import app

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Containerfile").read_text()
LINES = [line for line in re.sub(r"\\\n\s*", "", TEXT).splitlines() if line and not line.startswith("#")]


def words(name: str) -> list[str]:
    (given,) = (line.partition(" ")[2] for line in LINES if line.startswith(f"{name} "))
    return json.loads(given)


def test_the_options_exist() -> None:
    program, *arguments = words("ENTRYPOINT") + words("CMD")
    assert program == "dragoman"
    command = typer.main.get_command(app).commands[arguments[0]]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in arguments if word.startswith("--")} <= known


def test_the_extras_and_files_exist() -> None:
    (install,) = (line for line in LINES if "pip install" in line)
    given = shlex.split(install)
    extras = re.fullmatch(r"\.\[(.*)\]", given[-1])[1].split(",")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) <= declared.keys()
    assert "server" in extras
    assert (ROOT / given[given.index("-c") + 1]).exists()


def test_it_runs_as_a_user_without_rights() -> None:
    users = [line.partition(" ")[2] for line in LINES if line.startswith("USER ")]
    assert users == ["10001"]
    assert LINES.index("USER 10001") < next(i for i, line in enumerate(LINES) if line.startswith("ENTRYPOINT"))


def test_both_tools_leave_out_the_same_files() -> None:
    assert (ROOT / ".containerignore").read_text() == (ROOT / ".dockerignore").read_text()
