import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.transcriber.silences import snap_to_silences

RATE = 16_000


def tones(*parts: tuple[float, float]) -> np.ndarray:
    """Noise of some durations in seconds and amplitudes, one after the other."""
    rng = np.random.default_rng(0)
    return np.concatenate([amplitude * rng.standard_normal(round(s * RATE)) for s, amplitude in parts]).astype("f4")


def at(*moments: float) -> np.ndarray:
    return np.array([[moment, moment] for moment in moments])


SPEECH = tones((0.3, 1e-4), (0.5, 0.1), (0.4, 1e-4), (0.5, 0.1), (0.3, 1e-4))  # words at 0.3 to 0.8 and 1.2 to 1.7


@pytest.mark.parametrize("moments", [(0.0, 1.0, 2.0), (0.25, 0.75, 1.72), (0.38, 1.25, 1.65)])
def test_silence_belongs_to_no_word(moments):
    assert snap_to_silences(at(*moments), SPEECH) == [
        pytest.approx((0.3, 0.8), abs=0.02),
        pytest.approx((1.2, 1.7), abs=0.02),
    ]


def test_a_boundary_far_from_silence_moves_to_the_quietest_moment_near_it():
    speech = tones((0.5, 0.1), (0.04, 0.03), (0.5, 0.1), (0.3, 1e-4))
    ((_, end), (start, _)) = snap_to_silences(at(0.0, 0.55, 1.1), speech)
    assert end == start
    assert 0.5 <= end <= 0.54


def test_a_silence_takes_the_nearest_boundary():
    spans = snap_to_silences(at(0.3, 0.72, 0.9, 1.7), SPEECH)
    assert spans[1] == (pytest.approx(0.72, abs=0.06), pytest.approx(0.8, abs=0.02))
    assert spans[2][0] == pytest.approx(1.2, abs=0.02)


def test_punctuation_may_cover_silence():
    boundaries = np.array([[0.3, 0.3], [0.7, 1.4], [1.7, 1.7]])
    assert snap_to_silences(boundaries, SPEECH)[0] == pytest.approx((0.3, 0.8), abs=0.02)


def test_in_noise_nothing_is_silent():
    noise = tones((2.0, 0.1))
    spans = snap_to_silences(at(0.2, 1.0, 1.9), noise)
    assert spans == [pytest.approx((0.2, 1.0), abs=0.06), pytest.approx((1.0, 1.9), abs=0.06)]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0.01, 0.6), st.sampled_from([0.0, 1e-4, 0.02, 0.3])), min_size=1, max_size=8),
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 0.5)), min_size=2, max_size=12),
)
def test_spans_are_in_order_and_inside_the_window(parts, moments):
    sound = tones(*parts)
    high = np.sort([moment for moment, _ in moments])
    low = np.minimum(high, np.maximum.accumulate(high - [width for _, width in moments]))
    spans = snap_to_silences(np.stack([low, high], axis=1), sound)
    flat = [time for span in spans for time in span]
    assert len(spans) == len(moments) - 1
    assert flat == sorted(flat)
    assert 0 <= flat[0] <= flat[-1] <= len(sound) / RATE
