from collections.abc import Iterator
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.audio import SAMPLING_RATE, vad
from dragoman.audio.reading.io import load_audio, stream_audio
from dragoman.audio.segment import Window, plan_windows, speech_windows
from dragoman.audio.speech import Detector, Rules, Span, find_speech
from dragoman.audio.vad import CHUNK, VadState
from dragoman.errors import AudioError, ConfigError

SAMPLE = Path(vad.__file__).parents[1] / "testing/data/sample_en.flac"


def silence(seconds: float) -> np.ndarray:
    return 1e-4 * np.random.default_rng(0).standard_normal(round(seconds * SAMPLING_RATE)).astype(np.float32)


def in_blocks(samples: np.ndarray, length: int) -> Iterator[np.ndarray]:
    return (samples[start : start + length] for start in range(0, len(samples), length))


# --- the rules, with probabilities of any kind -----------------------------------------------------------------------


def first_sample(samples: np.ndarray, state: VadState) -> tuple[np.ndarray, VadState]:
    """A network whose probabilities are written into the audio: the first sample of each chunk."""
    return samples[::CHUNK].copy(), state


def with_probabilities(probabilities: list[float], tail: int) -> np.ndarray:
    samples = np.random.default_rng(0).uniform(0, 1, (len(probabilities), CHUNK)).astype(np.float32)
    samples[:, 0] = probabilities
    return np.concatenate([samples.reshape(-1), np.zeros(tail, np.float32)])


runs = st.lists(st.tuples(st.integers(1, 60), st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.9])), max_size=12)
rules = st.fixed_dictionaries(
    {
        "threshold": st.sampled_from([0.0, 0.3, 0.5, 1.0]),
        "min_speech_ms": st.sampled_from([0, 100, 250]),
        "max_speech_s": st.sampled_from([1.0, 2.5, 8.0, inf]),
        "min_silence_ms": st.sampled_from([0, 160, 1000]),
        "pad_ms": st.sampled_from([0, 30, 200, 250]),
    }
)


@settings(max_examples=300)
@given(runs=runs, rules=rules, tail=st.integers(0, CHUNK - 1), block=st.sampled_from([CHUNK, 3_000, 20_000, 10**6]))
def test_spans_are_ordered_fit_and_cover_all_speech(
    runs: list[tuple[int, float]], rules: dict[str, Any], tail: int, block: int
) -> None:
    probabilities = [probability for length, probability in runs for _ in range(length)]
    samples = with_probabilities(probabilities, tail)
    detector = Detector(Rules.of(**rules), first_sample)
    spans, horizons = [], [0]
    for part in in_blocks(samples, block):
        fresh = detector.push(part)
        assert all(span.start >= horizons[-1] for span in fresh)  # the horizon kept its word
        spans += fresh
        horizons.append(detector.horizon)
    spans += detector.finish()
    assert horizons == sorted(horizons)
    assert all(0 <= span.start < span.end <= len(samples) for span in spans)
    assert all(before.end <= after.start for before, after in pairwise(spans))
    assert all(span.end - span.start <= rules["max_speech_s"] * SAMPLING_RATE for span in spans)

    covered = np.zeros(len(samples), bool)
    for span in spans:
        covered[span.start : span.end] = True
    for first, last in _bursts(probabilities, rules):
        if (last - first) * CHUNK >= rules["min_speech_ms"] * SAMPLING_RATE / 1000:
            burst = covered[: len(probabilities) * CHUNK].reshape(-1, CHUNK).all(axis=1)[first:last]
            sure = np.array(probabilities[first:last], np.float32) >= rules["threshold"]
            # What is uncertain counts as speech next to what is sure; a cut may part the two.
            assert burst.all() if rules["max_speech_s"] == inf else burst[sure].all()
    if rules["threshold"] == rules["min_speech_ms"] == 0:
        assert covered.all()


def _bursts(probabilities: list[float], rules: dict[str, Any]) -> list[tuple[int, int]]:
    """Return stretches of speech as they are defined: begun at the threshold, ended by a pause."""
    pause = max(rules["min_silence_ms"], rules["pad_ms"]) * SAMPLING_RATE / 1000
    found: list[tuple[int, int]] = []
    first, last = None, 0
    for index, probability in enumerate(probabilities):
        if first is None:
            first, last = (index, index + 1) if probability >= np.float32(rules["threshold"]) else (None, 0)
        elif probability >= np.float32(rules["threshold"] - 0.15):
            last = index + 1
        elif (index + 1 - last) * CHUNK >= pause:
            found.append((first, last))
            first = None
    return [*found, (first, last)] if first is not None else found


