"""Filters, splits that stay the same, and mixtures."""

from collections import Counter

import pytest

from dragoman.data import Limits, Mixture, Utterance, filtered, split
from dragoman.errors import ConfigError


def items(count, prefix="u", speakers=10):
    return [
        Utterance(
            id=f"{prefix}{i}", audio="a.wav", text=f"Text {i % 50}", duration=1.0 + i % 5, speaker=f"s{i % speakers}"
        )
        for i in range(count)
    ]


def test_filters_by_length_and_rate_give_reasons():
    data = [
        Utterance(id="a", audio="a", text="x" * 20, duration=2.0, source="m:1"),
        Utterance(id="b", audio="a", text="x" * 20, duration=0.1, source="m:2"),
        Utterance(id="c", audio="a", text="x" * 20, duration=40.0, source="m:3"),
        Utterance(id="d", audio="a", text="x" * 200, duration=3.0, source="m:4"),
        Utterance(id="e", audio="a", text="xx", duration=20.0, source="m:5"),
        Utterance(id="f", audio="a", text="x" * 20, source="m:6"),  # an unknown duration
    ]
    kept, left = filtered(data, Limits(min_seconds=0.2, max_seconds=30, min_rate=1, max_rate=30))
    assert [u.id for u in kept] == ["a", "f"]
    assert [(p.kind, p.source) for p in left] == [
        ("too short", "m:2"),
        ("too long", "m:3"),
        ("fast", "m:4"),
        ("slow", "m:5"),
    ]
    assert str(left[2]) == "m:4: 66.67 characters per second are more than the maximum of 30."
    assert len(filtered(data, Limits(max_characters=100))[1]) == 1
    with pytest.raises(ConfigError, match="`min_seconds` must be at most `max_seconds`, but they are 2 and 1"):
        Limits(min_seconds=2, max_seconds=1)


@pytest.mark.parametrize("by", ["speaker", "text", "id"])
def test_splits_share_nothing_and_stay_when_items_are_added_or_reordered(by):
    data = items(2_000, speakers=200)
    parts = split(data, {"valid": 0.1, "test": 0.1}, by=by, seed=1)
    assert sum(map(len, parts.values())) == len(data)
    units = {name: {getattr(u, by).lower() for u in part} for name, part in parts.items()}
    pairs = (("train", "valid"), ("valid", "test"), ("train", "test"))
    assert [pair for pair in pairs if units[pair[0]] & units[pair[1]]] == []
    assert 0.03 < len(parts["valid"]) / len(data) < 0.25
    fewer = split(data[::-1][:1_500], {"valid": 0.1, "test": 0.1}, by=by, seed=1)
    for name, part in fewer.items():
        assert {u.id for u in part} <= {u.id for u in parts[name]}
    assert split(data, {"valid": 0.1, "test": 0.1}, by=by, seed=2) != parts


def test_texts_that_differ_in_case_and_blanks_stay_together():
    data = [
        Utterance(id=str(i), audio="a", text=t) for i, t in enumerate(["Good day", "good  DAY", *map(str, range(99))])
    ]
    parts = split(data, {"valid": 0.5})
    assert any({"0", "1"} <= {u.id for u in part} for part in parts.values())


def test_impossible_splits_are_refused():
    with pytest.raises(ConfigError, match="between 0 and 1"):
        split(items(10), {"valid": 1.5})
    with pytest.raises(ConfigError, match="has no speaker"):
        split([Utterance(id="a", audio="a", text="x", source="m.tsv:4")], {"valid": 0.5}, by="speaker")
    with pytest.raises(ConfigError, match="'valid' of the split is empty"):
        split(items(3), {"valid": 0.001})


def test_a_mixture_has_its_shares_and_treats_items_of_a_set_alike():
    sets = [items(100, "a"), items(20, "b"), items(30, "c")]
    mixture = Mixture(sets, [1, 1, 0], seed=3)
    total: Counter[int] = Counter()
    for epoch in range(10):
        indices = mixture.indices(epoch)
        assert indices == mixture.indices(epoch)
        assert len(indices) == 150
        assert sum(i < 100 for i in indices) == 75
        counts = Counter(indices)
        assert {counts[i] for i in range(100, 120)} <= {3, 4, 5}
        total += counts
    assert {total[i] for i in range(100)} <= {7, 8}
    assert {total[i] for i in range(120, 150)} == {0}


def test_without_weights_every_item_comes_once():
    mixture = Mixture([items(7, "a"), items(5, "b")])
    assert sorted(mixture.indices(3)) == list(range(12))
    assert [u.id for u in mixture.utterances[:8]] == [*(f"a{i}" for i in range(7)), "b0"]


def test_impossible_weights_are_refused():
    with pytest.raises(ConfigError, match="must be 2 numbers"):
        Mixture([items(3), items(3)], [1])
    with pytest.raises(ConfigError, match="Set 2 has the weight 1, but holds no items"):
        Mixture([items(3), []], [1, 1])
