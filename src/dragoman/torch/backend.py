"""PyTorch as a `dragoman.model.backend.Backend`.

Modules are built on the meta device: nothing is allocated before the files are open, and each tensor goes from a
memory-mapped file straight into its place, so memory peaks at about one copy of the weights.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from dragoman.checkpoint.folder import PickleReader
from dragoman.checkpoint.tensors import Framework
from dragoman.errors import CheckpointError, ConfigError
from dragoman.model.backend import Backend
from dragoman.spec import SpeechEncoderSpec, TextDecoderSpec
from dragoman.spec.lora import LoraSpec
from dragoman.torch.net.init import initialise, put
from dragoman.torch.net.layers import Linear, LoraLinear
from dragoman.torch.pickles import PickleFile


def own_tensors(module: nn.Module, *, keep_vars: bool = False) -> dict[str, Tensor]:
    """Return the tensors that checkpoints hold, by our names."""
    return nn.Module.state_dict(module, keep_vars=keep_vars)


class TorchBackend:
    """Tensors and modules of PyTorch; the methods are explained in `Backend`."""

    framework: Framework = "pt"
    read_pickle: PickleReader | None = PickleFile

    def dtype(self, wanted: Any) -> torch.dtype | None:
        found = getattr(torch, wanted.removeprefix("torch."), None) if isinstance(wanted, str) else wanted
        if wanted is not None and not (isinstance(found, torch.dtype) and found.is_floating_point):
            raise CheckpointError(
                f'`dtype` must be "float32", "float16", "bfloat16", "float64" or "auto", but is {wanted!r}.'
            )
        return found

    def device(self, wanted: Any) -> str | torch.device:
        device = "cpu" if wanted is None else wanted
        if device in ("auto", "balanced", "balanced_low_0", "sequential"):  # `device_map` of `transformers`
            device = torch.accelerator.current_accelerator() or "cpu"
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, TypeError) as error:
            reason = str(error).partition("\n")[0][:160]
            raise ConfigError(f"`device` must be one that PyTorch has here, but {device!r} fails: {reason}") from error
        return device

    def tensors(self, module: nn.Module) -> Mapping[str, Tensor]:
        return own_tensors(module)

    def array(self, tensor: Tensor) -> Tensor:
        return tensor

    def placer(self, module: nn.Module, dtype: torch.dtype | None, device: Any) -> Callable[[str, Any], None]:
        expected = own_tensors(module)

        def place(name: str, array: Any) -> None:
            tensor = array if isinstance(array, Tensor) else torch.from_numpy(array)
            target = dtype if expected[name].is_floating_point() else expected[name].dtype
            put(module, name, tensor.to(device=device, dtype=target).contiguous())

        return place

    def assign(self, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        nn.Module.load_state_dict(module, tensors, strict=False)

    def mark(self, tensor: Tensor) -> int:
        sizes = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
        bits = tensor.detach().contiguous().view(-1).view(sizes[tensor.element_size()])
        return int(bits.sum(dtype=torch.int64))

    def resize(self, decoder: Any, vocab_size: int) -> None:
        decoder.resize_token_embeddings(vocab_size)

    def initialise(
        self,
        module: nn.Module,
        names: Collection[str],
        spec: SpeechEncoderSpec | TextDecoderSpec,
        dtype: torch.dtype,
        device: Any,
    ) -> None:
        initialise(module, names, spec, dtype, device)

    def set_to_evaluation(self, module: nn.Module) -> None:
        module.eval()

    def linears(self, module: nn.Module) -> list[str]:
        return [str(name) for name, layer in nn.Module.named_modules(module) if isinstance(layer, Linear)]

    def loras(self, module: nn.Module) -> dict[str, LoraSpec]:
        return {
            str(name): layer.spec for name, layer in nn.Module.named_modules(module) if isinstance(layer, LoraLinear)
        }

    def add_lora(self, module: nn.Module, layer: str, spec: LoraSpec, seed: int) -> None:
        linear = module.get_submodule(layer)
        assert isinstance(linear, Linear)
        module.set_submodule(layer, LoraLinear(linear, spec).train(module.training))

    def merge_lora(self, module: nn.Module, layer: str) -> None:
        old = module.get_submodule(layer)
        assert isinstance(old, LoraLinear)
        with torch.device("meta"):
            plain = Linear(old.in_features, old.out_features, bias=old.bias is not None)
        plain.weight, plain.bias = nn.Parameter(old.merged().detach(), requires_grad=False), old.bias
        module.set_submodule(layer, plain.train(module.training))


BACKEND: Final[Backend] = TorchBackend()