@settings(max_examples=100)
@given(runs=runs, rules=rules, blocks=st.lists(st.integers(50, 40_000), min_size=1, max_size=6))
def test_blocks_do_not_matter(runs: list[tuple[int, float]], rules: dict[str, Any], blocks: list[int]) -> None:
    samples = with_probabilities([probability for length, probability in runs for _ in range(length)], 77)
    whole = Detector(Rules.of(**rules), first_sample)
    expected = whole.push(samples) + whole.finish()
    detector, found, start = Detector(Rules.of(**rules), first_sample), [], 0
    while start < len(samples):
        for length in blocks:
            found += detector.push(samples[start : start + length])
            start += length
    assert found + detector.finish() == expected


def test_a_long_span_is_cut_in_its_longest_late_pause() -> None:
    speech, pause, short = [0.9] * 20, [0.1] * 4, [0.1] * 2
    samples = with_probabilities([*speech, *pause, *speech, *short, *speech, *pause, *[0.9] * 200], 0)
    detector = Detector(Rules.of(0.5, 0, 3.0, 160, 0), first_sample)  # 3 s are 93 chunks, the half of them 46
    spans = detector.push(samples) + detector.finish()
    assert spans[0] == Span(
        0, (20 + 4 + 20 + 2 + 20 + 2) * CHUNK
    )  # the middle of the pause; the early one is too early
    assert spans[1].start == spans[0].end


def test_without_a_pause_a_span_is_cut_at_the_quietest_moment() -> None:
    samples = with_probabilities([0.9] * 200, 0).reshape(-1, CHUNK)
    samples[70:73, 1:] *= 0.01
    detector = Detector(Rules.of(0.5, 0, 3.0, 160, 0), first_sample)
    spans = detector.push(samples.reshape(-1)) + detector.finish()
    assert spans[0] == Span(0, 71 * CHUNK + CHUNK // 2)


# --- packing ---------------------------------------------------------------------------------------------------------


@st.composite
def ordered_spans(draw: st.DrawFn) -> list[Span]:
    spans, position = [], 0
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 100_000), st.integers(1, 160_000)), max_size=40)):
        spans.append(Span(position + gap, position + gap + length))
        position = spans[-1].end
    return spans


@given(spans=ordered_spans(), max_seconds=st.floats(10, 60), max_gap=st.sampled_from([0.0, 1.0, inf]))
def test_windows_have_every_span_once_and_fit(spans: list[Span], max_seconds: float, max_gap: float) -> None:
    windows = plan_windows(spans, max_seconds, max_gap_s=max_gap)
    assert [span for window in windows for span in window.spans] == spans
    for window in windows:
        assert window.end - window.start <= max_seconds * SAMPLING_RATE
        assert all(after.start - before.end <= max_gap * SAMPLING_RATE for before, after in pairwise(window.spans))
    for before, after in pairwise(windows):  # no two could have been one
        too_long = after.spans[0].end - before.start > max_seconds * SAMPLING_RATE
        assert too_long or after.start - before.end > max_gap * SAMPLING_RATE


@pytest.mark.parametrize(
    "spans", [[Span(0, 170_000)], [Span(5, 9), Span(0, 3)], [Span(0, 5), Span(4, 9)], [Span(5, 4)], [Span(-1, 4)]]
)
def test_impossible_spans(spans: list[Span]) -> None:
    with pytest.raises(ConfigError, match="in order"):
        plan_windows(spans, 10.0)


def test_times_in_seconds() -> None:
    window = Window((Span(8_000, 16_000), Span(24_000, 48_000)))
    assert window.seconds == (0.5, 3.0)
    assert window.spans[0].seconds == (0.5, 1.0)


# --- the real network ------------------------------------------------------------------------------------------------


