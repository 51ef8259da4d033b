"""Every name table is its own inverse: what `read` makes of a checkpoint, `write` turns back, bit by bit."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.checkpoint.keymap import Drop, KeyMap, Rename, Rule, fill
from dragoman.families import find
from dragoman.testing import tiny_config
from dragoman.testing.configs import VARIANTS


def tables() -> Iterator[Any]:
    """Yield the table of every part of every family, once for each configuration that changes it."""
    seen = set()
    for name, (model_type, fields) in VARIANTS.items():
        family = find(model_type)
        for word, part, more in (
            ("speech", family.speech, {}),
            ("text", family.text, {}),
            ("untied", family.text, {"tie_word_embeddings": False}),
        ):
            if part is None:
                continue
            keymap = part.keymap(tiny_config(model_type, **{**fields, **more}))
            if (model_type, keymap.rules) not in seen:
                yield pytest.param(keymap, id=f"{name}-{word}")
            seen.add((model_type, keymap.rules))


def names_of(draw: Any, rule: Rule) -> str:
    """Draw a name that the rule claims."""
    words = {"{i}": str(draw(st.integers(0, 99))), "*": draw(st.sampled_from(["weight", "bias", "deep.er.weight"]))}
    return fill(rule.theirs, words)


@st.composite
def checkpoints(draw: Any, keymap: KeyMap) -> dict[str, Any]:
    """Draw a file with names that a random choice of the rules claims, each with a tensor of a fitting shape."""
    rules = draw(st.lists(st.sampled_from([rule for rule in keymap.rules if not isinstance(rule, Drop)]), min_size=1))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    found = {}
    for rule in rules:
        name = names_of(draw, rule)
        assert keymap.rule_for(name) == rule
        parts = 1 if isinstance(rule, Rename) else len(rule.into)
        rows, columns = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        shape = (columns, parts * rows) if rule.transpose else (parts * rows, columns)
        found[name] = rng.standard_normal(shape if draw(st.booleans()) else parts * rows)
    return found


@pytest.mark.parametrize("keymap", list(tables()))
@settings(max_examples=15)
@given(data=st.data())
def test_write_inverts_read(keymap: KeyMap, data: Any) -> None:
    theirs = data.draw(checkpoints(keymap))
    ours: dict[str, Any] = {}
    for name in sorted(theirs, key=keymap.rank):  # where two names mean one tensor, the first in the table wins
        for our, array in keymap.read(name, theirs[name]):
            ours.setdefault(our, array)
    back = keymap.write(ours)
    firsts = {keymap.theirs(our) for name in theirs for our in keymap.ours(name)}
    assert theirs.keys() & firsts <= back.keys()
    assert {keymap.theirs(our) for our in ours} == firsts
    for name in firsts & theirs.keys():
        assert np.array_equal(back[name], theirs[name])
