"""When each token of a window was heard: the decoder reads its finished text once more, and where it looks is followed.

One pass for a batch of windows, whatever strategy found their texts. Seconds come from the model's own frame rate. Not
here: the alignment itself (`dragoman.generation.alignment`), and words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.errors import ConfigError
from dragoman.generation.alignment import align, alignment_matrix, pick_heads

if TYPE_CHECKING:
    from dragoman.transcriber.engine import Engine

__all__ = ["Alignment", "align_tokens", "check_alignable", "frame_times"]


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """What became of one window.

    Attributes:
        begins: When each token begins, and when the last one ends, in seconds from the start of the window,
            `[tokens + 1]`, never falling.
        matrix: What it was found in: `[tokens + 1, frames]`, the last row being the end of the text.
    """

    begins: np.ndarray[Any, Any]
    matrix: np.ndarray[Any, Any]


def check_alignable(engine: "Engine") -> None:
    """Refuse, before any work, a decoder that never looks at the speech by itself, or with other heads than it is said.

    Raises:
        ConfigError: If it has no cross-attention.
        CheckpointError: If its generation_config.json names heads that it has not.
    """
    if not engine.model.decoder.spec.stack.block.cross_attention:
        raise ConfigError(
            f"`word_timestamps` needs a decoder with cross-attention, but that of {engine.info.name} has none: it "
            "reads the speech as part of its text. Leave `word_timestamps` out."
        )
    _heads(engine)


def _heads(engine: "Engine") -> tuple[tuple[int, int], ...]:
    stack = engine.model.decoder.spec.stack
    return pick_heads(engine.model.generation_config.alignment_heads, stack.num_layers, stack.block.num_heads)


def align_tokens(
    engine: "Engine", encoded: Any, lengths: Sequence[int], prompts: Sequence[Sequence[int]], texts: Sequence[Any]
) -> list[Alignment]:
    """Align the texts of a batch of windows.

    Args:
        engine: The model.
        encoded: What its encoder made of the windows.
        lengths: Samples of each window.
        prompts: What stood before each text.
        texts: Token ids of each, without prompt and end.
    """
    rows = [[*prompt, *tokens] for prompt, tokens in zip(prompts, texts, strict=True)]
    padded = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    weights = engine.runner.cross_attention(encoded, padded, _heads(engine))
    found = []
    for samples, prompt, row, looks in zip(lengths, prompts, rows, weights, strict=True):
        count, times = frame_times(engine, samples, looks.shape[-1])
        # A token is predicted where the one before it has been read.
        matrix = alignment_matrix(looks[:, len(prompt) - 1 : len(row), :count])
        found.append(Alignment(begins=times[align(matrix)], matrix=matrix))
    return found


def frame_times(engine: "Engine", samples: int, frames: int) -> tuple[int, np.ndarray[Any, Any]]:
    """Return how many of `frames` hold the sound of so many samples, and when each begins, in seconds `[frames]`.

    A frame begins halfway between its centre and that of the frame before.
    """
    spec, rate = engine.model.encoder.spec, engine.inputs_per_second
    inputs = max(int(samples * rate / engine.sampling_rate), spec.shortest_input)
    count = min(max(int(spec.frame_lengths(inputs)), 1), frames)
    centre = (spec.frontend.receptive_field - 1) / 2
    times = (np.arange(count) * spec.hop + centre - spec.hop / 2) / rate
    return count, np.clip(times, 0.0, samples / engine.sampling_rate)
