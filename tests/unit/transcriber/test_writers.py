import json
import math
import os
import re
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.errors import ConfigError, DragomanError
from dragoman.transcriber.result import ModelInfo, Segment, Transcript, join_texts
from dragoman.transcriber.writers import FORMATS, output_paths, render, write_transcript


def transcript_of(*segments: tuple[float, float, str]) -> Transcript:
    made = tuple(
        Segment(id=i, start=start, end=end, text=text, tokens=(7, i), avg_logprob=-0.25)
        for i, (start, end, text) in enumerate(segments)
    )
    return Transcript(
        text=join_texts(segment.text for segment in made),
        segments=made,
        language="en",
        duration=max((segment.end for segment in made), default=0.0),
        model=ModelInfo(name="some/model", commit="0" * 40),
        parameters={"beam_size": 5},
    )


TALK = transcript_of(
    (0.0, 2.5, "Good day."), (3.0004, 61.2346, "Is it\training?"), (3725.5, 3726.0, "Fish & chips < 5.")
)


def test_txt_has_one_segment_per_line():
    assert render(TALK, "txt") == "Good day.\nIs it raining?\nFish & chips < 5.\n"


def test_srt_is_numbered_with_hours_and_commas():
    assert render(TALK, "srt") == (
        "1\n00:00:00,000 --> 00:00:02,500\nGood day.\n\n"
        "2\n00:00:03,000 --> 00:01:01,235\nIs it\training?\n\n"
        "3\n01:02:05,500 --> 01:02:06,000\nFish & chips < 5.\n\n"
    )


def test_vtt_writes_hours_only_where_there_are_any_and_escapes_markup():
    assert render(TALK, "vtt") == (
        "WEBVTT\n\n"
        "00:00.000 --> 00:02.500\nGood day.\n\n"
        "00:03.000 --> 01:01.235\nIs it\training?\n\n"
        "01:02:05.500 --> 01:02:06.000\nFish &amp; chips &lt; 5.\n\n"
    )


def test_tsv_has_whole_milliseconds_and_no_stray_tabs():
    assert render(TALK, "tsv") == (
        "start\tend\ttext\n0\t2500\tGood day.\n3000\t61235\tIs it raining?\n3725500\t3726000\tFish & chips < 5.\n"
    )


def test_json_has_the_fields_of_whisper_and_ours():
    data = json.loads(render(TALK, "json"))
    assert data["text"] == "Good day. Is it\training? Fish & chips < 5."
    assert data["language"] == "en"
    assert data["model"] == {"name": "some/model", "commit": "0" * 40}
    assert data["parameters"] == {"beam_size": 5}
    assert data["segments"][1] == {
        "id": 1,
        "seek": 300,
        "start": 3.0004,
        "end": 61.2346,
        "text": " Is it\training?",
        "tokens": [7, 1],
        "temperature": 0.0,
        "avg_logprob": -0.25,
        "confidence": math.exp(-0.25),
        "compression_ratio": 0.0,
        "no_speech_prob": None,
        "truncated": False,
    }


def test_texts_of_segments_in_json_join_to_the_text():
    for one in (TALK, transcript_of((0, 1, "你好。"), (1, 2, ""), (2, 3, "再见"), (3, 4, "Bye"))):
        data = json.loads(render(one, "json"))
        assert "".join(segment["text"] for segment in data["segments"]) == data["text"]


def test_json_stays_valid_when_a_probability_is_not_finite():
    segment = Segment(id=0, start=0, end=1, text="x", avg_logprob=float("-inf"))
    assert segment.to_dict()["avg_logprob"] is None


def test_json_writes_other_scripts_as_they_are():
    assert "مرحبا" in render(transcript_of((0, 1, "مرحبا")), "json")


def test_more_than_99_hours_are_written_out():
    long = transcript_of((100 * 3600, 100 * 3600 + 1, "Still here."))
    assert "100:00:00,000 --> 100:00:01,000" in render(long, "srt")
    assert "100:00:00.000 --> 100:00:01.000" in render(long, "vtt")


