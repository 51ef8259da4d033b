"""Every Python program in the documentation runs as it stands: the blocks of a page, in order, are one program.

Names of the hub are folders of the working directory (see `conftest.py`), so that no program differs from its page. A
block is left out only by `<!-- skip: reason -->` on the line before it.
"""

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/*.md")])
BLOCK = re.compile(
    r"^(?:<!-- *skip(?P<reason>.*?)-->\n+)?```python[^\n]*\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


def program(text: str) -> str:
    """Return the blocks of a page at their line numbers, so that tracebacks name the line of the page."""
    lines = [""] * (text.count("\n") + 1)
    for block in BLOCK.finditer(text):
        if block["reason"] is not None:
            assert len(block["reason"].lstrip(": ")) > 10, "a skipped block needs a reason: <!-- skip: why -->"
            continue
        first = text.count("\n", 0, block.start("code"))
        code = block["code"].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines)


def has_program(page: Path) -> bool:
    return program(page.read_text()).strip() != ""


TEXTS = {".json", ".md", ".py", ".toml"}
SLOW = {"docs/page-jax.md", "docs/jax.md"}  # much to compile


def is_translated(page: Path) -> bool:
    """Whether the page has the same program as the English page of its name, which runs."""
    original = ROOT / "docs" / page.name
    if page.parent.parent != ROOT / "docs" or not original.is_file():
        return False
    return ast.dump(ast.parse(program(page.read_text()))) == ast.dump(ast.parse(program(original.read_text())))


def pages() -> Iterator[Any]:
    for page in PAGES:
        if has_program(page) and not is_translated(page):
            name = str(page.relative_to(ROOT))
            marks = [pytest.mark.slow] if name in SLOW else []
            if page.stem.startswith("page"):  # programs of `transformers`, whose labels begin with the start token
                marks.append(pytest.mark.filterwarnings("ignore:.*the start token twice:UserWarning"))
            yield pytest.param(page, id=name, marks=marks)


@pytest.mark.parametrize("page", list(pages()))
def test_page_runs(page: Path, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(hub, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    exec(compile(program(page.read_text()), str(page), "exec"), {"__name__": "__main__"})  # noqa: S102 (our own pages)


def test_guides_are_among_the_pages() -> None:
    found = {str(page.relative_to(ROOT)) for page in PAGES if has_program(page)}
    assert {"README.md", "docs/quickstart.md", "docs/guide.md", "docs/ar/guide.md", "docs/errors.md"} | SLOW <= found


def test_runner_finds_every_block() -> None:
    for page in PAGES:
        text = page.read_text()
        assert len(re.findall(r"^\s*(?:```|~~~)+\s*(?:python|py)\b", text, re.MULTILINE)) == len(BLOCK.findall(text)), (
            page
        )


def test_runner_keeps_line_numbers_and_skips_only_with_a_reason() -> None:
    one, two, three = (f"```python\n{name} = 1\n```\n" for name in "abc")
    tree = ast.parse(program(f"text\n\n{one}\n<!-- skip: needs a person to speak -->\n{two}{three}"))
    assert [(statement.lineno, ast.unparse(statement)) for statement in tree.body] == [(4, "a = 1"), (12, "c = 1")]
    with pytest.raises(AssertionError, match="reason"):
        program(f"<!-- skip -->\n{one}")


def test_the_page_on_families_adds_a_real_one() -> None:
    source = (ROOT / "src/dragoman/families/stablelm.py").read_text()
    blocks = [block["code"] for block in BLOCK.finditer((ROOT / "docs/new-family.md").read_text())]
    parts = [code for code in blocks if "class StableLmConfig" in code or "FAMILY = " in code]
    assert source.partition("\n\n")[2] == "\n\n".join(parts)


def test_a_family_is_one_file_one_line_and_one_golden_file() -> None:
    files = [path for folder in ("src", "tests") for path in (ROOT / folder).rglob("*.*") if path.suffix in TEXTS]
    named = {str(path.relative_to(ROOT)) for path in files if "stablelm" in path.read_text().lower()}
    assert named - {str(Path(__file__).relative_to(ROOT))} == {
        "src/dragoman/families/__init__.py",
        "src/dragoman/families/stablelm.py",
        "tests/contract/test_public_names.py",  # a promise, so written out
        "tests/golden/stablelm/keys.json",
    }
