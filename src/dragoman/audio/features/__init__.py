"""Feature extractors: waveforms to the inputs of an encoder."""
