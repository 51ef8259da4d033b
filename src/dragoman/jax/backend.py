"""JAX as a `dragoman.model.backend.Backend`.

Modules are built with shapes only. Each tensor is read by NumPy and put on the device at once, so memory peaks at about
one copy of the weights.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dragoman.checkpoint.folder import PickleReader
from dragoman.checkpoint.tensors import Framework
from dragoman.errors import CheckpointError
from dragoman.jax.net.init import initialise
from dragoman.jax.net.layers import Linear, LoraLinear
from dragoman.jax.net.tree import nested, update, variables
from dragoman.model.backend import Backend
from dragoman.spec import SpeechEncoderSpec, TextDecoderSpec
from dragoman.spec.lora import LoraSpec


class JaxBackend:
    """Arrays of JAX and modules of Flax; the methods are explained in `Backend`."""

    framework: Framework = "np"
    read_pickle: PickleReader | None = None

    def dtype(self, wanted: Any) -> Any:
        name = wanted.removeprefix("torch.") if isinstance(wanted, str) else wanted
        try:
            found = None if wanted is None else jnp.dtype(name)
        except TypeError:
            found = jnp.dtype(int)
        if found is not None and not jnp.issubdtype(found, jnp.floating):
            raise CheckpointError(
                f'`dtype` must be "float32", "float16", "bfloat16", "float64" or "auto", but is {wanted!r}.'
            )
        return found

    def device(self, wanted: Any) -> Any:
        return wanted  # a device or a sharding

    def tensors(self, module: nnx.Module) -> Mapping[str, nnx.Variable[Any]]:
        return variables(module)

    def array(self, tensor: Any) -> np.ndarray[Any, Any]:
        return np.asarray(tensor[...])

    def placer(self, module: nnx.Module, dtype: Any, device: Any) -> Callable[[str, Any], None]:
        own = variables(module)

        def place(name: str, array: Any) -> None:
            target = dtype if jnp.issubdtype(own[name].dtype, jnp.floating) else own[name].dtype
            own[name].set_value(jax.device_put(np.asarray(array, dtype=target, order="C"), device))

        return place

    def assign(self, module: nnx.Module, tensors: Mapping[str, Any]) -> None:
        own = variables(module)
        update(module, nested({name: jnp.asarray(array, own[name].dtype) for name, array in tensors.items()}))

    def mark(self, tensor: Any) -> int:
        array = np.asarray(tensor[...])
        return int(np.ascontiguousarray(array).reshape(-1).view(f"i{array.dtype.itemsize}").sum(dtype=np.int64))

    def resize(self, decoder: Any, vocab_size: int) -> None:
        decoder.config.set_quietly(vocab_size=vocab_size)
        decoder.spec = decoder.config.text_spec()
        decoder.resized = True
        for module, name in (decoder.embed.tokens, "weight"), (decoder.head, "weight"), (decoder.head, "bias"):
            old = getattr(module, name)
            if old is not None:
                old.set_value(jnp.zeros((vocab_size, *old.shape[1:]), old.dtype))

    def initialise(
        self,
        module: nnx.Module,
        names: Collection[str],
        spec: SpeechEncoderSpec | TextDecoderSpec,
        dtype: Any,
        device: Any,
    ) -> None:
        initialise(module, names, spec, dtype)

    def set_to_evaluation(self, module: Any) -> None:
        pass  # training is an argument of each call

    def linears(self, module: nnx.Module) -> dict[str, Linear]:
        found = nnx.iter_modules(module)
        return {".".join(map(str, path)): layer for path, layer in found if isinstance(layer, Linear)}

    def loras(self, module: nnx.Module) -> dict[str, LoraSpec]:
        return {name: layer.spec for name, layer in self.linears(module).items() if isinstance(layer, LoraLinear)}

    def add_lora(self, module: nnx.Module, layer: str, spec: LoraSpec, seed: int) -> None:
        _replace(module, layer, LoraLinear(self.linears(module)[layer], spec, seed))

    def merge_lora(self, module: nnx.Module, layer: str) -> None:
        old = self.linears(module)[layer]
        assert isinstance(old, LoraLinear)
        plain = Linear(*reversed(old.weight.shape), bias=old.bias is not None)
        plain.weight.set_value(old.merged())
        plain.bias = old.bias
        _replace(module, layer, plain)


def _replace(root: nnx.Module, name: str, module: Linear) -> None:
    *path, last = name.split(".")
    owner: Any = root
    for word in path:
        owner = owner[int(word)] if word.isdigit() else getattr(owner, word)
    setattr(owner, last, module)


BACKEND: Final[Backend] = JaxBackend()
