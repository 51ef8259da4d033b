"""Sound on its way to a model: reading (`io`), features (`features`), where speech is (`segment`). NumPy only."""

SAMPLING_RATE = 16_000
"""Samples per second of every waveform that a speech encoder or the voice activity network takes."""
