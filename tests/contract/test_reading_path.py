"""`docs/reading-path.md` leads through the code on one backend: its files exist, and it stays short enough to read."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/dragoman"
# Training is read from docs/training.md; pages of the hub and names that ported scripts test concern no network, and
# names of Flax classes and keywords of their loaders mirror nothing in PyTorch.
BESIDE = {
    "model/card.py",
    "model/learning.py",
    "model/encoder_states.py",
    "model/tensor_name.py",
    *(
        f"jax/{name}.py"
        for name in ("train", "learner", "optimizer", "sharding", "flax_keywords", "flax_names", "masks")
    ),
}
MOST_FILES, MOST_LINES, MOST_CODE, MOST_OF_A_SECOND_BACKEND = 90, 12_000, 8_000, 5_000


@cache
def entries() -> tuple[tuple[str, str], ...]:
    """Return the files of the page in reading order, each with its sentence."""
    return tuple(re.findall(r"^1\. `([\w/]+\.py)`: (.+)$", (ROOT / "docs/reading-path.md").read_text(), re.MULTILINE))


def lines_of_code(text: str) -> int:
    """Count the lines that hold code: no blank lines, comments or docstrings."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            first = node.body[0]
            documented.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(
        number not in documented and bool(line.strip()) and not line.strip().startswith("#") for number, line in lines
    )


def test_every_file_is_there_once_and_has_a_sentence() -> None:
    names = [name for name, _ in entries()]
    assert len(names) > 40
    assert [name for name in names if not (SOURCE / name).is_file()] == []
    assert len(set(names)) == len(names)
    assert [name for name, sentence in entries() if not sentence.endswith(".") or len(sentence) < 20] == []


def test_it_is_short_enough() -> None:
    texts = [(SOURCE / name).read_text() for name, _ in entries()]
    assert len(texts) <= MOST_FILES
    assert sum(len(text.splitlines()) for text in texts) <= MOST_LINES
    assert sum(map(lines_of_code, texts)) <= MOST_CODE


def test_it_covers_the_network_of_a_backend_and_three_families() -> None:
    names = {name for name, _ in entries()}
    network = {path.relative_to(SOURCE).as_posix() for path in (SOURCE / "torch/net").glob("[!_]*.py")}
    shell = {path.relative_to(SOURCE).as_posix() for path in (SOURCE / "model").glob("[!_]*.py")}
    assert (network | shell) - BESIDE <= names
    assert sum(name.startswith("families/") for name in names) >= 4


def test_a_second_backend_costs_little_more() -> None:
    files = {path.relative_to(SOURCE).as_posix(): path for path in (SOURCE / "jax").rglob("*.py")}
    assert {name for name in BESIDE if not (SOURCE / name).is_file()} == set()
    texts = [path.read_text() for name, path in files.items() if name not in BESIDE]
    assert sum(len(text.splitlines()) for text in texts) <= MOST_OF_A_SECOND_BACKEND
