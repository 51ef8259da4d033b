"""The examples of the server's pages as they stand there: curl, the Python client, Home Assistant's protocol."""

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import soundfile
from serving import running
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.info import Describe, Info

from dragoman import Transcriber

ROOT = Path(__file__).parents[2]
PAGES = ["docs/server.md"]
WHISPER = "whisper-tiny.en"


@pytest.fixture
def folder(sample, tmp_path, monkeypatch) -> Path:
    """A folder with the recordings of the pages."""
    soundfile.write(tmp_path / "talk.mp3", sample[:60_000], 16_000)
    soundfile.write(tmp_path / "lecture.opus", sample[:60_000], 16_000, format="OGG", subtype="OPUS")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(page: str, kind: str) -> list[str]:
    found = re.findall(rf"^```{kind}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found


def here(text: str, server) -> str:
    """Return a text of the page for the server of the tests, whose model has another name."""
    return text.replace("http://127.0.0.1:8000", server.url).replace("small", "tiny")


def commands(page: str) -> Iterator[tuple[str, str]]:
    """Yield each `curl` of a page and what the page shows as its answer."""
    for block in blocks(page, "console"):
        for command, shown in re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            if command.startswith("curl"):
                yield command, shown


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("page", PAGES)
def test_curl(server, tiny_checkpoint, folder, page):
    job, tried = "", 0
    for command, shown in commands(page):
        if "/result" in command:
            finish(server, job)
        command = here(command, server).replace("job_5b…", job)
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        if shown.startswith("{"):
            found = json.loads(done.stdout)
            assert set(re.findall(r'"(\w+)":', shown)) <= set(re.findall(r'"(\w+)":', done.stdout))
            job = found.get("id", job)
        tried += 1
    assert tried >= 5
    expected = Transcriber(tiny_checkpoint).transcribe(folder / "lecture.opus").text
    subtitles = (folder / "lecture.srt").read_text()
    assert subtitles.startswith("1\n00:00:0")
    assert "".join(expected.split())[:20] in "".join(subtitles.split())
    assert server.client.get(f"/v1/jobs/{job}").status_code == 404  # the last command deletes it


def finish(server, job: str) -> None:
    end = time.monotonic() + 60
    while server.client.get(f"/v1/jobs/{job}").json()["status"] != "completed":
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize("page", PAGES)
def test_the_python_client(server, tiny_checkpoint, folder, page):
    (code,) = (block for block in blocks(page, "python") if "openai" in block)
    done = subprocess.run([sys.executable, "-c", here(code, server)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = Transcriber(tiny_checkpoint).transcribe(folder / "talk.mp3")
    assert done.stdout == f"{expected.text} {len(expected.segments)}\n"


# --- Home Assistant ---------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def bridge(server, **environment: str) -> Iterator[tuple[str, int]]:
    """Run the example, and yield where it listens."""
    port = free_port()
    options = ["--uri", f"tcp://127.0.0.1:{port}", "--server", f"{server.url}/v1", "--languages", "en"]
    process = subprocess.Popen(
        [sys.executable, ROOT / "examples/home_assistant.py", *options], env={**os.environ, **environment}
    )
    try:
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < end
                assert process.poll() is None
                time.sleep(0.1)
        yield "127.0.0.1", port
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


async def asked(place: tuple[str, int], audio: bytes, rate: int, **wanted: object):
    """Send a command as Home Assistant does, and return the events of the answer."""
    async with AsyncTcpClient(*place) as client:
        await client.write_event(Transcribe(**wanted).event())
        await client.write_event(AudioStart(rate=rate, width=2, channels=1).event())
        for begin in range(0, len(audio), 2048):
            chunk = AudioChunk(rate=rate, width=2, channels=1, audio=audio[begin : begin + 2048])
            await client.write_event(chunk.event())
        await client.write_event(AudioStop().event())
        event = await asyncio.wait_for(client.read_event(), 60)
        assert event is not None
        return event


async def described(place: tuple[str, int]) -> Info:
    async with AsyncTcpClient(*place) as client:
        await client.write_event(Describe().event())
        event = await asyncio.wait_for(client.read_event(), 60)
        assert event is not None
        return Info.from_event(event)


def test_home_assistant(server, tiny_checkpoint, sample):
    samples = (sample[:60_000] * 32767).astype("<i2")
    with bridge(server) as place:
        models = asyncio.run(described(place)).asr[0].models
        assert [(one.name, one.languages) for one in models] == [("tiny", ["en"]), (WHISPER, ["en"])]
        expected = Transcriber(tiny_checkpoint).transcribe(samples)
        for wanted in ({}, {"name": "tiny"}):
            found = Transcript.from_event(asyncio.run(asked(place, samples.tobytes(), 16_000, **wanted)))
            assert found.text == expected.text != ""
        hot = Transcriber(tiny_checkpoint).transcribe(samples, hotwords=("zzz",)).text
        answer = asyncio.run(asked(place, samples.tobytes(), 16_000, transcript_names=["zzz"]))
        assert Transcript.from_event(answer).text == hot
        slow = asyncio.run(asked(place, samples[::2].tobytes(), 8000))  # another rate than the models have
        assert Transcript.from_event(slow).text


def test_home_assistant_is_told_what_is_wrong(server, sample):
    samples = (sample[:30_000] * 32767).astype("<i2").tobytes()
    with bridge(server) as place:
        for wanted, message in (({"name": "none"}, "does not exist"), ({"name": WHISPER, "language": "ar"}, "English")):
            answer = asyncio.run(asked(place, samples, 16_000, **wanted))
            assert Error.is_type(answer.type)
            assert message in Error.from_event(answer).text
        assert Transcript.is_type(asyncio.run(asked(place, samples, 16_000)).type)  # the next one is answered


@pytest.mark.slow
def test_home_assistant_with_a_key(tiny_checkpoint, sample):
    samples = (sample[:30_000] * 32767).astype("<i2").tobytes()
    with running("--model", f"tiny={tiny_checkpoint}", DRAGOMAN_API_KEY="secret") as server:
        with bridge(server, OPENAI_API_KEY="secret") as place:
            assert Transcript.is_type(asyncio.run(asked(place, samples, 16_000)).type)
        with bridge(server, OPENAI_API_KEY="wrong") as place:
            assert Error.is_type(asyncio.run(asked(place, samples, 16_000)).type)


# --- the container ----------------------------------------------------------------------------------------------------


def test_the_health_check_of_the_container(server):
    line = re.search(r"^HEALTHCHECK .*?CMD (\[.*\])$", (ROOT / "Containerfile").read_text(), re.MULTILINE)
    assert line is not None
    _, *arguments = json.loads(line[1])
    for url, code in ((server.url, 0), (f"http://127.0.0.1:{free_port()}", 1)):
        command = [sys.executable, *(one.replace("http://127.0.0.1:8000", url) for one in arguments)]
        assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == code
