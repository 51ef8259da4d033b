"""Live audio over the WebSocket: events, transcripts equal to the offline ones, and wrong messages."""

import base64
import json
from contextlib import contextmanager

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dragoman import Transcriber

KIND = "conversation.item.input_audio_transcription"


@contextmanager
def session(server, model: str = "tiny", rate: int = 16_000):
    with connect(server.url.replace("http", "ws") + "/v1/realtime") as socket:
        assert json.loads(socket.recv())["type"] == "session.created"
        update = {"audio": {"input": {"format": {"rate": rate}, "transcription": {"model": model}}}}
        socket.send(json.dumps({"type": "session.update", "session": update}))
        assert json.loads(socket.recv())["session"]["audio"]["input"]["format"]["rate"] == rate
        yield socket


def events_until(socket, kind: str) -> list[dict]:
    events = []
    while not events or events[-1]["type"] != kind:
        events.append(json.loads(socket.recv(timeout=60)))
    return events


def pcm(samples: np.ndarray) -> bytes:
    return np.round(samples * 32767).astype("<i2").tobytes()


@pytest.mark.parametrize("form", [pytest.param("base64", marks=pytest.mark.slow), "binary"])
def test_live_transcripts_are_those_of_the_recording(server, tiny_checkpoint, sample, form):
    audio = pcm(np.concatenate([sample[:50_000], np.zeros(48_000), sample[80_000:110_000]]))
    with session(server) as socket:
        for start in range(0, len(audio), 16_000):
            part = audio[start : start + 16_000]
            event = {"type": "input_audio_buffer.append", "audio": base64.b64encode(part).decode()}
            socket.send(json.dumps(event) if form == "base64" else part)
        socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
        events = events_until(socket, "input_audio_buffer.committed")
    completed = [one for one in events if one["type"] == f"{KIND}.completed"]
    offline = Transcriber(tiny_checkpoint).transcribe(np.frombuffer(audio, "<i2"), word_timestamps=True, batch_size=1)
    assert len(completed) > 1
    assert " ".join(one["transcript"] for one in completed) == offline.text
    assert [one["text"] for part in completed for one in part["segments"]] == [one.text for one in offline.segments]
    partial = [one for one in events if one["type"] == "dragoman.partial"]
    assert any(one["text"] or one["tentative"] for one in partial)
    for item in {one["item_id"] for one in partial}:
        deltas = [one["delta"] for one in events if one["type"] == f"{KIND}.delta" and one["item_id"] == item]
        agreed = [one["text"] for one in partial if one["item_id"] == item]
        assert "".join(deltas) == agreed[-1]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("no json", "invalid_event"),
        ("[]", "invalid_event"),
        ("[" * 100_000, "invalid_event"),
        ('{"type": "response.create"}', "invalid_event"),
        ('{"type": "session.update", "session": 3}', "invalid_value"),
        ('{"type": "session.update", "session": {"audio": {"input": {"format": {"rate": 7}}}}}', "invalid_value"),
        (
            '{"type": "session.update", "session": {"audio": {"input": {"transcription": {"model": "x"}}}}}',
            "model_not_found",
        ),
        ('{"type": "input_audio_buffer.append", "audio": "é"}', "invalid_value"),
        ('{"type": "input_audio_buffer.append", "audio": 7}', "invalid_value"),
        (b"odd", "invalid_audio"),
        ('{"type": "input_audio_buffer.commit"}', "input_audio_buffer_commit_empty"),
    ],
)
def test_wrong_messages_are_answered_and_the_session_goes_on(server, message, code):
    with session(server) as socket:
        socket.send(message)
        event = json.loads(socket.recv(timeout=30))
        assert (event["type"], event["error"]["code"]) == ("error", code)
        socket.send('{"type": "input_audio_buffer.clear"}')
        assert json.loads(socket.recv(timeout=30))["type"] == "input_audio_buffer.cleared"


def test_scripts_of_other_pages_are_refused(server):
    with (
        pytest.raises(InvalidStatus),
        connect(server.url.replace("http", "ws") + "/v1/realtime", origin="https://example.org"),
    ):
        pass