def recording() -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The shipped sample three times, with silence before, between and after; and where it was put."""
    sample, parts, places, position = load_audio(SAMPLE), [], [], 0
    for pause in (2.0, 5.0, 1.0):
        parts += [silence(pause), sample]
        position += round(pause * SAMPLING_RATE)
        places.append((position, position + len(sample)))
        position += len(sample)
    return np.concatenate([*parts, silence(3.0)]), places


def test_speech_is_found_at_its_time() -> None:
    samples, places = recording()
    windows = plan_windows(find_speech(samples, max_speech_s=30), 30, max_gap_s=0.8)
    assert len(windows) == len(places)
    for window, (start, end) in zip(windows, places, strict=True):
        assert abs(window.start - start) < 0.4 * SAMPLING_RATE
        assert abs(window.end - end) < 0.8 * SAMPLING_RATE
    assert len(plan_windows(find_speech(samples, max_speech_s=30), 30, max_gap_s=inf)) == 1


@pytest.mark.parametrize("max_seconds", [1.5, 5.0, 30.0])
@pytest.mark.parametrize("block", [1_000, 160_000])
def test_a_stream_gives_the_same_windows_with_their_samples(max_seconds: float, block: int) -> None:
    samples, _ = recording()
    planned = plan_windows(find_speech(samples, max_speech_s=max_seconds), max_seconds)
    streamed = list(speech_windows(in_blocks(samples, block), max_seconds))
    assert [window for window, _ in streamed] == planned
    for window, waveform in streamed:
        np.testing.assert_array_equal(waveform, samples[window.start : window.end])


def test_windows_come_before_the_stream_ends() -> None:
    samples, places = recording()
    taken = 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal taken
        for block in in_blocks(samples, 8_000):
            taken += len(block)
            yield block

    next(speech_windows(blocks(), 30))
    assert taken < places[1][0]


def test_no_speech_no_windows() -> None:
    assert find_speech(silence(5)) == []
    assert find_speech(np.zeros(0, np.float32)) == []
    assert list(speech_windows(iter([]), 30)) == []
    assert list(speech_windows([silence(5)], 30)) == []


def test_threshold_zero_keeps_everything() -> None:
    samples, _ = recording()
    spans = find_speech(samples, threshold=0, max_speech_s=5)
    assert spans[0].start == 0
    assert spans[-1].end == len(samples)
    assert all(before.end == after.start for before, after in pairwise(spans))


def test_paths_end_to_end() -> None:
    windows = list(speech_windows(stream_audio(SAMPLE, block_seconds=0.5), 30))
    assert len(windows) == 1
    [(window, waveform)] = windows
    assert len(waveform) == window.end - window.start > 6 * SAMPLING_RATE


@pytest.mark.parametrize("endless", ["silence", "speech"])
def test_memory_is_bounded(endless: str) -> None:
    """The stream is one block, again and again: what is kept of it can be counted."""
    import gc
    import weakref

    sample = silence(7.7) if endless == "silence" else load_audio(SAMPLE)
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal most
        for _ in range(16):  # 2 minutes
            block = sample.copy()
            alive.append(weakref.ref(block))
            yield block
            del block
            gc.collect()
            most = max(most, sum(one() is not None for one in alive))

    windows = sum(1 for _ in speech_windows(blocks(), 10))
    assert windows == 0 if endless == "silence" else windows > 10
    assert most <= 5


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ({"threshold": 1.5}, "`threshold` must lie between 0 and 1"),
        ({"threshold": float("nan")}, "`threshold`"),
        ({"min_speech_ms": -1}, "`min_speech_ms` must be at least 0"),
        ({"min_silence_ms": -1, "pad_ms": -2}, "`min_silence_ms` .* `pad_ms`"),
        ({"max_speech_s": 0.5}, "`max_speech_s` must be at least 1"),
        ({"max_speech_s": 2, "pad_ms": 600}, "`pad_ms` must be at most a quarter"),
    ],
)
def test_wrong_numbers(arguments: dict[str, float], cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        find_speech(silence(1), **arguments)
    with pytest.raises(ConfigError, match=cause):
        list(speech_windows([silence(1)], 30, **arguments))


@pytest.mark.parametrize(
    ("audio", "cause"),
    [
        (np.zeros((2, 16_000), np.float32), "mono"),
        (np.array([0.0, np.nan] * 9_000, np.float32), "sample 1 .* is nan"),
        (np.full(16_000, 20_000, np.float32), "32768"),
        (np.zeros(16_000, np.int64), "int64"),
    ],
)
def test_other_than_waveforms_is_refused(audio: np.ndarray, cause: str) -> None:
    with pytest.raises(AudioError, match=cause):
        find_speech(audio)
    with pytest.raises(AudioError, match=cause):
        list(speech_windows([audio], 30))


def test_integers_are_scaled() -> None:
    samples, _ = recording()
    whole = (samples * 32767).round().astype(np.int16)
    [first, *_] = speech_windows([whole], 30)
    assert first[1].dtype == np.float32
    assert abs(first[0].start - plan_windows(find_speech(samples, max_speech_s=30), 30)[0].start) <= 2 * CHUNK


def test_wrong_windows() -> None:
    with pytest.raises(ConfigError, match="`max_seconds`"):
        plan_windows([], 0.5)
    with pytest.raises(ConfigError, match="`max_gap_s`"):
        plan_windows([], 30, max_gap_s=-1)
    with pytest.raises(ConfigError, match="at least 1"):
        list(speech_windows([silence(1)], 0.2))
