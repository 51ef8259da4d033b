"""Check the structure of `src` and its words: import circles, long files, phrases that the field does not use.

Run by `scripts/check`; needs nothing but Python. Imports for type checking and imports inside functions count like any
other: a file that needs its caller's type is in the wrong layer.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PACKAGE = "dragoman"

MOST_LINES = 300
# Longer files, each with its reason; at most five.
LONG: dict[str, str] = {
    "src/dragoman/text/tokenizer.py": "the public methods of one class, with the documentation of their arguments",
    "src/dragoman/audio/features/extractor.py": "the same",
}

# What reads as translated -> what an engineer of the field writes.
WORDS = {
    r"\bso many\b": "N",
    r"\bkin\b": "-like models",
    r"(?<!\")\bheard\b": "encoded, recognised",
    r"\bha(?:s|ve) a say\b": "is added to the scores",
    r"\bcome what may\b": "always",
    r"\bstrangers?\b": "unknown names, untrusted files",
    r"\binvented words\b": "hallucinations",
    r"\btimes of words\b": "word timestamps",
    r"\bthreads of the processor\b": "CPU threads",
    r"\bpauses? parts?\b": "splits speech",
    r"\bSay which\b": "show the version",
    r"\bwhat (?:comes|came) of (?:it|them)\b": "the result",
    r"\bin words of\b": "named as in",
    r"\bupstream(?:'s)?\b": "`transformers`",
    r"\ba text of the search\b": "a hypothesis",
    r"\bstands? behind\b": "follows",
    r"\b_look_(?:back|across)\b": "_self_attention, _cross_attention",
    r"\bturn_of\b|\bunturned\b": "rotary_for, nope_layers",
}
# Files whose subject needs one of these words.
SPOKEN_OF = ("scripts/_structure.py",)


def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    found = {}
    for path in sorted((SOURCE / PACKAGE).rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yield the modules of the package that a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in known else node.module


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that reach each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            place = stack.index(name)
            group = stack[place:]
            del stack[place:]
            if len(group) > 1:
                found.append(sorted(group))

    sys.setrecursionlimit(10_000)
    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def import_circles() -> Iterator[str]:
    """Yield a sentence for each import circle, with the imports that close it."""
    known = modules()
    graph = {name: set(imports(path, known)) - {name} for name, path in known.items()}
    for group in circles(graph):
        arrows = [f"  {name} -> {other}" for name in group for other in sorted(graph[name] & set(group))]
        yield "\n".join([f"{len(group)} modules import each other; move what they share below both:", *arrows])


def long_files() -> Iterator[str]:
    """Yield a sentence for each file that is too long, or is on the list of exceptions without need."""
    if len(LONG) > 5:
        yield f"The list of long files may hold 5, but holds {len(LONG)}."
    sizes = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in modules().values()}
    for name, size in sizes.items():
        if size > MOST_LINES and name not in LONG:
            yield f"{name} has {size} lines, at most {MOST_LINES} are allowed: split it by meaning."
    for name in LONG:
        if sizes.get(name, 0) <= MOST_LINES:
            yield f"{name} is on the list of long files, but has {sizes.get(name, 0)} lines: take it off."


def bad_words() -> Iterator[str]:
    """Yield a sentence for each line with a phrase of `WORDS`, in sources, tests and English documentation."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    pattern = re.compile("|".join(f"(?P<w{i}>{word})" for i, word in enumerate(WORDS)))
    better = list(WORDS.values())
    for name in sorted(filter(None, listing.split("\0"))):
        if not name.endswith((".py", ".md", ".sh", ".toml")) or name.startswith("docs/ar/") or name in SPOKEN_OF:
            continue
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            if match := pattern.search(line):
                yield f"{name}:{number}: {match.group()!r}: write {better[int((match.lastgroup or 'w0')[1:])]}"


def main() -> int:
    """Print every fault; return 1 if there is one."""
    faults = [*import_circles(), *long_files(), *bad_words()]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
