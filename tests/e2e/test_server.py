"""OpenAI's audio API, by its official client and by plain HTTP, against a server process."""

import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openai
import pytest
import soundfile

from dragoman import Transcriber
from dragoman.transcriber import render
from dragoman.transcriber.layout import Layout

WHISPER = "whisper-tiny.en"


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as one:
        yield one


@pytest.fixture(scope="module")
def offline(tiny_checkpoint) -> Transcriber:
    return Transcriber(tiny_checkpoint)


def wav(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


# --- transcripts ------------------------------------------------------------------------------------------------------


def test_the_default_model_transcribes_speech(client, sample_path):
    found = client.audio.transcriptions.create(file=sample_path, model=WHISPER)
    words = "".join(c for c in found.text.lower() if c.isalpha() or c == " ").split()
    expected = sample_path.with_suffix(".txt").read_text().lower()
    assert len(words) > 15
    assert [word for word in words if word not in expected] == []
    assert found.usage.type == "duration"
    assert found.usage.seconds == pytest.approx(7.73, abs=0.01)


@pytest.mark.parametrize("response_format", ["json", "text", "srt", "vtt", "verbose_json"])
def test_every_format_equals_the_offline_answer(client, offline, sample_path, response_format):
    found = client.audio.transcriptions.create(file=sample_path, model="tiny", response_format=response_format)
    subtitles = response_format in ("srt", "vtt")
    expected = offline.transcribe(sample_path, word_timestamps=subtitles)
    assert expected.text
    match response_format:
        case "json":
            assert found.text == expected.text
        case "text":
            assert found == f"{expected.text}\n"
        case "srt" | "vtt":
            assert found == render(expected, response_format, Layout())
        case _:
            assert found.text == expected.text
            assert [one.tokens for one in found.segments] == [list(one.tokens) for one in expected.segments]
            assert found.segments[0].avg_logprob == pytest.approx(expected.segments[0].avg_logprob, abs=1e-5)
            assert found.duration == expected.duration


def test_fields_reach_the_decoder(client, offline, sample_path):
    def text(**fields) -> str:
        return client.audio.transcriptions.create(file=sample_path, model="tiny", **fields).text

    plain = offline.transcribe(sample_path).text
    assert text(temperature=0) == plain
    sampled = offline.transcribe(sample_path, temperature=0.9).text
    assert text(temperature=0.9) == sampled != plain
    assert text(extra_body={"beam_size": 1}) == offline.transcribe(sample_path, beam_size=1).text
    favoured = offline.transcribe(sample_path, hotwords="zzz").text
    assert text(extra_body={"keywords": ["zzz"]}) == favoured


def test_the_chunking_strategy_reaches_the_voice_activity_detection(client, offline, sample):
    """`server_vad` as the official client sends it, and as JSON; `auto` is what happens without it."""
    samples = np.concatenate([sample, np.zeros(16_000), sample[:40_000]])
    audio = ("a.wav", wav(samples))

    def times(**fields) -> list[tuple[float, float]]:
        found = client.audio.transcriptions.create(file=audio, model="tiny", response_format="verbose_json", **fields)
        return [(one.start, one.end) for one in found.segments]

    def offline_times(**options) -> list[tuple[float, float]]:
        return [(one.start, one.end) for one in offline.transcribe(audio[1], **options).segments]

    values = {"threshold": 0.3, "silence_duration_ms": 3000, "prefix_padding_ms": 100}
    expected = offline_times(vad_threshold=0.3, vad_min_silence_duration_ms=3000, vad_speech_pad_ms=100)
    plain = offline_times()
    assert expected != plain
    strategy = {"type": "server_vad", **values}
    assert times(chunking_strategy=strategy) == expected
    assert times(extra_body={"chunking_strategy": json.dumps(strategy)}) == expected
    assert times(chunking_strategy="auto") == times(languages=["en"]) == plain


@pytest.mark.slow
def test_a_prompt_reaches_the_decoder(client, sample_path):
    def score(**fields) -> float:
        found = client.audio.transcriptions.create(
            file=sample_path, model=WHISPER, response_format="verbose_json", **fields
        )
        return found.segments[0].avg_logprob

    prompt = "An interpreter\r\nspeaks of interpreters."
    expected = Transcriber().transcribe(sample_path, initial_prompt=prompt).segments[0].avg_logprob
    assert score(prompt=prompt) == pytest.approx(expected, abs=1e-4)
    assert abs(score() - expected) > 1e-3


@pytest.mark.parametrize(
    "granularities",
    [
        ["word", "segment"],
        pytest.param(["word"], marks=pytest.mark.slow),
        pytest.param(["segment"], marks=pytest.mark.slow),
    ],
)
def test_timestamp_granularities(client, sample_path, granularities):
    found = client.audio.transcriptions.create(
        file=sample_path, model=WHISPER, response_format="verbose_json", timestamp_granularities=granularities
    )
    assert found.language == "english"
    assert (found.segments is not None) == ("segment" in granularities)
    assert (found.words is not None) == ("word" in granularities)
    if found.words:
        assert " ".join(word.word for word in found.words) == found.text
        times = [time for word in found.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert times[-1] <= found.duration


@pytest.mark.parametrize("model", ["tiny", pytest.param(WHISPER, marks=pytest.mark.slow)])
def test_logprobs_are_those_of_the_tokens(client, sample_path, model):
    found = client.audio.transcriptions.create(file=sample_path, model=model, include=["logprobs"])
    assert "".join(one.token for one in found.logprobs).strip() == found.text
    assert b"".join(bytes(map(int, one.bytes)) for one in found.logprobs).decode().strip() == found.text
    assert all(one.logprob <= 0 for one in found.logprobs)


@pytest.mark.parametrize("model", ["tiny", pytest.param(WHISPER, marks=pytest.mark.nightly)])
def test_deltas_joined_are_the_final_text(client, server, sample, model):
    audio = wav(np.tile(np.concatenate([sample, np.zeros(16_000)]), 5))  # several segments
    with client.audio.transcriptions.create(
        file=("long.wav", audio), model=model, stream=True, include=["logprobs"]
    ) as stream:
        events = list(stream)
    *deltas, done = events
    assert [one.type for one in deltas] == ["transcript.text.delta"] * len(deltas)
    assert len(deltas) > 1
    assert done.type == "transcript.text.done"
    assert "".join(one.delta for one in deltas) == done.text
    assert [one.token for part in deltas for one in part.logprobs] == [one.token for one in done.logprobs]
    plain = client.audio.transcriptions.create(file=("long.wav", audio), model=model)
    assert done.text == plain.text


def test_segments_are_streamed_with_their_times(server, sample):
    data = {"model": "tiny", "stream": "true", "response_format": "verbose_json"}
    audio = wav(np.tile(sample, 4))
    lines = server.post(("a.wav", audio), **data).text.split("\n\n")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    segments = [one for one in events if one["type"] == "transcript.text.segment"]
    assert [one["id"] for one in segments] == [str(place) for place in range(len(segments))]
    assert all(one["duration"] == pytest.approx(len(sample) * 4 / 16_000) for one in segments)
    assert [one["text"] for one in events[-1]["segments"]] == [one["text"] for one in segments]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # by the client, since its version 3
def test_translations_answer_in_english(client, sample_path):
    found = client.audio.translations.create(file=sample_path, model=WHISPER, response_format="verbose_json")
    assert "interpreter" in found.text
    assert found.task == "translate"


def test_requests_at_the_same_time_keep_their_own_answers(server, offline, sample):
    """Each answer is the offline one, and batches were shared."""
    clips = [wav(sample[4000 * place : 4000 * place + 24_000]) for place in range(16)]
    expected = [offline.transcribe(clip).text for clip in clips]
    assert len(set(expected)) > 3
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda clip: server.post(("a.wav", clip), model="tiny").json()["text"], clips))
    assert found == expected
    counts = dict(line.rsplit(" ", 1) for line in server.client.get("/metrics").text.splitlines())
    assert float(counts["dragoman_batch_windows_sum"]) > float(counts["dragoman_batch_windows_count"])


