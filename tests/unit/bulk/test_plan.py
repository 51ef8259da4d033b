"""What is done by whom: plans that grow, files that change, runs that share an output."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from dragoman.bulk.items import Item, read_items
from dragoman.bulk.journal import Journal, count_rows
from dragoman.bulk.plan import check_settings, extended, load_plan, usual_size
from dragoman.bulk.settings import BulkOptions
from dragoman.bulk.store import LocalStore
from dragoman.errors import ConfigError, DataError, ModelNotFoundError

SETTINGS = {"format": "jsonl", "model": None, "options": {}}


def items(*names, version="1"):
    return [Item(id=name, path=f"{name}.wav", version=version) for name in names]


def planned(store, given, per_part=2):
    return extended(store, load_plan(store), given, SETTINGS, ["m", None], per_part)


def ids(plan):
    return {number: [item.id for item in part.items] for number, part in plan.parts.items()}


def test_a_plan_is_made_once_and_grows(tmp_path):
    store = LocalStore(tmp_path)
    first = planned(store, items("a", "b", "c"))
    assert ids(first) == {0: ["a", "b"], 1: ["c"]}
    assert planned(store, items("a", "b", "c"), per_part=1) == first == load_plan(store)
    grown = planned(store, items("0", "a", "b", "c", "d"))
    assert ids(grown) == {0: ["a", "b"], 1: ["c"], 2: ["0", "d"]}
    assert len(store.names("_bulk")) == 2


def test_what_vanished_from_the_manifest_stays(tmp_path):
    store = LocalStore(tmp_path)
    first = planned(store, items("a", "b"))
    assert planned(store, items("b")) == first
    assert planned(store, items("a", "b", version=None)) == first  # files that are gone now


def test_a_changed_file_puts_its_part_back(tmp_path):
    store = LocalStore(tmp_path)
    planned(store, items("a", "b", "c"))
    for number in (0, 1):
        store.write(f"part-{number:06}.jsonl", b"rows")
    changed = planned(store, [*items("a"), *items("b", version="2"), *items("c")])
    assert changed.parts[0].items[1].version == "2"
    assert store.names() == ["part-000001.jsonl"]
    assert store.read(changed.parts[0].redone) == b"rows"


def test_a_mended_line_replaces_the_bad_one(tmp_path):
    store = LocalStore(tmp_path)
    bad = Item(id="m.jsonl:2", path=None, problem="malformed line")
    planned(store, [*items("a"), bad])
    store.write("part-000000.jsonl", b"rows")
    assert ids(planned(store, items("a", "b"))) == {0: ["a"], 1: ["b"]}
    assert store.names() == []


def test_whoever_comes_second_follows_the_first(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    create = store.create

    def late(name, content):
        monkeypatch.setattr(store, "create", create)
        planned(LocalStore(tmp_path), items("b", "a"))
        return create(name, content)

    monkeypatch.setattr(store, "create", late)
    assert ids(planned(store, items("a", "b", "c"))) == {0: ["b", "a"], 1: ["c"]}


def test_parts_end_where_recordings_are_large(tmp_path):
    large = [replace(one, size=50 << 20) for one in items(*"abcdef")]
    assert ids(planned(LocalStore(tmp_path), large, 500)) == {0: ["a", "b", "c"], 1: ["d", "e", "f"]}
    sizes = {(20, 2): 10, (3, 4): 1, (200, 2): 32, (1000, 2): 63, (10_000_000, 1000): 500}
    assert {given: usual_size(*given) for given in sizes} == sizes


def test_other_options_are_refused(tmp_path):
    plan = planned(LocalStore(tmp_path), items("a"))
    check_settings(plan, SETTINGS, "out")
    with pytest.raises(ConfigError, match=r"beam_size \(default, now 1\)"):
        check_settings(plan, {**SETTINGS, "options": {"beam_size": 1}}, "out")


def test_runs_share_parts_without_gap_or_overlap(tmp_path):
    plan = planned(LocalStore(tmp_path), items(*map(str, range(21))))
    turns = [[part.number for part in plan.share_of(turn, 4)] for turn in (1, 2, 3, 4)]
    assert sorted(number for turn in turns for number in turn) == list(range(11))
    assert turns[1] == [1, 5, 9]


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_a_shard_is_one_of_several(shard):
    with pytest.raises(ConfigError, match="shard"):
        BulkOptions(shard=shard)


def test_a_journal_is_read_up_to_the_line_that_was_cut_off(tmp_path):
    journal = Journal(tmp_path, 3)
    for name in "abc":
        journal.begin(name, alone=False)
    journal.add({"id": "a", "text": "x", "error": None}, "1")
    journal.close(done=False)
    (path,) = tmp_path.glob("000003.*")
    path.write_bytes(path.read_bytes() + b'{"row": {"id": "b"')
    left = Journal(tmp_path, 3)
    left.begin("b", alone=True)
    left.begin("c", alone=True)
    left.leave()
    left.close(done=False)
    last = Journal(tmp_path, 3)
    noted = last.earlier()
    last.close(done=False)
    assert noted.rows == {"a": ("1", {"id": "a", "text": "x", "error": None})}
    assert (dict(noted.begun), dict(noted.alone)) == ({"b": 1, "c": 1}, {})
    assert (count_rows(tmp_path, [3]), count_rows(tmp_path, [4])) == (1, 0)


def test_manifests_need_no_texts_and_lose_no_line(tmp_path):
    (tmp_path / "a.wav").touch()
    lines = ['{"audio": "a.wav"}', "{broken", '{"audio": "gone.wav", "id": "g"}', '{"id": "none"}']
    (tmp_path / "m.jsonl").write_text("\n".join([*lines, '{"audio": "s3://b/c.wav", "offset": 2, "duration": 1}']))
    found = read_items(str(tmp_path / "m.jsonl"), {})
    assert [(Path(item.path).name, item.offset) for item in found if item.path] == [
        ("a.wav", 0), ("gone.wav", 0), ("c.wav", 2)
    ]  # fmt: skip
    bad = {Path(item.id).name: item.problem for item in found if item.problem}
    assert bad.keys() == {"m.jsonl:2", "m.jsonl:4"}
    assert found[0].version == f"0-{os.stat(tmp_path / 'a.wav').st_mtime_ns}"


def test_folders_need_no_texts(tmp_path):
    (tmp_path / "talks").mkdir()
    for name in ("b.wav", "talks/a.mp3", "notes.md"):
        (tmp_path / name).touch()
    assert [item.id for item in read_items(str(tmp_path), {})] == ["b.wav", "talks/a.mp3"]
    with pytest.raises(ModelNotFoundError):
        read_items(str(tmp_path / "none"), {})
    with pytest.raises(DataError, match="no audio"):
        read_items(str((tmp_path / "empty").mkdir() or tmp_path / "empty"), {})


def test_tables_of_parquet_are_read(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"path": ["a.wav", "b.wav"], "id": ["1", "2"]}), tmp_path / "m.parquet")
    assert [item.id for item in read_items(str(tmp_path / "m.parquet"), {})] == ["1", "2"]
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="Parquet"):
        read_items(str(tmp_path / "broken.parquet"), {})


def test_plan_lines_are_small(tmp_path):
    store = LocalStore(tmp_path)
    planned(store, items("a"))
    _, line = store.read("_bulk/plan-0000.jsonl").splitlines()
    assert json.loads(line) == {"part": 0, "items": [{"id": "a", "path": "a.wav", "version": "1"}]}
