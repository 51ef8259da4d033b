"""Evaluations: figures, groups, confusions, worst items, comparison, and the report."""

import json
import re
from html.parser import HTMLParser

import pytest
import soundfile

from dragoman.data import Utterance
from dragoman.errors import ConfigError
from dragoman.evaluation import html_report, score
from dragoman.testing import synthetic_speech

TEXTS = ["the cat sat", "a dog ran", "مرحبا بالعالم", "it is so"] * 6
MADE = ["the cat sat", "a dog run", "مرحبا", "it is <so>"] * 6


@pytest.fixture
def items(tmp_path):
    soundfile.write(tmp_path / "a.wav", synthetic_speech(9.5), 16_000)
    return [
        Utterance(
            id=f"u{number}",
            audio=str(tmp_path / "a.wav"),
            text=text,
            duration=1.0 + 4 * (number % 3),
            speaker=f"s{number % 5}",
            language="ar" if "م" in text else "en",
        )
        for number, text in enumerate(TEXTS)
    ]


def test_figures_groups_and_confusions(items):
    result = score(items, MADE, name="m", data="d", resamples=200)
    assert result.figure("wer").value == pytest.approx(100 * 12 / 66)
    assert result.figure("wer").low < result.figure("wer").value < result.figure("wer").high
    assert [group.name for group in result.groups["length"]] == ["0-2", "5-10"]  # 5 s and 9 s are of one range
    assert {group.name for group in result.groups["speaker"]} == {f"s{n}" for n in range(5)}
    languages = {group.name: group for group in result.groups["language"]}
    assert languages["ar"].figures[0].value == 50
    assert languages["ar"].items == 6
    assert [(c.reference, c.hypothesis, c.count) for c in result.confusions] == [("ran", "run", 6), ("بالعالم", "", 6)]
    assert result.items[0].utterance.language == "ar"
    assert [item.scores["wer"] for item in result.items] == sorted(
        (i.scores["wer"] for i in result.items), reverse=True
    )
    with pytest.raises(ConfigError, match="'mer' was not computed"):
        result.figure("mer")


def test_a_second_system_is_compared(items):
    result = score(items, TEXTS, MADE, name="good", against_name="poor", metrics=["cer", "chrf"], resamples=200)
    assert [one.better for one in result.comparisons] == ["first", "first"]
    assert result.comparisons[0].difference < 0 < result.comparisons[1].difference
    assert (result.against, result.other_figures[0].value > 0) == ("poor", True)


def test_intervals_over_speakers_need_speakers(items):
    assert score(items, MADE, units="speaker", resamples=100).units == "speaker"
    nameless = [Utterance(id="a", audio="a", text="x")]
    with pytest.raises(ConfigError, match="need a speaker for every item"):
        score(nameless, ["x"], units="speaker")
    with pytest.raises(ConfigError, match="nothing to score"):
        score([], [])


def test_json_holds_everything(items):
    result = score(items, MADE, TEXTS, name="m", against_name="n", data="d", resamples=100)
    facts = json.loads(json.dumps(result.to_dict(), ensure_ascii=False))
    assert facts["figures"]["wer"]["signature"].startswith("jiwer:")
    assert facts["figures"]["bleu"]["signature"].startswith("sacrebleu|nrefs:1|case:mixed")
    assert len(facts["results"]) == 24
    assert facts["comparisons"]["wer"]["better"] == "second"
    assert set(facts["groups"]) == {"length", "speaker", "language"}


class Checker(HTMLParser):
    """Collects tags, and checks that they are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("language", ["en", "ar"])
def test_the_report_is_one_file_in_either_direction(items, language):
    result = score(items, MADE, TEXTS, name="m & <n>", against_name="other", data="d", resamples=100, rtfx=12.0)
    page = html_report(result, language=language, clips=3)
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    root = next(attrs for tag, attrs in checker.attributes if tag == "html")
    assert root == {"lang": language, "dir": "rtl" if language == "ar" else "ltr"}
    assert checker.seen.count("audio") == 3
    assert checker.seen.count("svg") == 4
    assert "script" not in checker.seen
    assert "link" not in checker.seen
    assert 'name="viewport"' in page
    assert re.findall(r'(?:src|href)="(?!data:audio/flac;base64,)', page) == []
    assert "m &amp; &lt;n&gt;" in page
    assert "it is &lt;so&gt;" in html_report(result, clips=24)
    assert ("التقييم" in page) == (language == "ar")
    assert len(page) < 1_000_000


def test_a_report_without_audio_or_in_an_unknown_language(items, tmp_path):
    (tmp_path / "a.wav").unlink()
    result = score(items, MADE, resamples=100)
    assert "The audio cannot be played here." in html_report(result)
    with pytest.raises(ConfigError, match="Reports are in en or ar"):
        html_report(result, language="xx")