# --- the other paths --------------------------------------------------------------------------------------------------


def test_models(client):
    assert [one.id for one in client.models.list()] == ["tiny", WHISPER]
    assert client.models.retrieve(WHISPER).object == "model"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-5")
    assert caught.value.code == "model_not_found"


def test_state_and_metrics(server):
    assert server.client.get("/health").json() == {"status": "ok"}
    assert server.client.get("/ready").json() == {"status": "ready"}
    text = server.client.get("/metrics").text
    assert "dragoman_requests_running 0" in text
    assert 'dragoman_responses_total{path="/health",status="200"}' in text


def test_the_openapi_document_names_every_field(server):
    document = server.client.get("/openapi.json").json()
    body = document["paths"]["/v1/audio/transcriptions"]["post"]["requestBody"]["content"]["multipart/form-data"]
    named = body["schema"]["properties"].keys()
    assert {"file", "model", "language", "prompt", "response_format", "temperature", "stream"} <= named
    assert {"timestamp_granularities[]", "include[]"} <= named


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "gpt-5"}, 404, "model"),
        ({"model": "../../etc/passwd"}, 404, "model"),
        ({"response_format": "pdf"}, 400, "response_format"),
        ({"temperature": "hot"}, 400, "temperature"),
        ({"temperature": "2"}, 400, "temperature"),
        ({"timestamp_granularities[]": "word"}, 400, "timestamp_granularities"),
        ({"include[]": "logprobs", "response_format": "text"}, 400, "include"),
        ({"stream": "true", "response_format": "srt"}, 400, "stream"),
        ({"prompt": "x" * 30_000}, 400, "prompt"),
        ({"chunking_strategy": "manual"}, 400, "chunking_strategy.type"),
        ({"chunking_strategy": '{"type": "server_vad", "threshold": 2}'}, 400, "chunking_strategy.threshold"),
        ({"chunking_strategy": '{"type":' + '{"a":' * 10_000}, 400, "chunking_strategy"),
        ({"known_speaker_names[]": "agent"}, 400, "known_speaker_names"),
        ({"prompt": "x" * 1_000_000}, 400, None),
    ],
)
def test_wrong_fields_are_named(server, sample_path, fields, status, param):
    answer = server.post(("a.flac", sample_path.read_bytes()), **{"model": "tiny", **fields})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert len(error["message"]) < 500


