"""Regenerate the tables of options in `docs/cli.md` from the commands: `python tests/contract/cli_tables.py`."""

import re
from pathlib import Path
from typing import Any

import typer

from dragoman.cli import app

PAGE = Path(__file__).parents[2] / "docs/cli.md"
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
SECTION = re.compile(r"^## dragoman (?P<command>\w+)\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
TABLE = re.compile(r"(?P<title>^\*\*(?P<group>[^*\n]+)\*\*\n\n)?^\| option \|.*\n(?:\|.*\n)*", re.MULTILINE)


def row(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    if isinstance(option.default, bool):
        default = "on" if option.default else "off"
    elif option.default is not None:
        default = f"`{option.default}`"
    else:
        default = option.show_default if isinstance(option.show_default, str) else ""
    return f"| {names} | {default} | {option.help} |".replace("|  |", "| |")


def table(command: str, group: str | None) -> str:
    """Return the table of a group of a command's options, or of all of them."""
    options = [p for p in COMMANDS[command].params if p.param_type_name == "option" and p.name != "help"]
    rows = [row(option) for option in options if group in (None, option.rich_help_panel)]
    assert rows, f"docs/cli.md: {command} has no options in {group!r}"
    return "\n".join(["| option | default | |", "|---|---|---|", *rows, ""])


def written(page: str) -> str:
    """Return the page with the current table in place of each."""

    def section(found: re.Match[str]) -> str:
        return TABLE.sub(lambda t: (t["title"] or "") + table(found["command"], t["group"]), found[0])

    return SECTION.sub(section, page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