def test_silence_gives_valid_files_without_cues():
    silence = transcript_of((0, 1, ""), (1, 2, "  \n "))
    assert [render(silence, name) for name in ("txt", "vtt", "srt", "tsv")] == [
        "",
        "WEBVTT\n\n",
        "",
        "start\tend\ttext\n",
    ]


def test_an_earlier_cue_ends_when_a_later_one_begins():
    assert render(transcript_of((0, 5, "one"), (4, 6, "two")), "tsv").splitlines()[1:] == [
        "0\t4000\tone",
        "4000\t6000\ttwo",
    ]


CUE_TIMES = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d),(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d),(\d{3})")


def strict_srt(content: str) -> list[tuple[int, int, str]]:
    """Parse like the strictest players: consecutive numbers, times in order, no blank line inside, no overlap."""
    cues, end = [], 0
    blocks = content.split("\n\n")
    assert blocks.pop() == ""
    for expected, block in enumerate(blocks, start=1):
        number, times, *lines = block.split("\n")
        assert int(number) == expected
        match = CUE_TIMES.fullmatch(times)
        assert match
        h1, m1, s1, f1, h2, m2, s2, f2 = map(int, match.groups())
        start, previous_end, end = ((h1 * 60 + m1) * 60 + s1) * 1000 + f1, end, ((h2 * 60 + m2) * 60 + s2) * 1000 + f2
        assert previous_end <= start < end
        assert lines
        assert all(line.strip() for line in lines)
        assert "-->" not in block.split("\n", 2)[2]
        cues.append((start, end, "\n".join(lines)))
    return cues


times = st.floats(-1, 400_000, allow_nan=False)
texts = st.one_of(st.text(max_size=20), st.sampled_from(["a\n\nb", " --> ", "\r\n", "x\u2028\u2028y", "1\n2"]))


@given(st.lists(st.tuples(times, times, texts), max_size=12))
def test_any_segments_give_files_that_strict_parsers_accept(segments):
    transcript = transcript_of(*((start, max(start, start + abs(length)), text) for start, length, text in segments))
    cues = strict_srt(render(transcript, "srt"))
    assert len(cues) == sum(bool(text.strip()) for *_, text in segments)
    assert render(transcript, "vtt").count(" --> ") == len(cues)
    rows = render(transcript, "tsv").split("\n")[1:-1]
    assert [tuple(map(int, row.split("\t")[:2])) for row in rows] == [cue[:2] for cue in cues]
    assert all(row.count("\t") == 2 for row in rows)
    json.loads(render(transcript, "json"), parse_constant=pytest.fail)


def test_all_writes_each_format_and_makes_the_folder(tmp_path):
    written = write_transcript(TALK, tmp_path / "deep" / "talk.v2", "all")
    assert [path.name for path in written] == [f"talk.v2.{name}" for name in FORMATS]
    for name, path in output_paths(tmp_path / "deep" / "talk.v2", "all").items():
        assert path.read_text(encoding="utf-8") == render(TALK, name)


def test_files_get_the_usual_permissions(tmp_path):
    (path,) = write_transcript(TALK, tmp_path / "talk", "txt")
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_the_longest_file_name_can_be_written(tmp_path):
    (path,) = write_transcript(TALK, tmp_path / ("x" * 251), "txt")
    assert path.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch, error):
    write_transcript(TALK, tmp_path / "talk", "txt")

    def stopped(*_: object) -> None:
        raise error

    monkeypatch.setattr("os.replace", stopped)
    with pytest.raises((KeyboardInterrupt, DragomanError)):
        write_transcript(transcript_of((0, 1, "Something else.")), tmp_path / "talk", "txt")
    assert os.listdir(tmp_path) == ["talk.txt"]
    assert (tmp_path / "talk.txt").read_text() == render(TALK, "txt")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DragomanError, match=r"file.* cannot be written"):
        write_transcript(TALK, tmp_path / "file" / "talk", "txt")


@pytest.mark.parametrize("name", ["docx", "all", "", "TXT"])
def test_an_unknown_format_lists_the_formats(name):
    with pytest.raises(ConfigError, match="must be one of txt, vtt, srt, tsv, json"):
        render(TALK, name)
