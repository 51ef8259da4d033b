"""A frozen encoder in training: it encodes each clip once, and keeps the states on disk."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from dragoman._version import __version__
from dragoman.api.outputs import EncoderOutput
from dragoman.model.encoder_states import EncoderStates, StateOptions, clips_of, encoder_hash
from dragoman.torch.backend import own_tensors
from dragoman.torch.calls import run_encoder
from dragoman.torch.model import SpeechEncoderDecoderModel


class FrozenEncoder:
    """Encodes batches with a model's encoder, whose weights must not change.

    Every clip is encoded alone, in float32 and in evaluation mode, so that its states depend on nothing else: neither
    on the clips of its batch nor on when a run was stopped.

    Args:
        model: The model.
        options: Where the states are kept.

    Raises:
        DragomanError: If the folder cannot be made.
    """

    def __init__(self, model: SpeechEncoderDecoderModel, options: StateOptions) -> None:
        self._model, encoder = model, model.encoder
        tensors = ((name, tensor.detach().cpu().numpy()) for name, tensor in own_tensors(encoder).items())
        self._states = EncoderStates(options, encoder_hash((__version__, encoder.spec, encoder.padding), tensors))

    def __call__(self, part: Mapping[str, Any]) -> EncoderOutput:
        """Return the states of a batch of audio or features, perhaps with `attention_mask`, as NumPy arrays."""
        front, device = self._model.encoder.spec.frontend, self._model.device
        masked = front.masked and "attention_mask" in part
        rows = [self._row(clip, masked) for clip in clips_of(part, time_axis=front.time_axis, masked=masked)]
        padded = np.zeros((len(rows), max(map(len, rows)), rows[0].shape[1]), np.float32)
        for place, row in enumerate(rows):
            padded[place, : len(row)] = row
        lengths = torch.tensor([len(row) for row in rows], device=device) if masked else None
        return EncoderOutput(last_hidden_state=torch.from_numpy(padded).to(device), lengths=lengths)

    def _row(self, clip: np.ndarray[Any, Any], masked: bool) -> np.ndarray[Any, Any]:
        """Return the states `[frames, width]` of a clip."""
        key = self._states.key(clip)
        found = self._states.read(key)
        if found is not None:
            return found
        encoder, device = self._model.encoder, self._model.device
        before = encoder.training
        encoder.eval()
        length = clip.shape[encoder.spec.frontend.time_axis - 1]
        try:
            with torch.no_grad(), torch.autocast(device.type, enabled=False):
                audio = torch.from_numpy(np.ascontiguousarray(clip))[None].to(device)
                lengths = torch.tensor([length], device=device) if masked else None
                states = run_encoder(encoder, audio, lengths).last_hidden_state[0].float().cpu().numpy()
        finally:
            encoder.train(before)
        self._states.write(key, states)
        return self._states.rounded(states)
