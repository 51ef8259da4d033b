"""Word times on speech where they are known: the sample, and speech concatenated from its words."""

import re
from difflib import SequenceMatcher

import numpy as np
import pytest

from dragoman.transcriber import Transcriber

pytestmark = pytest.mark.network

RATE = 16_000


@pytest.fixture(scope="module")
def whisper():
    return Transcriber(device="cpu")


@pytest.fixture(scope="module")
def truth(sample_path):
    rows = [line.split("\t") for line in sample_path.with_suffix(".words.tsv").read_text().splitlines()]
    return [(word, float(start), float(end)) for word, start, end in rows]


def bare(word):
    return re.sub(r"[^a-z']", "", word.lower())


def errors(transcript, truth):
    """Errors of starts and ends, in seconds, of the correctly recognised words."""
    words = transcript.words
    matcher = SequenceMatcher(None, [bare(w.word) for w in words], [bare(word) for word, *_ in truth], autojunk=False)
    pairs = [(m.a + i, m.b + i) for m in matcher.get_matching_blocks() for i in range(m.size)]
    assert len(pairs) >= 0.8 * len(truth), "too few words were recognised for their times to mean anything"
    return np.array([d for a, b in pairs for d in (words[a].start - truth[b][1], words[a].end - truth[b][2])])


def check(transcript, truth, at_most=0.06):
    times = [time for word in transcript.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= transcript.duration
    assert "".join(w.word for s in transcript.segments for w in s.words) == "".join(s.text for s in transcript.segments)
    assert np.median(np.abs(errors(transcript, truth))) <= at_most


@pytest.mark.parametrize("beam_size", [1, 5])
def test_word_times_of_continuous_speech(whisper, sample, truth, beam_size):
    check(whisper.transcribe(sample, word_timestamps=True, beam_size=beam_size), truth)


def test_word_times_without_alignment_heads(whisper, sample, truth, monkeypatch):
    monkeypatch.setattr(whisper.model.generation_config, "alignment_heads", None)
    check(whisper.transcribe(sample, word_timestamps=True, beam_size=1), truth)


def test_word_times_in_noise(whisper, sample, truth):
    noise = np.random.default_rng(0).standard_normal(len(sample)).astype(np.float32)
    loud = sample + noise * np.sqrt((sample**2).mean()) * 10 ** (-15 / 20)
    check(whisper.transcribe(loud, word_timestamps=True, beam_size=1), truth, at_most=0.12)


def test_word_times_of_concatenated_words(whisper, sample, truth):
    rng = np.random.default_rng(0)
    parts, known, now = [np.zeros(4_000, np.float32)], [], 4_000
    for word, start, end in truth:
        clip = sample[round(start * RATE) : round(end * RATE)]
        known.append((word, now / RATE, (now + len(clip)) / RATE))
        pause = np.zeros(int(rng.integers(2_000, 6_000)), np.float32)
        parts += [clip, pause]
        now += len(clip) + len(pause)
    check(whisper.transcribe(np.concatenate(parts), word_timestamps=True), known)


@pytest.mark.parametrize("beam_size", [1, 5])
def test_word_times_in_a_batch_of_windows(whisper, sample, truth, beam_size):
    pause = np.zeros(3 * RATE, np.float32)
    length = (len(sample) + len(pause)) / RATE
    known = [(word, start + n * length, end + n * length) for n in range(3) for word, start, end in truth]
    audio = np.concatenate([sample, pause] * 3)
    transcript = whisper.transcribe(audio, word_timestamps=True, beam_size=beam_size, chunk_length_s=9, batch_size=3)
    check(transcript, known)
    assert len(transcript.segments) == 6
    assert [s.text[-1] for s in transcript.segments] == ["."] * 6
