"""A worker in this process: what it writes, what it takes up, what it makes of bad items."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from dragoman.bulk.items import Item, read_items
from dragoman.bulk.journal import Journal
from dragoman.bulk.plan import Part, extended
from dragoman.bulk.rows import decoded
from dragoman.bulk.store import open_store
from dragoman.bulk.work import Worker
from dragoman.errors import DragomanError
from dragoman.transcriber.transcriber import Transcriber


@pytest.fixture
def worker(work):
    return Worker(work)


def rows_in(folder):
    """Return the rows of all parts of an output."""
    return [json.loads(line) for path in sorted(folder.glob("part-*.jsonl")) for line in path.read_text().splitlines()]


def parts_of(work, clips, per_part=7):
    items = read_items(str(clips / "clips.jsonl"), {})
    return extended(open_store(work.output), None, items, work.settings, ["x", None], per_part).parts


def test_texts_are_those_of_the_transcriber(work, worker, clips, tiny_checkpoint, tmp_path):
    for part in parts_of(work, clips).values():
        worker.run(part)
    rows = rows_in(tmp_path / "out")
    assert [row["id"] for row in rows] == [f"clip {number}" for number in range(20)]
    one = Transcriber(tiny_checkpoint, local_files_only=True)
    options = {"beam_size": 2, "vad_filter": False}
    expected = [one.transcribe(clips / f"clips/{n:02}.wav", **options) for n in range(20)]
    assert [row["text"] for row in rows] == [transcript.text for transcript in expected]
    assert len({row["text"] for row in rows}) > 5  # so that a mix-up would be seen
    assert [row["duration"] for row in rows] == [transcript.duration for transcript in expected]
    segments = [[segment["tokens"] for segment in row["segments"]] for row in rows]
    assert segments == [[list(segment.tokens) for segment in transcript.segments] for transcript in expected]
    assert {json.dumps(row["options"]) for row in rows} == {'{"beam_size": 2, "vad_filter": false}'}
    assert not list((tmp_path / "out/_bulk/journals").iterdir())


def test_a_part_goes_on_where_its_worker_was_killed(work, worker, clips, tmp_path):
    part = parts_of(work, clips, per_part=20)[0]
    told = []

    class KilledError(Exception):
        pass

    def die(done):
        told.append(done.id)
        if len(told) == 8:
            raise KilledError

    with pytest.raises(KilledError):
        worker.run(part, die)
    assert not rows_in(tmp_path / "out")
    again = []
    worker.run(part, again.append)
    assert [row["id"] for row in rows_in(tmp_path / "out")] == [item.id for item in part.items]
    old = {done.id for done in again if not done.is_new}
    assert old >= set(told)
    assert len(again) == 20


def test_a_finished_part_is_left_alone(work, worker, clips, tmp_path):
    part = parts_of(work, clips)[0]
    entry = worker.run(part)
    (path,) = (tmp_path / "out").glob("part-*")
    before = path.stat().st_mtime_ns
    assert replace(worker.run(part), seconds=0) == replace(entry, seconds=0)
    assert path.stat().st_mtime_ns == before


def test_the_same_content_is_not_transcribed_again(work, worker, clips, tmp_path):
    part = parts_of(work, clips)[0]
    entry = worker.run(part)
    path = tmp_path / "out" / entry.file
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["text"], rows[1]["hash"] = "as it was", "of another content"
    redone = tmp_path / "out" / part.redone
    redone.parent.mkdir(parents=True)
    redone.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path.unlink()
    worker.run(part)
    assert [row["text"] for row in rows_in(tmp_path / "out")][:2] == ["as it was", rows[1]["text"]]
    assert not redone.exists()


def test_bad_items_are_rows_with_reasons(work, worker, clips, tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "empty.wav").touch()
    whole = clips / "clips/19.wav"
    items = (
        Item(id="gone", path=str(tmp_path / "gone.wav")),
        Item(id="text", path=str(tmp_path / "text.wav")),
        Item(id="empty", path=str(tmp_path / "empty.wav")),
        Item(id="m.jsonl:3", path=None, problem="malformed line: is not JSON."),
        Item(id="beyond", path=str(whole), offset=99.0, duration=1.0),
        Item(id="second", path=str(whole), offset=1.0, duration=1.0),
        Item(id="good", path=str(whole)),
    )
    entry = worker.run(Part(number=0, items=items))
    rows = {row["id"]: row for row in rows_in(tmp_path / "out")}
    assert list(rows) == [item.id for item in items]
    assert [name for name, _ in entry.failures] == ["gone", "text", "empty", "m.jsonl:3", "beyond"]
    reasons = dict(entry.failures)
    assert "No such file" in reasons["gone"]
    assert "0 bytes" in reasons["empty"]
    assert "lasts" in reasons["beyond"]
    assert all(rows[name]["text"] is None for name in reasons)
    assert rows["second"]["duration"] == 1.0
    assert rows["good"]["error"] is None
    assert entry.audio == pytest.approx(1.0 + rows["good"]["duration"], abs=1e-3)


def test_an_item_that_kills_workers_is_tried_alone_and_then_given_up(work, worker, clips, tmp_path):
    part = parts_of(work, clips)[0]
    folder = tmp_path / "out/_bulk/journals"
    for alone in (False, True, True, True, True):
        journal = Journal(folder, part.number)
        journal.begin("clip 3", alone)
        journal.close(done=False)
    journal = Journal(folder, part.number)
    journal.begin("clip 4", alone=False)  # its neighbour once died with it
    journal.close(done=False)
    entry = worker.run(part)
    ((name, reason),) = entry.failures
    assert name == "clip 3"
    assert "5 workers were killed" in reason


def test_parquet_holds_the_same(work, worker, clips, tmp_path):
    pytest.importorskip("pyarrow")
    part = parts_of(work, clips)[0]
    worker.run(part)
    plain = rows_in(tmp_path / "out")
    options = replace(work.options, word_timestamps=True, num_return_sequences=2)
    for name, given in (("a", work.options), ("b", options)):
        other = replace(work, output=str(tmp_path / name), format="parquet", options=given)
        Worker(other).run(part)
        rows = decoded((tmp_path / name / "part-000000.parquet").read_bytes(), "parquet")
        assert [row["text"] for row in rows] == [row["text"] for row in plain]
        assert [row["hash"] for row in rows] == [row["hash"] for row in plain]
        if name == "a":
            assert rows[0]["options"] == plain[0]["options"]
        else:
            assert any(row["words"] for row in rows)
            assert any(segment["alternatives"] for row in rows for segment in row["segments"])


def test_subtitles_lie_beside(work, clips, tmp_path):
    work = replace(work, subtitles="srt,txt")
    items = (
        Item(id="talks/a.wav", path=str(clips / "clips/19.wav")),
        Item(id="../../evil", path=str(clips / "clips/18.wav")),
        Item(id="x" * 300, path=str(clips / "clips/17.wav")),
    )
    Worker(work).run(Part(number=0, items=items))
    root = tmp_path / "out/subtitles"
    found = [path.relative_to(root) for path in root.rglob("*.srt")]
    assert len(found) == len(list(root.rglob("*.txt"))) == 3
    assert Path("talks/a.wav.srt") in found
    assert "-->" in (root / "talks/a.wav.srt").read_text()
    assert not list(tmp_path.glob("evil*"))
    assert not list(tmp_path.parent.glob("evil*"))


def test_options_that_no_item_can_have_are_told_at_once(work, tmp_path):
    with pytest.raises(DragomanError, match=r"none\.arpa"):
        Worker(replace(work, options=replace(work.options, lm=str(tmp_path / "none.arpa"))))


def test_an_output_that_cannot_be_written_ends_the_part(work, worker, clips, tmp_path):
    part = parts_of(work, clips)[0]
    writing = tmp_path / "out/_bulk/writing"
    writing.rmdir()
    with pytest.raises(DragomanError, match="goes on where it stopped"):
        worker.run(part)
    writing.mkdir()
    again = []
    assert worker.run(part, again.append).items == 7
    assert not any(done.is_new for done in again)


def test_a_store_of_objects_serves_for_input_and_output(work, clips):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(clips), "/archive", recursive=True)
    items = read_items("memory://archive/clips.jsonl", {})
    assert [item.path for item in items] == [f"memory://archive/clips/{n:02}.wav" for n in range(20)]
    listed = read_items("memory://archive/clips", {})
    assert [item.id for item in listed] == [f"{n:02}.wav" for n in range(20)]
    work = replace(work, output="memory://results")
    store = open_store(work.output)
    plan = extended(store, None, items, work.settings, ["x", None], 10)
    assert store.create("_bulk/plan-0000.jsonl", b"other") is False
    for part in plan.parts.values():
        entry = Worker(work).run(part)
        assert entry.failures == ()
    assert store.names() == ["part-000000.jsonl", "part-000001.jsonl"]
    rows = decoded(store.read("part-000001.jsonl"), "jsonl")
    assert [row["id"] for row in rows] == [f"clip {n}" for n in range(10, 20)]
    local = read_items(str(clips / "clips.jsonl"), {})[10:]
    assert [row["hash"] for row in rows] == [hashlib.sha256(Path(item.path).read_bytes()).hexdigest() for item in local]


def test_long_recordings_and_short_ones_share_batches(work, sample, tmp_path, tiny_checkpoint):
    paths = []
    for number, times in enumerate((6, 1, 3, 1)):
        paths.append(tmp_path / f"{number}.wav")
        soundfile.write(paths[-1], list(sample) * times, 16_000)
    work = replace(work, options=replace(work.options, chunk_length_s=2.0))
    items = tuple(Item(id=path.name, path=str(path)) for path in paths)
    Worker(work).run(Part(number=0, items=items))
    one = Transcriber(tiny_checkpoint, local_files_only=True)
    options = {"beam_size": 2, "vad_filter": False, "chunk_length_s": 2.0}
    texts = [row["text"] for row in rows_in(tmp_path / "out")]
    assert texts == [one.transcribe(path, **options).text for path in paths]
