"""Folders and formats of libraries: Kaldi, LibriSpeech, texts beside audio, tables in folders, Lhotse, `datasets`."""

import gzip
import json

import numpy as np
import pytest
import soundfile

from dragoman import load_audio as load_file
from dragoman.data import load_audio, read_manifest, scan_manifest
from dragoman.errors import DataError, MissingDependencyError, ModelNotFoundError


def kaldi(folder, **files):
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)
    return folder


def test_kaldi_with_and_without_segments(clips):
    kaldi(clips, wav_scp=f"r1 {clips}/a.wav\nr2 b.wav\n", text="r1 one two\nr2 zwei\n", utt2spk="r1 s1\nr2 s2\n")
    first, second = read_manifest(clips)
    assert (first.id, first.text, first.speaker, first.audio) == ("r1", "one two", "s1", f"{clips}/a.wav")
    assert (second.audio, second.source) == (f"{clips}/b.wav", f"{clips}/text:2")
    kaldi(clips, segments="u1 r2 0.05 0.15\n", text="u1 drei\n", utt2spk="u1 s9\n", utt2lang="u1 de\n")
    (only,) = read_manifest(clips)
    assert (only.offset, only.speaker, only.language) == (0.05, "s9", "de")
    assert len(load_audio(only, 16_000)) == 1_600


def test_kaldi_problems_are_named(clips):
    kaldi(
        clips, wav_scp="r1 a.wav\nr2 sox x.wav -t wav - |\nr4 b.wav\n", text="r1 one\nr2 two\nr3 three\nr4\nr1 again\n"
    )
    problems = {(p.kind, p.source.rpartition("/")[2]) for p in scan_manifest(clips).problems}
    assert problems == {
        ("command", "wav.scp:2"),
        ("missing audio", "text:3"),
        ("empty text", "text:4"),
        ("duplicate id", "text:5"),
    }


def test_a_folder_of_audio_with_texts_beside(clips):
    (clips / "deep").mkdir()
    (clips / "c.wav").rename(clips / "deep/c.wav")
    (clips / "a.txt").write_text("one\n")
    (clips / "deep/c.txt").write_text("\ufeffثلاثة\nأربعة\n")
    (clips / "d.txt").write_bytes(b"caf\xe9")
    manifest = scan_manifest(clips)
    assert [(u.id, u.text) for u in manifest] == [("a", "one"), ("deep/c", "ثلاثة أربعة")]
    assert sorted(p.kind for p in manifest.problems) == ["missing text", "missing text", "wrong encoding"]


def test_librispeech(clips):
    (clips / "61").mkdir()
    for name in ("61-7-0000", "61-7-0001"):
        soundfile.write(clips / f"61/{name}.flac", np.zeros(1600, np.float32) + 0.1, 16_000)
    (clips / "61/61-7.trans.txt").write_text("61-7-0000 HE SAID\n61-7-0001 SO\n61-7-0002 GONE\n")
    manifest = scan_manifest(clips)
    assert [(u.id, u.text, u.speaker) for u in manifest] == [("61-7-0000", "HE SAID", "61"), ("61-7-0001", "SO", "61")]
    assert [p.kind for p in manifest.problems] == ["missing audio"]


def test_a_folder_with_tables_is_read_by_split(clips):
    (clips / "train.tsv").write_text("path\tsentence\na.wav\tone\n")
    (clips / "test.tsv").write_text("path\tsentence\nb.wav\ttwo\n")
    assert read_manifest(clips, split="test")[0].text == "two"
    with pytest.raises(DataError, match=r"holds several tables: test\.tsv, train\.tsv\. Name one"):
        read_manifest(clips)
    with pytest.raises(DataError, match="has no split 'dev'"):
        read_manifest(clips, split="dev")
    (clips / "metadata.csv").write_text("file_name,transcription\nc.wav,three\n")
    assert read_manifest(clips)[0].text == "three"


