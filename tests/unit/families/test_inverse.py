"""Every name table is its own inverse: what `read` makes of a checkpoint, `write` turns back, bit by bit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.checkpoint.keymap import Drop, KeyMap, Rename, Rule, fill
from dragoman.families import FAMILIES
from dragoman.testing import tiny_config

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "wav2vec2": [{}, {"do_stable_layer_norm": True}],
    "hubert": [{}, {"do_stable_layer_norm": True}, {"conv_pos_batch_norm": True}],
}
TEXT = [{}, {"tie_word_embeddings": False}]


def tables() -> list[Any]:
    """The table of every part of every family, for each configuration that changes it."""
    found = []
    for family in FAMILIES:
        for name, part in ("speech", family.speech), ("text", family.text):
            for fields in (VARIANTS.get(family.model_type, [{}]) if name == "speech" else TEXT) if part else ():
                keymap = part.keymap(tiny_config(family.model_type, **fields))
                found.append(pytest.param(keymap, id=f"{family.model_type}-{name}-{'-'.join(fields) or 'plain'}"))
    return found


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


@pytest.mark.parametrize("keymap", tables())
@settings(max_examples=40)
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
