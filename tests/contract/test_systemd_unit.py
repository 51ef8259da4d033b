"""The systemd unit on the server page is valid, and starts the command with options that exist."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from dragoman.cli import app

PAGE = Path(__file__).parents[2] / "docs/server.md"
UNIT = re.search(r"```ini\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]


def test_the_options_of_the_unit_exist() -> None:
    words = shlex.split(re.search(r"^ExecStart=\S+ (.*)$", UNIT, re.MULTILINE)[1])
    command = typer.main.get_command(app).commands[words[0]]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "dragoman.service"
    unit.write_text(UNIT.replace("/opt/dragoman/bin/dragoman", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert "dragoman.service" not in done.stderr
    assert done.returncode == 0, done.stderr
