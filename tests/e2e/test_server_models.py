"""Models of a server: unloaded when idle, their memory freed, loaded again; several of the same name are refused."""

import re
import time
from pathlib import Path

import pytest
from serving import running

from dragoman.cli import main

WHISPER = "whisper-tiny.en"


def private_mb(process: int) -> float:
    """Return the memory of a process that no file backs."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024


@pytest.mark.slow
def test_an_idle_model_is_unloaded_and_loaded_again(sample_path):
    """Copied weights, 150 MB in float32, so that their memory is the process's own."""
    with running("--model", f"{WHISPER}=tiny.en", "--copy_weights", "--unload_after_s", 2) as server:
        file = ("a.flac", sample_path.read_bytes())
        texts, memory = [], []
        for _ in range(3):
            texts.append(server.post(file, model=WHISPER).json()["text"])
            assert "dragoman_models_loaded 1" in server.client.get("/metrics").text
            loaded = private_mb(server.process.pid)
            end = time.monotonic() + 60
            while "dragoman_models_loaded 0" not in server.client.get("/metrics").text:
                assert time.monotonic() < end
                time.sleep(0.2)
            time.sleep(1)
            memory.append((loaded, private_mb(server.process.pid)))
        assert len(set(texts)) == 1
        assert all(loaded - unloaded > 100 for loaded, unloaded in memory), memory
        assert memory[2][1] - memory[0][1] < 75, memory  # half a model: nothing of the earlier two is left


def test_two_models_of_one_name_are_refused(capsys):
    assert main(["serve", "--model", "a=tiny", "--model", "a=small"]) == 2
    assert "two models the name 'a'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "=tiny"], "NAME=FOLDER_OR_ID"),
        (["--ssl_certfile", "a.pem"], "belong together"),
        (["--max_batch", "0"], "at least 1"),
        (["--port", "70000"], "at most 65535"),
        (["--api_key_file", "missing"], "cannot be read"),
    ],
)
def test_wrong_flags_are_named(capsys, flags, message):
    assert main(["serve", *flags]) == 2
    assert message in capsys.readouterr().err