@pytest.mark.parametrize("fields", [{"language": "ar"}, {"languages": ["ar"]}])
def test_an_english_model_refuses_other_languages(client, sample_path, fields):
    with pytest.raises(openai.BadRequestError, match="English-only") as caught:
        client.audio.transcriptions.create(file=sample_path, model=WHISPER, **fields)
    assert caught.value.param == "language"


@pytest.mark.parametrize("content", [b"RIFF", b"\0" * 1000, b"PK\3\4" + b"x" * 500, b"<html></html>"])
def test_what_is_no_audio_is_refused(client, content):
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.transcriptions.create(file=("x\r\ny.wav", content), model="tiny")
    assert caught.value.code == "invalid_audio"
    assert caught.value.param == "file"


def test_the_name_of_an_upload_is_the_subject_of_its_fault(server):
    whole, strange = wav(np.zeros(4000)), bytearray(wav(np.zeros(4000)))
    strange[24:28] = (3).to_bytes(4, "little")  # sampling rate
    for name, content, beginning in (
        ("notes.txt", b"some notes, no music", "notes.txt is not audio in a known format: it looks like text."),
        ("half.wav", whole[: len(whole) // 2], "half.wav is truncated: "),
        ("none.wav", wav(np.zeros(0)), "none.wav has no samples. "),
        ("slow.wav", bytes(strange), "slow.wav: its header gives a sampling rate of 3 Hz; "),
    ):
        answer = server.post((name, content), model="tiny")
        assert answer.status_code == 400
        assert answer.json()["error"]["message"].startswith(beginning)


@pytest.mark.parametrize("field", ["/etc/passwd", "https://example.org/a.wav", "file:///etc/passwd"])
def test_paths_and_addresses_are_no_files(server, field):
    answer = server.client.post("/v1/audio/transcriptions", files={"model": (None, "tiny"), "file": (None, field)})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "missing_file"


def test_a_body_of_another_kind_is_refused(server):
    answer = server.client.post("/v1/audio/transcriptions", json={"model": "tiny"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_body"
    assert server.client.get("/v1/nothing").json()["error"]["message"] == "Not Found."
    assert server.client.put("/v1/models").status_code == 405


@pytest.mark.parametrize("headers", [{"Origin": "https://example.org"}, {"Origin": "null"}, {"Host": "example.org"}])
def test_scripts_of_other_pages_are_refused(server, headers):
    """Neither from their own origin, nor by a name of theirs that leads to this machine."""
    answer = server.post(("a.wav", b"RIFF"), model="tiny", headers=headers)
    assert answer.status_code == 403
    own = {"Origin": server.url, "Host": server.url.removeprefix("http://")}
    assert server.post(("a.wav", b"RIFF"), model="tiny", headers=own).json()["error"]["code"] == "invalid_audio"
