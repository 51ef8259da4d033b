"""When each token of a window is spoken, from the cross-attention of a second pass over its transcript.

One pass per batch of windows, whatever strategy found the transcripts. Seconds come from the model's own frame rate.
Not here: the alignment itself (`dragoman.generation.alignment`), and words.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dragoman.audio import SAMPLING_RATE
from dragoman.audio.waveform import Waveform
from dragoman.errors import ConfigError
from dragoman.generation.alignment import align, alignment_matrix
from dragoman.spec import PieceFrontendSpec
from dragoman.transcriber.decoded import Alignment, Decoded
from dragoman.transcriber.engine import Engine


def check_alignable(engine: Engine) -> None:
    """Refuse a model that cannot be aligned, before any work.

    Raises:
        ConfigError: If its decoder has no cross-attention.
        CheckpointError: If its generation_config.json names heads that it does not have.
    """
    if not engine.facts.has_cross_attention:
        raise ConfigError(
            f"`word_timestamps` needs a decoder with cross-attention, but that of {engine.info.name} has none: it "
            "reads the speech as a prefix. Leave `word_timestamps` out."
        )
    engine.facts.alignment_heads()


def aligned(
    engine: Engine, encoded: Any, waveforms: Sequence[Waveform], prompt: Sequence[int], transcripts: Sequence[Decoded]
) -> list[Decoded]:
    """Return the transcripts of windows with their alignments.

    Args:
        engine: The model.
        encoded: The encoder output for the windows.
        waveforms: Samples of each window.
        prompt: Tokens before each transcript.
        transcripts: One for each window.
    """
    rows = [[*prompt, *one.tokens] for one in transcripts]
    padded = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    attention = engine.runner.cross_attention(encoded, padded, engine.facts.alignment_heads())
    found = []
    for samples, one, row, weights in zip(waveforms, transcripts, rows, attention, strict=True):
        count, times = frame_times(engine, len(samples), weights.shape[-1])
        # A token is predicted where the one before it is read.
        matrix = alignment_matrix(weights[:, len(prompt) - 1 : len(row), :count])
        found.append(replace(one, alignment=Alignment(begins=times[align(matrix)], matrix=matrix)))
    return found


def frame_times(engine: Engine, samples: int, frames: int) -> tuple[int, np.ndarray[Any, Any]]:
    """Return how many of `frames` belong to a window of `samples`, and the start of each in seconds, `[frames]`.

    A frame begins halfway between its centre and that of the frame before.
    """
    spec, rate = engine.facts.speech, engine.inputs_per_second
    inputs = max(int(samples * rate / SAMPLING_RATE), spec.shortest_input)
    count = min(max(int(spec.frame_lengths(inputs)), 1), frames)
    centre = (spec.frontend.receptive_field - 1) / 2
    places, front = np.arange(count), spec.frontend
    starts = front.starts(places) if isinstance(front, PieceFrontendSpec) else places * spec.hop
    times = (starts + centre - spec.hop / 2) / rate
    return count, np.clip(times, 0.0, samples / SAMPLING_RATE)
