"""The commands that install what is missing, made from how dragoman itself was installed.

Until the project has its name on the Python package index, no message may ask for that name there: whoever took it
could run code on users' machines. A release sets `_ON_INDEX`, and nothing else.
"""

import json
import re
import shlex
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

_ON_INDEX = False

_CHECKOUT = Path(__file__).parents[2]


def install_command(extra: str) -> str:
    """Return the shell command that adds an extra to this installation."""
    if _ON_INDEX:
        return f"pip install 'dragoman[{extra}]'"
    kind, place = origin()
    if kind == "url":
        return f"pip install {shlex.quote(f'dragoman[{extra}] @ {place}')}"
    if kind != "unknown":
        return f"pip install {'-e ' * (kind == 'checkout')}{_quoted(f'{place}[{extra}]')}"
    return f"pip install {' '.join(map(_quoted, _requirements(extra)))}"


@cache
def origin() -> tuple[str, str]:
    """Return how dragoman was installed, and from where.

    The kinds are "checkout" (editable, or used without installation), "folder", "wheel", "url" and "unknown".
    """
    found = _distribution()
    text = None if found is None else found.read_text("direct_url.json")
    try:
        record = json.loads(text or "{}")
        url = str(record.get("url", ""))
    except (ValueError, AttributeError):
        record, url = {}, ""
    path = unquote(urlsplit(url).path)
    if url.startswith("file:") and Path(path).exists():
        if "dir_info" not in record:
            return "wheel", path
        return ("checkout" if record["dir_info"].get("editable") else "folder"), path
    if url.startswith("https:"):
        vcs = record.get("vcs_info", {})
        return "url", f"{vcs['vcs']}+{url}@{vcs['commit_id']}" if vcs else url
    if (_CHECKOUT / "pyproject.toml").is_file() and _CHECKOUT.joinpath("src") == Path(__file__).parents[1]:
        return "checkout", str(_CHECKOUT)
    return "unknown", ""


def _distribution() -> Distribution | None:
    try:
        return distribution("dragoman")
    except PackageNotFoundError:
        return None


def _requirements(extra: str) -> list[str]:
    """Return the packages of an extra, those of the extras that it includes as well."""
    found = _distribution()
    wanted = []
    for line in (None if found is None else found.requires) or ():
        requirement, _, marker = line.partition(";")
        if re.search(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]", marker):
            inner = re.fullmatch(r"dragoman\[(.*)\]", requirement.strip())
            wanted += (
                [one for name in inner[1].split(",") for one in _requirements(name.strip())]
                if inner
                else [requirement.strip()]
            )
    return wanted or [extra]


def _quoted(word: str) -> str:
    return f"'{word}'" if "'" not in word else shlex.quote(word)
