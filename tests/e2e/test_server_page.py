"""The page, in a real Chromium: files, microphone, playing from a word, editing, downloads, Arabic, errors, access.

Screenshots are kept in the folder `DRAGOMAN_SCREENSHOTS`, and nowhere without it; `.ci/run` sets it to
`build/screenshots`, which git ignores.
"""

import json
import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browser import browsing, executable
from serving import running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(executable() is None, reason="no Chromium is installed (apt-get install chromium)"),
]

WORDS = "A good interpreter listens in one language and speaks in another."
LAST = "document.querySelector('.result:last-child')"


@pytest.fixture(scope="module")
def served():
    with running("--model", "whisper-tiny.en=tiny.en", "--preload") as server:
        yield server


@pytest.fixture(scope="module")
def chromium(sample, tmp_path_factory):
    microphone = tmp_path_factory.mktemp("microphone") / "speech.wav"
    soundfile.write(microphone, np.concatenate([np.zeros(8000), sample, np.zeros(48_000)]), 16_000)
    with browsing(microphone=microphone) as one:
        yield one


@pytest.fixture
def page(served, chromium):
    """The page as a new visitor sees it; it has logged no error and requested nothing from elsewhere afterwards."""
    chromium.open(served.url)
    chromium.run("localStorage.clear(); sessionStorage.clear()")
    chromium.open(served.url)
    chromium.wait("document.querySelector('#model').options.length")
    chromium.errors.clear()
    chromium.requests.clear()
    yield chromium
    assert chromium.errors == []
    assert [url for url in chromium.requests if not url.startswith((served.url, "data:", f"blob:{served.url}"))] == []


@pytest.fixture
def transcribed(page, sample_path):
    page.choose("#files", sample_path)
    page.wait("document.querySelector('.downloads:not([hidden])')")
    return page


