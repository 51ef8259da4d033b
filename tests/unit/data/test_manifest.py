"""Manifests by path alone: tables of every usual layout, and each bad one named with file and line."""

import contextlib
import gzip
import json
import random
import warnings

import pytest

from dragoman.data import read_manifest, scan_manifest
from dragoman.errors import ConfigError, DataError, DragomanError, ModelNotFoundError


def rows(*values):
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


LAYOUTS = {
    "plain.jsonl": rows({"audio": "a.wav", "text": "one"}, {"audio": "b.wav", "text": "two"}),
    "list.json": json.dumps([{"path": "a.wav", "sentence": "one"}, {"path": "b.wav", "sentence": "two"}], indent=1),
    "nemo.json": rows(
        {"audio_filepath": "a.wav", "duration": 0.1, "text": "one"},
        {"audio_filepath": "b.wav", "duration": 0.2, "offset": 0.0, "text": "two"},
    ),
    "plain.csv": 'file_name,transcription\n"a.wav","one"\nb.wav,two\n',
    "semicolons.csv": "Path;Transcript\na.wav;one\nb.wav;two\n",
    "common_voice.tsv": (
        "client_id\tpath\tsentence_id\tsentence\tup_votes\tage\tlocale\n"
        "s1\ta.wav\tx\tone\t2\t\ten\ns2\tb.wav\tx\ttwo\t2\t\ten\n"
    ),
    "covost.tsv": "path\tsentence\ttranslation\tclient_id\na.wav\tun\tone\ts1\nb.wav\tdeux\ttwo\ts2\n",
    "fairseq.tsv": (
        "id\taudio\tn_frames\ttgt_text\tspeaker\tsrc_text\tsrc_lang\ttgt_lang\n"
        "u1\ta.wav\t1600\tone\ts1\tun\tfr\ten\nu2\tb.wav\t3200\ttwo\ts2\tdeux\tfr\ten\n"
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("form", ["plain", "gzip", "bom", "crlf"])
def test_usual_layouts_are_read_by_path_alone(clips, name, form):
    content = LAYOUTS[name]
    content = content.replace("\n", "\r\n") if form == "crlf" else content
    path = clips / (name + ".gz" if form == "gzip" else name)
    raw = content.encode("utf-8-sig" if form == "bom" else "utf-8")
    path.write_bytes(gzip.compress(raw) if form == "gzip" else raw)
    found = read_manifest(path)
    assert [(u.audio, u.text) for u in found] == [(str(clips / "a.wav"), "one"), (str(clips / "b.wav"), "two")]
    assert len({u.id for u in found}) == 2


def test_speakers_languages_times_and_ids_are_read(clips):
    path = clips / "m.jsonl"
    path.write_text(
        rows(
            {"audio": "a.wav", "text": "x", "id": 7, "start": 0.02, "end": 0.07, "speaker": "s", "lang": "de"},
            {"audio": "b.wav", "text": "y", "duration_ms": 150, "client_id": 3},
        )
    )
    first, second = read_manifest(path)
    assert (first.id, first.offset, first.speaker, first.language) == ("7", 0.02, "s", "de")
    assert first.duration == pytest.approx(0.05)
    assert (second.id, second.duration, second.speaker, second.language) == ("b.wav", 0.15, "3", None)
    assert second.source == f"{path}:2"


def test_utf16_and_quotation_marks_in_tsv(clips):
    path = clips / "m.tsv"
    path.write_text('path\tsentence\na.wav\t"قال نعم\nb.wav\tdit "oui"\n', encoding="utf-16")
    assert [u.text for u in read_manifest(path)] == ['"قال نعم', 'dit "oui"']
    for encoding in ("utf-8", "utf-16"):
        path.write_text("path\tsentence\r\na.wav\tone\u2028two\x85\r\n", encoding=encoding, newline="")
        assert [(u.text, u.source) for u in read_manifest(path)] == [("one\u2028two", f"{path}:2")]


def test_a_cell_of_a_csv_may_have_lines_and_the_next_item_keeps_its_line(clips):
    path = clips / "m.csv"
    path.write_text('path,text\na.wav,"one\ntwo"\nb.wav,three\n')
    found = read_manifest(path)
    assert [(u.text, u.source) for u in found] == [("one\ntwo", f"{path}:2"), ("three", f"{path}:4")]


def test_relative_paths_lead_from_the_manifest_its_clips_or_a_given_root(clips, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    (clips / "clips").mkdir()
    (clips / "a.wav").rename(clips / "clips/x.wav")
    (clips / "m.tsv").write_text("path\tsentence\nx.wav\tone\nb.wav\ttwo\n")
    assert [u.audio for u in read_manifest(clips / "m.tsv")] == [str(clips / "clips/x.wav"), str(clips / "b.wav")]
    apart = tmp_path_factory.mktemp("lists") / "m.tsv"
    apart.write_text("path\tsentence\nb.wav\ttwo\n")
    assert read_manifest(apart, audio_root=clips)[0].audio == str(clips / "b.wav")
    with pytest.raises(DataError, match=r"m\.tsv:2: b\.wav: there is no such file\. Relative paths are looked for in"):
        read_manifest(apart)


def test_columns_are_overridable(clips):
    path = clips / "m.tsv"
    path.write_text("path\tsentence\ttranslation\twords\na.wav\tun\tone\tein\n")
    assert read_manifest(path)[0].text == "one"
    assert read_manifest(path, {"text": "sentence"})[0].text == "un"
    assert read_manifest(path, {"text": "words"})[0].text == "ein"
    with pytest.raises(DataError, match=r"m\.tsv:1: there is no column for the text: expected 'wrods', which"):
        read_manifest(path, {"text": "wrods"})
    with pytest.raises(ConfigError, match=r"not 'txt'\. Did you mean \"text\"\?"):
        read_manifest(path, {"txt": "words"})


GOOD = {"audio": "a.wav", "text": "one"}
BAD = {
    "missing column": (
        rows(GOOD, {"audio": "b.wav"}),
        2,
        "missing column",
        "no column for the text: expected tgt_text",
    ),
    "wrong encoding": (rows(GOOD).encode() + b'{"audio": "b.wav", "text": "caf\xe9"}\n', 2, "wrong encoding", "0xE9"),
    "relative path": (rows(GOOD, {"audio": "gone/b.wav", "text": "x"}), 2, "missing audio", "no such file"),
    "empty text": (rows(GOOD, {"audio": "b.wav", "text": " \u200b "}), 2, "empty text", "text is empty"),
    "null text": (rows(GOOD, {"audio": "b.wav", "text": None}), 2, "empty text", "text is empty"),
    "duplicate id": (
        rows({**GOOD, "id": "u"}, {"audio": "b.wav", "text": "x", "id": "u"}),
        2,
        "duplicate id",
        "also that of",
    ),
    "malformed": (rows(GOOD) + '{"audio": "b.wav", "te\n', 2, "malformed line", "not JSON"),
    "no object": (rows(GOOD) + "[1]\n", 2, "malformed line", "JSON object, but holds a list"),
    "text of a wrong type": (rows(GOOD, {"audio": "b.wav", "text": ["x"]}), 2, "bad text", "must be a string"),
    "true as text": (rows(GOOD, {"audio": "b.wav", "text": True}), 2, "bad text", "must be a string"),
    "half of a surrogate pair": (rows(GOOD) + '{"audio": "b.wav", "text": "x\\ud800"}', 2, "bad text", "surrogate"),
    "a number beyond floats": (
        rows(GOOD, {"audio": "b.wav", "text": "x", "duration": 10**400}),
        2,
        "bad number",
        "0 or",
    ),
    "no path": (rows(GOOD, {"audio": 5, "text": "x"}), 2, "no audio", "must be a path, but is 5"),
    "negative": (rows(GOOD, {"audio": "b.wav", "text": "x", "duration": -1}), 2, "bad number", "but is -1"),
    "end before start": (
        rows(GOOD, {"audio": "b.wav", "text": "x", "start": 2, "end": 1}),
        2,
        "bad number",
        "more than 0 seconds, but is -1",
    ),
    "URL": (rows(GOOD, {"audio": "https://x.org/a.wav", "text": "x"}), 2, "remote audio", "Download the file"),
}


@pytest.mark.parametrize("name", BAD)
def test_each_bad_item_is_named_with_file_and_line(clips, name):
    content, line, kind, message = BAD[name]
    path = clips / "bad.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    manifest = scan_manifest(path)
    assert len(manifest.utterances) == 1
    (problem,) = manifest.problems
    assert (problem.kind, problem.source) == (kind, f"{path}:{line}")
    assert message in problem.message
    with pytest.raises(DataError, match=f"bad.jsonl:{line}: "):
        read_manifest(path)
    with pytest.warns(UserWarning, match=rf"1 of 2 items are skipped \(1 {kind}\)\. The first: .*bad.jsonl:{line}: "):
        assert len(read_manifest(path, max_bad=0.5)) == 1


def test_several_texts_of_one_recording_have_ids_of_their_own(clips):
    path = clips / "m.jsonl"
    path.write_text(rows(GOOD, {**GOOD, "text": "two"}, {**GOOD, "text": "three"}))
    assert [u.id for u in read_manifest(path)] == ["a.wav", "a.wav#2", "a.wav#3"]


def test_ten_thousand_items_with_three_per_cent_bad(clips):
    path = clips / "many.tsv"
    lines = ["id\tpath\tsentence"]
    for number in range(10_000):
        text, audio = "words", "a.wav"
        if number % 100 == 7:
            text = ""
        elif number % 100 == 50:
            audio = "gone.wav"
        lines.append(f"{number}\t{audio}\t{text}" if number % 100 != 99 else f"{number}\tshort")
    path.write_text("\n".join(lines) + "\n")
    with pytest.warns(UserWarning, match="300 of 10000 items are skipped") as caught:
        found = read_manifest(path)
    assert len(found) == 9_700
    assert len(caught) == 1
    assert "100 empty text" in str(caught[0].message)
    manifest = scan_manifest(path)
    assert [p.source for p in manifest.problems[:3]] == [f"{path}:9", f"{path}:52", f"{path}:101"]
    with pytest.raises(DataError, match=r"300 of 10000 items cannot be used, more than the limit of 2\.0%"):
        read_manifest(path, max_bad=0.02)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.tsv", b"path\ttxt\na.wav\tone\n", r"m\.tsv:1: there is no column for the text: .*found 'path', 'txt'"),
        ("m.tsv", b"a.wav\tone\nb.wav\ttwo\n", r"m\.tsv:1: there is no column for the audio"),
        ("m.csv", b"path,text,text\na.wav,x,y\n", r"m\.csv:1: has the column 'text' twice"),
        ("m.csv", b'path,text\na.wav,one\nb.wav,"two\n', r"m\.csv:3: cannot be split into cells"),
        ("m.tsv", b"path\tsentence\na.wav\n", r"m\.tsv:2: has 1 cells, but the header has 2"),
        ("m.tsv", "path\ttext\n".encode("utf-16-le"), r"not a text file, or is UTF-16 without its mark"),
        ("m.jsonl", b"\n \n", "is empty"),
        ("m.tsv", b"path\tsentence\n", "holds no items"),
        ("m.json", b'[{"a": 1}', "is not a JSON list"),
        ("m.jsonl.gz", b"\x1f\x8b\x08broken", "is damaged gzip"),
        ("m.tsv", b"path\ttext\na.wav\tcaf\xe9\n", r"m\.tsv:2: byte 10 \(0xE9\) is not UTF-8\. Convert the file"),
        ("m.orc", b"ORC", "is of no known format"),
    ],
)
def test_a_manifest_that_is_bad_as_a_whole_is_an_error(clips, name, content, message):
    (clips / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_manifest(clips / name)


def test_lines_swallowed_by_an_open_quotation_mark_are_named(clips):
    (clips / "m.csv").write_text('path,text\na.wav,one\nb.wav,"two\nc.wav,three\nd.wav,say "hi"\n')
    (problem,) = scan_manifest(clips / "m.csv").problems
    assert problem.source.endswith("m.csv:3")
    assert "so that lines 3 to 5 are lost" in problem.message


@pytest.mark.parametrize("name", ["m.jsonl", "m.json", "m.csv", "m.tsv", "m.jsonl.gz", "m.txt"])
def test_damaged_manifests_raise_nothing_but_our_errors(clips, name):
    rng = random.Random(name)
    whole = (LAYOUTS["nemo.json"] if "json" in name else LAYOUTS["fairseq.tsv"]).encode()
    whole = gzip.compress(whole) if name.endswith(".gz") else whole
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            content[rng.randrange(len(content))] = rng.choice(b'\0"\n\t,{}[]\\:\xff\xe9\x1f19e-')
        (clips / name).write_bytes(content[: rng.randint(1, len(content))])
        with contextlib.suppress(DragomanError):
            for item in scan_manifest(clips / name).problems:
                assert str(item).startswith(str(clips / name))


def test_a_missing_manifest_is_not_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in (tmp_path / "none.tsv", "none", "data/train", "corpus/train.tsv", "owner/list.jsonl.gz"):  # no hub ids
        with pytest.raises(ModelNotFoundError, match="there is no such file or folder"):
            read_manifest(name)


def test_a_good_manifest_gives_no_warning(clips):
    (clips / "m.jsonl").write_text(rows(GOOD))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_manifest(str(clips / "m.jsonl"))) == 1
