"""The head of CTC on a speech encoder's states, in a file of its own beside a model's weights.

Training with `training.ctc_weight` makes it. No loader of `transformers` reads the file, so none finds unknown tensors.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dragoman.checkpoint.tensors import SafetensorsFile, save_safetensors
from dragoman.errors import CheckpointError

CTC_HEAD = "ctc_head.safetensors"


class CtcHead(NamedTuple):
    """A linear layer from the encoder's width to the decoder's tokens and, as the last class, the blank.

    Attributes:
        weight: float32 `[vocab + 1, width]`.
        bias: float32 `[vocab + 1]`.
    """

    weight: np.ndarray[Any, Any]
    bias: np.ndarray[Any, Any]

    def log_probs(self, states: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the log-probabilities float32 `[frames, vocab + 1]` of states `[frames, width]`."""
        logits: np.ndarray[Any, Any] = states @ self.weight.T + self.bias
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return logits

    def files(self) -> dict[str, Callable[[Path], None]]:
        """Return the function that writes the file, by its name."""
        return {CTC_HEAD: lambda path: save_safetensors(self._asdict(), path, "np")}


def read_ctc_head(folder: Path, vocab_size: int, width: int) -> CtcHead | None:
    """Return the head in a model's folder; `None` if there is none.

    Args:
        folder: The folder.
        vocab_size: Number of the decoder's tokens.
        width: Of the encoder's states.

    Raises:
        CheckpointError: If the file is corrupt, or the head is of another model.
    """
    path = folder / CTC_HEAD
    if not path.is_file():
        return None
    wanted = {"weight": (vocab_size + 1, width), "bias": (vocab_size + 1,)}
    with SafetensorsFile(path, "np") as file:
        shapes = {name: file.shape(name) for name in file.keys()}  # noqa: SIM118
        if shapes != wanted:
            raise CheckpointError(f"{path} must hold {wanted}, but holds {shapes}. Remove it: it is of another model.")
        head = CtcHead(*(np.array(file.read(name), np.float32) for name in wanted))
    if not all(np.isfinite(array).all() for array in head):
        raise CheckpointError(f"{path} has NaN or infinite values: its training diverged. Remove it.")
    return head
