"""Audio before the model: files (`reading`), features (`features`) and windows of speech (`segment`). NumPy only."""

SAMPLING_RATE = 16_000
"""Samples per second of every waveform that a speech encoder or the voice activity network takes."""
