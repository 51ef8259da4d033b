"""A PyTorch model as transcription uses it: NumPy arrays in, NumPy arrays out. Its twin is `dragoman.jax.runner`.

Axes: rows (windows), frames, tokens, vocab.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dragoman.api.outputs import EncoderOutput
from dragoman.batch import rows_at_once
from dragoman.errors import ConfigError
from dragoman.model.runner import BackendRunner, FusionModel
from dragoman.spec.compute_type import ComputeType, NumberType, number_type
from dragoman.torch.cached import CachedDecoder
from dragoman.torch.int8 import quantise
from dragoman.torch.model import SpeechEncoderDecoderModel
from dragoman.torch.parts import TextDecoder
from dragoman.torch.short_windows import Silence, encode_short, encode_silence, has_short_windows, joined


class Runner(BackendRunner):
    """Runs a PyTorch model, which is put into evaluation mode; `dragoman.model.runner` describes the methods."""

    _model: SpeechEncoderDecoderModel

    def __init__(self, model: SpeechEncoderDecoderModel) -> None:
        super().__init__(model.eval())

    @classmethod
    def load(
        cls, folder: Path, device: Any, *, copy_weights: bool = False, number_type: NumberType = "float32"
    ) -> Self:
        model = SpeechEncoderDecoderModel.from_pretrained(
            folder, device=device, copy_weights=copy_weights, dtype="float32" if number_type == "int8" else number_type
        )
        if number_type == "int8":
            quantise(model)
        return cls(model)

    @staticmethod
    def device(name: str) -> str:
        """Return the device of this name; `"auto"` is the first GPU, or the CPU if there is none.

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
    def number_type(compute_type: ComputeType, device: Any) -> NumberType:
        on_cpu = torch.device(device).type == "cpu"
        if on_cpu:
            abilities = torch.cpu.get_capabilities()
            fast = bool(abilities.get("amx_bf16") or abilities.get("avx512_bf16"))
        else:
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        int8 = on_cpu and "fbgemm" in torch.backends.quantized.supported_engines
        return number_type(compute_type, on_cpu=on_cpu, fast_bfloat16=fast, has_int8=int8)

    @staticmethod
    def abilities() -> str:
        """Return PyTorch's version, its instruction set, its threads and the GPUs."""
        gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
        return (
            f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()} on {torch.get_num_threads()} "
            f"threads, {', '.join(gpus) or 'no GPU'}"
        )

    @staticmethod
    def set_threads(count: int) -> None:
        """Set the number of CPU threads, for the whole program."""
        torch.set_num_threads(count)

    @torch.no_grad()
    def encode(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> EncoderOutput:
        model = self._model
        audio = self._on_device(inputs[model.encoder.main_input_name])
        mask = inputs.get("attention_mask")
        encoded: EncoderOutput = model.encode(audio, None if mask is None else torch.from_numpy(mask).to(model.device))
        return encoded

    @torch.inference_mode()  # a little faster than `no_grad`, and only NumPy arrays leave
    def generate(
        self, encoded: EncoderOutput, prompt: Int[np.ndarray[Any, Any], "rows tokens"], **options: Any
    ) -> tuple[Int[np.ndarray[Any, Any], "sequences generated"], Float[np.ndarray[Any, Any], "sequences generated"]]:
        tokens, log_probs = super().generate(encoded, torch.from_numpy(prompt).to(self._model.device), **options)
        return tokens.cpu().numpy(), log_probs.cpu().numpy()

    @torch.inference_mode()
    def next_log_probs(
        self, encoded: EncoderOutput, prompt: Int[np.ndarray[Any, Any], "rows tokens"]
    ) -> Float[np.ndarray[Any, Any], "rows vocab"]:
        tokens = torch.from_numpy(prompt).to(self._model.device)
        logits = self._model(encoder_outputs=encoded, decoder_input_ids=tokens).logits[:, -1]
        return logits.float().log_softmax(-1).cpu().numpy()

    @torch.inference_mode()
    def cross_attention(
        self,
        encoded: EncoderOutput,
        tokens: Int[np.ndarray[Any, Any], "rows length"],
        heads: Sequence[tuple[int, int]],
    ) -> Iterator[Float[np.ndarray[Any, Any], "heads length frames"]]:
        ids = torch.from_numpy(tokens).to(self._model.device)
        spec, frames = self._model.decoder.spec, encoded.last_hidden_state.shape[1]
        # Memory holds the weights of all heads, and the logits.
        numbers = max(spec.stack.num_layers * spec.stack.block.self_attn.num_heads * frames, spec.vocab_size)
        rows = rows_at_once(ids.shape[1] * numbers)
        for first in range(0, len(ids), rows):
            some = ids[first : first + rows]
            memory = self.take(encoded, range(first, first + len(some)))
            output = self._model(encoder_outputs=memory, decoder_input_ids=some, output_attentions=True)
            picked = torch.stack([output.cross_attentions[layer][:, head] for layer, head in heads], dim=1)
            yield from picked.float().cpu().numpy()

    def language_model(self, name: str) -> FusionModel:
        decoder = TextDecoder.from_pretrained(name, is_decoder=True).to(self._model.device)
        steps = CachedDecoder(decoder, None, None, decoder.spec.num_positions)
        return FusionModel(steps, decoder.spec.vocab_size, decoder.config.bos_token_id)

    @property
    def encodes_short_windows(self) -> bool:
        return has_short_windows(self._model.encoder.spec)

    @torch.no_grad()
    def encode_silence(self, features: np.ndarray[Any, Any]) -> Silence:
        return encode_silence(self._model.encoder, self._on_device(features))

    @torch.no_grad()
    def encode_short(self, features: np.ndarray[Any, Any], silence: Silence) -> EncoderOutput:
        return EncoderOutput(last_hidden_state=encode_short(self._model.encoder, self._on_device(features), silence))

    def joined(self, encoded: Sequence[EncoderOutput]) -> EncoderOutput:
        return joined(encoded)

    def _on_device(self, audio: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(audio).to(self._model.device, self._model.dtype)

    def free_memory(self) -> None:
        torch.cuda.empty_cache()
