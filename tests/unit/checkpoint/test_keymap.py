"""Key maps: templates, rules, spellings, and their inverse. Those of the families are tested in tests/unit/families."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.checkpoint.keymap import Alias, Drop, KeyMap, Rename, Split, fill, match, matches_any
from dragoman.errors import CheckpointError


@pytest.mark.parametrize(
    ("template", "name", "found"),
    [
        ("a.b", "a.b", {}),
        ("a.b", "a.c", None),
        ("a.b", "a", None),
        ("a.b", "a.b.c", None),
        ("a.{i}.b", "a.12.b", {"{i}": "12"}),
        ("a.{i}.b", "a.x.b", None),
        ("a.{i}.b", "a.-1.b", None),
        ("a.{i}.b", "a.².b", None),
        ("a.{i}.b", "a.٣.b", None),
        ("a.*", "a.b", {"*": "b"}),
        ("a.*", "a.b.c", {"*": "b.c"}),
        ("a.*", "a", None),
        ("*.b", "x.y.b", {"*": "x.y"}),
        ("*.b", "b", None),
        ("a.*.c", "a.b.b.c", {"*": "b.b"}),
        ("a.*.c", "a.c", None),
        ("a.{i}.*", "a.3.weight", {"{i}": "3", "*": "weight"}),
        ("*", "anything.at.all", {"*": "anything.at.all"}),
        ("a.b", "", None),
    ],
)
def test_match(template: str, name: str, found: dict[str, str] | None) -> None:
    assert match(template, name) == found


WORDS = st.lists(st.text("ab0", min_size=1, max_size=3), min_size=1, max_size=4).map(".".join)


@given(st.integers(0, 10**6), WORDS)
def test_fill_inverts_match(number: int, rest: str) -> None:
    name = f"layers.{number}.attn.{rest}"
    found = match("layers.{i}.attn.*", name)
    assert found is not None
    assert fill("layers.{i}.attn.*", found) == name
    assert fill("h.{i}.*", found) == f"h.{number}.{rest}"


def test_matches_any() -> None:
    assert matches_any(("a.*", "b"), "a.x")
    assert not matches_any(("a.*", "b"), "c")
    assert not matches_any((), "c")


TABLE = (
    Rename("embed.weight", "tokens.weight"),
    Rename("h.{i}.proj.*", "layers.{i}.out.*", transpose=True),
    Split("h.{i}.qkv.*", ("layers.{i}.q.*", "layers.{i}.k.*", "layers.{i}.v.*"), transpose=True),
    Drop("pooler.*", why="not needed"),
)
KEYMAP = KeyMap(TABLE, aliases=(Alias("*.gamma", "*.weight"),), prefixes=("model.",))


def test_rules() -> None:
    assert KEYMAP.rule_for("embed.weight") == TABLE[0]
    assert KEYMAP.rule_for("unknown") is None
    assert KEYMAP.ours("h.3.proj.bias") == ("layers.3.out.bias",)
    assert KEYMAP.ours("pooler.weight") == KEYMAP.ours("unknown") == ()
    assert KEYMAP.theirs("layers.4.k.bias") == "h.4.qkv.bias"
    assert [KEYMAP.rank(name) for name in ("embed.weight", "pooler.x", "unknown")] == [0, 3, 4]


def test_spelling() -> None:
    assert KEYMAP.canonical_name("embed.gamma") == "embed.weight"
    assert KEYMAP.canonical_name("model.embed.gamma") == "embed.weight"
    assert KEYMAP.canonical_name("model.unknown") == "model.unknown"
    added = KeyMap((Rename("model.embed.weight", "x"),), prefixes=("model.",))
    assert added.canonical_name("embed.weight") == "model.embed.weight"
    assert added.canonical_name("model.embed.weight") == "model.embed.weight"


def test_two_rules_for_one_name_are_an_error() -> None:
    keymap = KeyMap((Rename("a.{i}", "x.{i}"), Drop("a.*", why="")))
    with pytest.raises(CheckpointError, match=r"'a\.1' matches several rules"):
        keymap.rule_for("a.1")
    with pytest.raises(CheckpointError, match="matches several rules"):
        KeyMap((Rename("a", "x"), Drop("*", why=""))).rule_for("a")


def test_reading_splits_and_transposes() -> None:
    weight, bias = np.arange(12.0).reshape(2, 6), np.arange(6.0)
    parts = dict(KEYMAP.read("h.0.qkv.weight", weight))
    assert list(parts) == ["layers.0.q.weight", "layers.0.k.weight", "layers.0.v.weight"]
    assert np.array_equal(parts["layers.0.k.weight"], weight.T[2:4])
    assert np.array_equal(dict(KEYMAP.read("h.0.qkv.bias", bias))["layers.0.v.bias"], bias[4:])
    ((name, turned),) = KEYMAP.read("h.1.proj.weight", weight)
    assert name == "layers.1.out.weight"
    assert np.array_equal(turned, weight.T)


def test_writing_is_the_inverse() -> None:
    rng = np.random.default_rng(0)
    theirs = {
        "embed.weight": rng.random((5, 2)),
        "h.0.qkv.weight": rng.random((2, 6)),
        "h.0.qkv.bias": rng.random(6),
        "h.0.proj.weight": rng.random((2, 2)),
    }
    ours = dict(pair for name, array in theirs.items() for pair in KEYMAP.read(name, array))
    back = KEYMAP.write(ours)
    assert back.keys() == theirs.keys()
    assert all(np.array_equal(back[name], theirs[name]) for name in theirs)


def test_tensors_without_a_rule_are_named() -> None:
    with pytest.raises(CheckpointError, match=r"'h\.0\.qkv\.bias' cannot be written: layers\.0\.k\.bias, layers\.0\.v"):
        KEYMAP.write({"layers.0.q.bias": np.zeros(2)})
    with pytest.raises(CheckpointError, match="the name under which the tensor 'unknown' is saved"):
        KEYMAP.write({"unknown": np.zeros(2)})


def test_two_names_of_one_tensor_are_both_written() -> None:
    keymap = KeyMap((Rename("new", "ours"), Rename("old", "ours")))
    assert keymap.theirs("ours") == "new"
    written = keymap.write({"ours": np.ones(2)})
    assert list(written) == ["new", "old"]
    assert np.array_equal(written["old"], np.ones(2))


def test_scalars_pass() -> None:
    keymap = KeyMap((Rename("steps", "ours"),))
    ((_, value),) = keymap.read("steps", np.array(3))
    assert value.shape == ()
    assert keymap.write({"ours": value})["steps"] == 3


@pytest.mark.parametrize("length", [0, 1, 2, 4, 5, 7, 8])
def test_an_uneven_split_gives_a_wrong_shape(length: int) -> None:
    """The report then names it; were the rest cut off, a wrong checkpoint would load in silence."""
    parts = dict(KEYMAP.read("h.0.qkv.bias", np.zeros(length)))
    assert len(parts) == 3
    assert sum(part.size for part in parts.values()) == length
    assert any(part.shape != (2,) for part in parts.values())


def test_a_fused_scalar_gives_wrong_shapes() -> None:
    assert [part.shape for _, part in KEYMAP.read("h.0.qkv.bias", np.array(1.0))] == [(1,), (0,), (0,)]
