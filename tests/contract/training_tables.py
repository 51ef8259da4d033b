"""Regenerate the tables of options in `docs/training.md`: `python tests/contract/training_tables.py`."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from dragoman.training import Config

PAGE = Path(__file__).parents[2] / "docs/training.md"
TABLE = re.compile(r"^\*\*(?P<part>model|data|training|evaluation)\*\*\n\n(?:\|.*\n)*\n*", re.MULTILINE)


def table(part: str) -> str:
    """Return the heading and the table of a part."""
    options = getattr(Config(), part)
    rows = [
        f"| `{one.name}` | {shown(getattr(options, one.name))} | {one.metadata['text']} |" for one in fields(options)
    ]
    lines = [f"**{part}**", "", "| option | default | |", "|---|---|---|", *rows, "", ""]
    return "\n".join(lines).replace("|  |", "| |")


def shown(value: Any) -> str:
    """Return a default as YAML has it; nothing for none and for empty mappings."""
    if value is None or value == {}:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def written(page: str) -> str:
    """Return the page with the current tables."""
    return TABLE.sub(lambda found: table(found["part"]), page).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
