"""Regenerate the tables in `docs/families.md` from the families: `python tests/contract/family_tables.py`."""

import re
from pathlib import Path

from dragoman.cli.families import family_tables

PAGE = Path(__file__).parents[2] / "docs/families.md"


def written(page: str) -> str:
    """Return the page with the current table after each heading that has one."""
    for title, table in family_tables().items():
        page, count = re.subn(
            rf"(?<=^## {title}\n\n)(?:[|<].*\n)+",
            lambda _, lines=table: "\n".join(lines) + "\n",
            page,
            flags=re.MULTILINE,
        )
        assert count == 1, f"docs/families.md needs one table directly after the heading {title!r}"
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