def cut(number, **changes):
    recording = {"id": "r", "sources": [{"type": "file", "channels": [0], "source": "e.wav"}], "duration": 0.5}
    supervision = {"id": "s", "recording_id": "r", "start": 0.0, "duration": 0.2, "text": "hi", "speaker": "x"}
    fields = {"id": f"c{number}", "start": 0.1, "duration": 0.2, "channel": 0, "supervisions": [supervision]}
    return {**fields, "recording": recording, "type": "MonoCut", **changes}


def test_lhotse_cuts(clips):
    second = {"start": 0.12, "duration": 0.05, "text": "there", "language": "en"}
    cuts = [
        cut(1),
        cut(2, supervisions=[*cut(2)["supervisions"], second]),
        cut(3, type="MixedCut"),
        cut(4, supervisions=[]),
        cut(5, recording={}),
    ]
    path = clips / "cuts.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(one) + "\n" for one in cuts).encode()))
    manifest = scan_manifest(path)
    assert manifest.kind == "lhotse"
    assert [(u.id, u.text, round(u.offset, 3), round(u.duration, 3)) for u in manifest] == [
        ("c1", "hi", 0.1, 0.2),
        ("c2-0", "hi", 0.1, 0.2),
        ("c2-1", "there", 0.22, 0.05),
    ]
    assert [p.kind for p in manifest.problems] == ["unsupported cut", "empty text", "malformed line"]
    whole = load_file(clips / "e.wav")
    assert np.array_equal(load_audio(manifest.utterances[0], 16_000), whole[1_600:4_800])


def test_lhotse_writes_what_we_read(clips):
    lhotse = pytest.importorskip("lhotse")
    recording = lhotse.Recording.from_file(clips / "e.wav")
    supervision = lhotse.SupervisionSegment(id="s", recording_id=recording.id, start=0.1, duration=0.3, text="hello")
    made = lhotse.CutSet.from_manifests(
        lhotse.RecordingSet.from_recordings([recording]), lhotse.SupervisionSet.from_segments([supervision])
    ).trim_to_supervisions()
    made.to_file(clips / "cuts.jsonl.gz")
    (found,) = read_manifest(clips / "cuts.jsonl.gz")
    assert (found.text, round(found.offset, 3), round(found.duration, 3)) == ("hello", 0.1, 0.3)
    assert np.array_equal(load_audio(found, 16_000), made[0].load_audio()[0])


def test_data_sets_of_hugging_face(clips):
    datasets = pytest.importorskip("datasets")
    paths = [str(clips / f"{name}.wav") for name in "abc"]
    table = {"audio": paths, "text": ["one", "two", ""], "speaker_id": [1, 2, 3]}
    data = datasets.Dataset(pytest.importorskip("pyarrow").table(table), fingerprint="a").cast_column(
        "audio", datasets.Audio(decode=False)
    )
    datasets.DatasetDict({"train": data, "test": data.select([1])}).save_to_disk(clips / "saved")
    for name in "abc":
        (clips / f"{name}.wav").rename(clips / f"moved-{name}.wav")
    with pytest.raises(DataError, match=r"has the splits train, test\. Name one"):
        read_manifest(clips / "saved")
    manifest = scan_manifest(clips / "saved", split="train")
    assert [(u.text, u.speaker) for u in manifest] == [("one", "1"), ("two", "2")]
    assert [p.kind for p in manifest.problems] == ["empty text"]
    assert np.array_equal(load_audio(manifest.utterances[1], 16_000), load_file(clips / "moved-b.wav"))


def test_data_sets_by_name_need_the_library_or_a_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises((MissingDependencyError, ModelNotFoundError), match=r"datasets|cannot be loaded"):
        read_manifest("someone/no-such-data", split="train")


def test_a_folder_without_data_is_an_error(tmp_path):
    with pytest.raises(DataError, match="is no data set: it holds no audio"):
        read_manifest(tmp_path)
