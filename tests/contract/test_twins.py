"""`dragoman.torch` and `dragoman.jax` mirror each other: tensors, files, names, arguments; see `twin_gaps.toml`."""

import ast
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from dragoman.families import find
from dragoman.jax.net.init import shapes_of
from dragoman.jax.parts import SpeechEncoder as JaxEncoder
from dragoman.jax.parts import TextDecoder as JaxDecoder
from dragoman.testing import tiny_config
from dragoman.testing.configs import VARIANTS
from dragoman.torch.backend import own_tensors
from dragoman.torch.parts import SpeechEncoder, TextDecoder

HERE = Path(__file__).parent
TORCH, JAX = (HERE.parents[1] / "src/dragoman" / name for name in ("torch", "jax"))
GAPS = tomllib.loads((HERE / "twin_gaps.toml").read_text())


def files_of(folder: Path) -> set[str]:
    """Return the files of a backend by their paths in it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.py") if path.name != "__init__.py"}


SHARED = sorted(files_of(TORCH) & files_of(JAX))
DECODER = {"is_decoder": True, "add_cross_attention": True}


def torch_shapes(part: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in own_tensors(part).items()}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("tied", [True, False])
def test_tensors_have_the_same_names_and_shapes(name: str, tied: bool) -> None:
    model_type, fields = VARIANTS[name]
    family = find(model_type)
    decoder = {**DECODER, "tie_word_embeddings": tied}
    pairs = [(family.speech, SpeechEncoder, JaxEncoder, {}), (family.text, TextDecoder, JaxDecoder, decoder)]
    for part, torch_class, jax_class, extra in pairs:
        if part is None:
            continue
        config = tiny_config(model_type, **{**fields, **extra})
        expected = torch_shapes(torch_class(config, empty=True))
        assert {name: shape for name, (shape, _) in shapes_of(jax_class(config, empty=True)).items()} == expected


def test_twins_have_the_same_files() -> None:
    torch_files, jax_files = files_of(TORCH), files_of(JAX)
    assert torch_files - jax_files <= set(GAPS["only_in_torch"])
    assert jax_files - torch_files <= set(GAPS["only_in_jax"])


def test_gaps_have_reasons_and_exist() -> None:
    assert all(len(reason) >= 8 for section in GAPS.values() for reason in section.values())
    assert not set(GAPS["only_in_torch"]) & files_of(JAX)
    assert not set(GAPS["only_in_jax"]) & files_of(TORCH)


def public(path: Path) -> dict[str, list[str]]:
    """Return the arguments of all public functions and methods of a file, by dotted name, in order."""
    found: dict[str, list[str]] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            found[node.name] = arguments(node)
        if isinstance(node, ast.ClassDef):
            name = node.name.removeprefix("Flax").removeprefix("Torch").removeprefix("Jax")
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and (item.name in CALLS or not item.name.startswith("_")):
                    found[f"{name}.{CALLS.get(item.name, item.name)}"] = arguments(item)
    return found


CALLS = {"__init__": "__init__", "forward": "()", "__call__": "()"}


def arguments(node: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]


def differences(file: str) -> set[str]:
    """Return the public names of a file that are in one twin alone or take other arguments there."""
    ours, theirs = public(JAX / file), public(TORCH / file)
    allowed = set(GAPS["arguments"])

    def same(name: str) -> bool:
        mine, other = ([a for a in names if a not in allowed] for names in (ours[name], theirs[name]))
        return mine == other

    return (ours.keys() ^ theirs.keys()) | {name for name in ours.keys() & theirs.keys() if not same(name)}


@pytest.mark.parametrize("file", SHARED)
def test_public_functions_take_the_same_arguments(file: str) -> None:
    assert differences(file) - set(GAPS["names"]) == set()


def test_listed_gaps_of_arguments_exist() -> None:
    assert set(GAPS["names"]) - set().union(*map(differences, SHARED)) == set()


def statements(path: Path) -> Counter[str]:
    """Return all statements of a file, nested ones too, however they are laid out."""
    return Counter(ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.stmt))


def share_of_equal_statements(files: Iterable[str]) -> float:
    """Return which share of the statements of both twins is in the other twin, word for word."""
    pairs = [(statements(TORCH / file), statements(JAX / file)) for file in files]
    equal = sum((ours & theirs).total() for ours, theirs in pairs)
    return 2 * equal / sum(ours.total() + theirs.total() for ours, theirs in pairs)


def test_around_the_networks_the_backends_have_little_in_common() -> None:
    """What both need is written once in `dragoman.model`; the networks are twins on purpose."""
    assert share_of_equal_statements(file for file in SHARED if "/" not in file) < 0.25
