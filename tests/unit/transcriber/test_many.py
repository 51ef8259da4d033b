import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from dragoman.errors import AudioError, ConfigError
from dragoman.transcriber import Transcriber


@pytest.fixture
def batches(transcriber, monkeypatch) -> list[int]:
    """The number of windows that each run of the encoder took."""
    found: list[int] = []
    runner = transcriber._engine.runner
    encode = runner.encode
    monkeypatch.setattr(runner, "encode", lambda inputs: found.append(len(inputs["input_values"])) or encode(inputs))
    return found


def cut(sample: np.ndarray, count: int) -> list[np.ndarray]:
    """Recordings of different length."""
    return [sample[i * 4000 : i * 4000 + 16_000 + 3000 * (i % 3)] for i in range(count)]


def alive() -> int:
    return sum(thread.name == "recording" for thread in threading.enumerate())


def wait_for_threads() -> None:
    until = time.monotonic() + 10
    while alive() and time.monotonic() < until:
        time.sleep(0.01)
    assert alive() == 0


@pytest.mark.parametrize("batch_size", [1, 8])
def test_transcripts_are_those_of_each_recording_alone(transcriber, sample, batches, batch_size):
    recordings = cut(sample, 11)
    alone = [transcriber.transcribe(one, vad_filter=False) for one in recordings]
    assert max(batches) == 1
    batches.clear()
    together = list(transcriber.transcribe_many(recordings, vad_filter=False, batch_size=batch_size))
    assert [one.text for one in together] == [one.text for one in alone]
    for one, other in zip(together, alone, strict=True):
        ours, theirs = one.segments[0], other.segments[0]
        assert ours.avg_logprob == pytest.approx(theirs.avg_logprob, abs=1e-5)
        assert replace(ours, avg_logprob=0, no_speech_prob=0) == replace(theirs, avg_logprob=0, no_speech_prob=0)
    assert len({one.text for one in alone}) > 3, "the test could not tell them apart"
    assert max(batches) == batch_size
    wait_for_threads()


def test_a_recording_that_cannot_be_read_does_not_stop_the_others(transcriber, sample, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF, or not")
    found = list(transcriber.transcribe_many([sample, bad, tmp_path / "none.wav", sample]))
    assert found[0].text == found[3].text == transcriber.transcribe(sample).text
    assert isinstance(found[1], AudioError)
    assert isinstance(found[2], AudioError)


def test_a_failing_window_does_not_stop_those_of_its_batch(transcriber, sample, monkeypatch):
    encode = transcriber._engine.runner.encode
    lengths = [16_000, 20_000, 24_000]

    def picky(inputs):
        if (inputs["attention_mask"].sum(1) == lengths[1]).any():
            raise ValueError("not this one")
        return encode(inputs)

    monkeypatch.setattr(transcriber._engine.runner, "encode", picky)
    found = list(transcriber.transcribe_many([sample[:length] for length in lengths], vad_filter=False))
    assert str(found[1]) == "not this one"
    assert found[0].text
    assert found[2].text


def test_recordings_are_taken_as_room_becomes_free(transcriber, sample):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield sample[:16_000]

    results = transcriber.transcribe_many(endless(), batch_size=2, vad_filter=False)
    for _ in range(9):
        assert next(results).text
    assert 9 <= taken <= 9 + 2 * 2 + 1
    results.close()
    wait_for_threads()


def test_an_error_of_the_iterable_is_raised_after_the_results_before_it(transcriber, sample):
    def broken():
        yield sample[:16_000]
        raise KeyError("list")

    results = transcriber.transcribe_many(broken(), vad_filter=False)
    assert next(results).text
    with pytest.raises(KeyError, match="list"):
        next(results)
    wait_for_threads()


def test_an_interrupt_ends_all_threads(transcriber, sample, monkeypatch):
    def interrupted(inputs):
        raise KeyboardInterrupt

    monkeypatch.setattr(transcriber._engine.runner, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(transcriber.transcribe_many([sample] * 5))
    wait_for_threads()


def test_nothing_gives_nothing(transcriber):
    assert list(transcriber.transcribe_many([])) == []


def test_options_are_checked_at_once(transcriber):
    with pytest.raises(ConfigError, match="beam_sise"):
        transcriber.transcribe_many([], beam_sise=2)


@pytest.mark.filterwarnings("ignore:.*words may be missing")
def test_languages_are_detected_for_each(whisper_checkpoint, sample):
    whisper = Transcriber(whisper_checkpoint, device="cpu")
    recordings = [one[:30_000] for one in cut(sample, 4)]
    options = {"vad_filter": False, "max_new_tokens": 5, "temperature": 0.0}
    alone = [whisper.transcribe(one, **options) for one in recordings]
    together = list(whisper.transcribe_many(recordings, **options))
    assert [(one.language, one.text) for one in together] == [(one.language, one.text) for one in alone]