def shoot(page, name: str, **size: int) -> None:
    if folder := os.environ.get("DRAGOMAN_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(Path(folder) / f"{name}.png", **size)


def test_a_file_becomes_segments_with_times(transcribed):
    shown = transcribed.run("[...document.querySelectorAll('.segments .words')].map((one) => one.textContent.trim())")
    assert shown[0] == WORDS
    assert len(shown) == 2
    assert transcribed.run("document.querySelector('.time').textContent") == "00:00.3"
    assert transcribed.run("document.querySelector('#status').textContent") == "sample_en.flac is transcribed."
    shoot(transcribed, "result")
    shoot(transcribed, "result-phone", width=400, height=800)


def test_a_click_on_a_word_plays_from_there(transcribed):
    start = transcribed.run("document.querySelectorAll('.word')[20].word.start")
    assert start > 4
    transcribed.run("document.querySelectorAll('.word')[20].click()")
    transcribed.wait(f"document.querySelector('audio').currentTime >= {start - 0.01}")
    transcribed.wait("document.querySelector('.word.now')")


def test_words_are_reached_by_keyboard(transcribed):
    transcribed.run("document.querySelector('.word').focus()")
    for _ in range(3):
        transcribed.press("ArrowRight")
    transcribed.press("ArrowLeft")
    assert transcribed.run("document.activeElement.textContent") == "interpreter"
    transcribed.press("Enter")
    transcribed.wait("document.querySelector('audio').currentTime > 0.3")


def test_an_edited_segment_is_downloaded(transcribed, tmp_path):
    transcribed.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    transcribed.run("document.querySelector('.edit').click()")
    transcribed.run("document.querySelector('textarea').value = 'Good morning, <everyone>.'")
    transcribed.run("document.querySelectorAll('.editor input')[1].value = '2.5'")
    shoot(transcribed, "editing")
    transcribed.run("document.querySelector('.editor .primary').click()")
    assert "morning" in transcribed.run("document.querySelector('.segments').innerText")
    found = {}
    for kind in ("txt", "srt", "vtt", "json"):
        transcribed.run(
            f"[...document.querySelectorAll('.downloads .button')].find((b) => b.innerText === '{kind}').click()"
        )
        path, end = tmp_path / f"sample_en.{kind}", time.monotonic() + 20
        while not path.exists():
            assert time.monotonic() < end
            time.sleep(0.1)
        found[kind] = path.read_text()
    assert found["txt"].startswith("Good morning, <everyone>.\nEvery voice")
    assert found["srt"].startswith("1\n00:00:00,360 --> 00:00:02,500\nGood morning, <everyone>.\n\n2\n")
    assert found["vtt"].startswith("WEBVTT\n\n00:00:00.360 --> 00:00:02.500\nGood morning, &lt;everyone&gt;.\n\n")
    segments = json.loads(found["json"])["segments"]
    assert segments[0]["end"] == 2.5
    assert segments[1]["words"][0]["word"] == "Every"


def test_times_that_contradict_each_other_are_refused(transcribed):
    transcribed.run("document.querySelector('.edit').click()")
    transcribed.run("document.querySelectorAll('.editor input')[1].value = '0.1'")
    transcribed.run("document.querySelector('.editor .primary').click()")
    assert "before" in transcribed.run("document.querySelector('.editor [role=alert]').textContent")
    transcribed.press("Escape")
    assert transcribed.run("document.querySelector('.editor')") is None


def test_the_interface_in_arabic_goes_from_right_to_left(transcribed):
    transcribed.run("document.querySelector('#interface').click()")
    assert transcribed.run("[document.documentElement.lang, document.documentElement.dir]") == ["ar", "rtl"]
    shown = transcribed.run("document.body.innerText")
    assert "أفلت التسجيلات هنا" in shown
    assert WORDS in shown
    left = [word for word in ("Drop", "Choose", "Edit", "Remove", "Download", "transcribed", "nglish") if word in shown]
    assert left == ["nglish"]  # the button that leads back
    assert transcribed.run("document.querySelector('.facts').textContent").startswith("الإنجليزية")
    labels = transcribed.run("[...document.querySelectorAll('[aria-label]')].map((one) => one.ariaLabel).join()")
    assert "Download" not in labels
    assert transcribed.run("getComputedStyle(document.querySelector('.words')).direction") == "ltr"  # English words
    transcribed.run("document.querySelector('#theme').click()")
    shoot(transcribed, "arabic")
    shoot(transcribed, "arabic-phone", width=400, height=800)


def test_live_words_appear_while_somebody_speaks(page):
    page.run("document.querySelector('#record').click()")
    page.wait("document.querySelector('#live-text').textContent.includes('interpreter')")
    shoot(page, "live")
    time.sleep(6)
    page.run("document.querySelector('#record').click()")
    page.wait("document.querySelector('.downloads:not([hidden])')")
    shown = page.run("document.querySelector('.segments').innerText")
    assert "interpreter listens in one language" in shown.replace("\n", " ")
    page.wait("document.querySelector('audio').duration > 5")


def test_an_error_is_shown_with_a_way_out(page, tmp_path, sample_path):
    broken = tmp_path / "notes.mp3"
    broken.write_text("these are notes and no music")
    page.choose("#files", broken, sample_path)
    page.wait("document.querySelectorAll('.downloads:not([hidden])').length")  # the next file is transcribed
    message = page.run("document.querySelector('.result .error').innerText")
    assert "notes.mp3 is not audio" in message
    assert "Try again" in message
    shoot(page, "error")
    page.run("document.querySelector('#interface').click()")
    shoot(page, "error-arabic-phone", width=400, height=800)
    assert [error for error in page.errors if "400 (Bad Request)" not in error] == []
    page.errors.clear()


def test_a_page_without_key_asks_for_it(chromium, tiny_checkpoint, sample_path):
    with running("--model", f"tiny={tiny_checkpoint}", DRAGOMAN_API_KEY="secret") as server:
        chromium.open(server.url)
        chromium.wait("!document.querySelector('#key-field').hidden")
        chromium.run("Object.assign(document.querySelector('#key'), { value: 'secret' }).onchange({ target: key })")
        chromium.wait("document.querySelector('#model').options.length")
        chromium.choose("#files", sample_path)
        chromium.wait("document.querySelector('.downloads:not([hidden])')")
    chromium.errors.clear()


@pytest.fixture(scope="module")
def axe(tmp_path_factory) -> str:
    """The source of axe-core, which checks accessibility."""
    folder = tmp_path_factory.mktemp("axe")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed, which fetches axe-core")
    done = subprocess.run([npm, "pack", "--silent", "axe-core@4.10.2"], cwd=folder, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no npm registry is reached")
    with tarfile.open(folder / "axe-core-4.10.2.tgz") as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


@pytest.mark.network
@pytest.mark.parametrize("state", ["new", "result", "editing", "arabic", "dark"])
def test_everybody_can_use_it(page, axe, sample_path, state):
    if state != "new":
        page.choose("#files", sample_path)
        page.wait("document.querySelector('.downloads:not([hidden])')")
    clicked = {"editing": ".edit", "arabic": "#interface", "dark": "#theme"}.get(state)
    if clicked:
        page.run(f"document.querySelector('{clicked}').click()")
    page.run(axe + "; 0")
    found = page.run(
        "axe.run().then((all) => all.violations.map((one) => [one.id, one.nodes.map((node) => node.html)]))"
    )
    assert found == []
    shoot(page, f"accessible-{state}")
