"""Samples that callers pass: buffers that are filled again, other sampling rates, tensors of a framework."""

import io

import numpy as np
import pytest
import soundfile
import torch

from dragoman.audio.segment import speech_windows
from dragoman.audio.speech import find_speech
from dragoman.audio.waveform import as_waveform
from dragoman.errors import AudioError, ConfigError

OPTIONS = {"beam_size": 1, "temperature": 0, "no_speech_threshold": None}


def refilled(samples, dtype="float32", size=1_600):
    """Read a file into one buffer, again and again."""
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="PCM_16")
    file.seek(0)
    buffer = np.empty(size, dtype)
    with soundfile.SoundFile(file) as sound:
        while len(part := sound.read(out=buffer, dtype=dtype)):
            yield part
            buffer[:] = 0


@pytest.mark.parametrize("vad_filter", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_blocks_of_a_buffer_that_is_filled_again(transcriber, sample, dtype, vad_filter):
    options = {**OPTIONS, "vad_filter": vad_filter}
    expected = transcriber.transcribe(refilled(sample, dtype, len(sample)), **options)
    assert expected.text
    assert transcriber.transcribe(refilled(sample, dtype), **options) == expected
    assert tuple(transcriber.stream_segments(refilled(sample, dtype), **options)) == expected.segments
    live = [one for one in transcriber.stream(refilled(sample, dtype), **options) if one.is_final]
    assert tuple(segment for one in live for segment in one.segments) == expected.segments


@pytest.mark.parametrize("kind", [np.array, lambda samples: [np.array(part) for part in np.array_split(samples, 4)]])
def test_arrays_may_be_overwritten_as_soon_as_they_are_passed(transcriber, sample, kind):
    expected = transcriber.transcribe(sample, **OPTIONS)
    passed = kind(sample)
    segments = transcriber.stream_segments(passed, **OPTIONS)
    for part in passed if isinstance(passed, list) else [passed]:
        part[:] = 0
    assert segments.transcript() == expected


def test_speech_is_found_in_a_buffer_that_is_filled_again(sample):
    assert find_speech(refilled(sample, size=100)) == find_speech(sample)
    ours, theirs = list(speech_windows(refilled(sample, size=100), 20)), list(speech_windows([sample], 20))
    assert [window for window, _ in ours] == [window for window, _ in theirs]
    np.testing.assert_allclose(ours[0][1], theirs[0][1], atol=1e-4)  # 16 bits


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_samples_at_another_rate_are_resampled(transcriber, sample, rate):
    samples = as_waveform(sample, sampling_rate=16_000, target_sampling_rate=rate)
    expected = transcriber.transcribe(as_waveform(samples, sampling_rate=rate), **OPTIONS)
    for passed in (samples, np.array_split(samples, 4), iter(np.array_split(samples, 4))):
        assert transcriber.transcribe(passed, sampling_rate=rate, **OPTIONS).text == expected.text
    live = transcriber.stream(iter(np.array_split(samples, 40)), sampling_rate=rate, **OPTIONS)
    assert " ".join(one.text for one in live if one.is_final) == expected.text


def test_tensors_are_samples(transcriber, sample):
    expected = transcriber.transcribe(sample, **OPTIONS)
    tensor = torch.tensor(sample, requires_grad=True)
    for passed in (tensor, list(tensor.split(50_000)), iter(tensor.split(50_000))):
        assert transcriber.transcribe(passed, **OPTIONS) == expected


def test_wrong_rates_are_refused(transcriber, sample, sample_path):
    with pytest.raises(AudioError, match="`sampling_rate` must be a whole number of hertz from 1000 to 768000"):
        transcriber.transcribe(sample, sampling_rate=0)
    with pytest.raises(AudioError, match="`sampling_rate` must be"):
        list(transcriber.stream([sample], sampling_rate=16_000.0))
    with pytest.raises(ConfigError, match=r"`sampling_rate` \(8000\) is for arrays of samples; a file states its own"):
        transcriber.transcribe(sample_path, sampling_rate=8_000)


def test_samples_have_no_tracks(transcriber, sample):
    for passed in (sample, [sample], iter([sample])):
        with pytest.raises(ConfigError, match=r"`audio_track` \(1\) is for files; samples have no tracks"):
            transcriber.transcribe(passed, audio_track=1)
