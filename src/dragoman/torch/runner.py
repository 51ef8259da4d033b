"""A PyTorch model as transcription uses it: NumPy arrays in, NumPy arrays out. Its twin is `dragoman.jax.runner`.

Axes: rows (windows), frames, tokens, vocab.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from dragoman.batch import rows_at_once
from dragoman.errors import ConfigError
from dragoman.torch.model import SpeechEncoderDecoderModel
from dragoman.torch.net.speech_encoder import EncoderOutput

__all__ = ["Runner"]


class Runner:
    """A model, ready to hear and write; a `dragoman.transcriber.engine.Runner`.

    Args:
        model: The model; it is put into evaluation mode.
    """

    def __init__(self, model: SpeechEncoderDecoderModel) -> None:
        self.model = model.eval()

    @classmethod
    def load(cls, folder: Path, device: Any) -> "Runner":
        """Load a checkpoint onto what `device` returned.

        Raises:
            CheckpointError: If the files of the checkpoint are impossible.
        """
        return cls(SpeechEncoderDecoderModel.from_pretrained(folder, device=device))

    @staticmethod
    def device(name: str) -> str:
        """Return the device that a name stands for; `"auto"` is the first GPU, or the processor where there is none.

        Raises:
            ConfigError: If there is no such device.
        """
        if name == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise ConfigError(f"`device` must be auto, cpu, cuda or cuda:N, but is {name!r}.") from error
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise ConfigError(
                f"`device` is {name!r}, but PyTorch sees {torch.cuda.device_count()} GPUs here. Use auto or cpu."
            )
        return name

    @staticmethod
    def set_threads(count: int) -> None:
        """Compute on so many processors, in the whole program."""
        torch.set_num_threads(count)

    @torch.inference_mode()
    def encode(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> EncoderOutput:
        """Run the encoder over what a feature extractor returned."""
        model = self.model
        audio = torch.from_numpy(inputs[model.encoder.main_input_name]).to(model.device, model.dtype)
        mask = inputs.get("attention_mask")
        encoded: EncoderOutput = model.encode(audio, None if mask is None else torch.from_numpy(mask).to(model.device))
        return encoded

    def take(self, encoded: EncoderOutput, rows: Sequence[int]) -> EncoderOutput:
        """Return the encoder's output for some of its rows."""
        lengths = encoded.lengths
        return EncoderOutput(
            last_hidden_state=encoded.last_hidden_state[list(rows)],
            lengths=None if lengths is None else lengths[list(rows)],
        )

    def generate(
        self, encoded: EncoderOutput, prompt: Int[np.ndarray[Any, Any], "rows tokens"], **options: Any
    ) -> tuple[Int[np.ndarray[Any, Any], "texts generated"], Float[np.ndarray[Any, Any], "texts generated"]]:
        """Write texts; the arguments are those of `generate`. Returns what was written and how likely it was."""
        found = self.model.generate(
            encoder_outputs=encoded,
            decoder_input_ids=torch.from_numpy(prompt).to(self.model.device),
            return_dict_in_generate=True,
            token_log_probs=True,
            **options,
        )
        return found.sequences[:, prompt.shape[1] :].cpu().numpy(), found.token_log_probs.cpu().numpy()

    @torch.inference_mode()
    def next_log_probs(
        self, encoded: EncoderOutput, prompt: Int[np.ndarray[Any, Any], "rows tokens"]
    ) -> Float[np.ndarray[Any, Any], "rows vocab"]:
        """Return how likely each token is after a prompt, as natural logarithms."""
        tokens = torch.from_numpy(prompt).to(self.model.device)
        logits = self.model(encoder_outputs=encoded, decoder_input_ids=tokens).logits[:, -1]
        return logits.float().log_softmax(-1).cpu().numpy()

    @torch.inference_mode()
    def cross_attention(
        self,
        encoded: EncoderOutput,
        tokens: Int[np.ndarray[Any, Any], "rows length"],
        heads: Sequence[tuple[int, int]],
    ) -> Iterator[Float[np.ndarray[Any, Any], "heads length frames"]]:
        """Yield for each row where some heads, pairs of layer and head, look when each token has been read."""
        texts = torch.from_numpy(tokens).to(self.model.device)
        spec, frames = self.model.decoder.spec.stack, encoded.last_hidden_state.shape[1]
        # All weights are computed, and the scores of the next tokens too.
        numbers = max(spec.num_layers * spec.block.num_heads * frames, self.model.decoder.spec.vocab_size)
        rows = rows_at_once(texts.shape[1] * numbers)
        for first in range(0, len(texts), rows):
            some = texts[first : first + rows]
            heard = self.take(encoded, range(first, first + len(some)))
            weights = self.model(encoder_outputs=heard, decoder_input_ids=some, output_attentions=True).cross_attentions
            picked = torch.stack([weights[layer][:, head] for layer, head in heads], dim=1)
            yield from picked.float().cpu().numpy()

    @staticmethod
    def free_memory() -> None:
        """Give back what the last batch left behind, after memory ran out."""
        torch.cuda.empty_cache()
