"""PyTorch as `dragoman.model.arrays.Arrays`. Values are not read while a model is being compiled."""

from typing import Any, Final

import torch
from torch import Tensor

from dragoman.api.checks import IGNORED
from dragoman.model.arrays import Arrays
from dragoman.torch.net.cache import Cache, Memory
from dragoman.torch.net.layers import frame_mask, moved
from dragoman.torch.net.loss import cross_entropy


class TorchArrays:
    """Tensors of PyTorch; the methods are explained in `Arrays`."""

    name = "a tensor"
    return_tensors = "pt"
    cache_class = Cache
    memory_class = Memory
    cross_entropy = staticmethod(cross_entropy)
    frame_mask = staticmethod(frame_mask)

    def is_array(self, value: object) -> bool:
        return isinstance(value, Tensor)

    def dtype_name(self, array: Tensor) -> str:
        return str(array.dtype).removeprefix("torch.")

    def to_mask(self, array: Any) -> Tensor:
        return torch.as_tensor(array).bool()

    def to_tokens(self, array: Tensor) -> Tensor:
        return array.long()

    def to_device(self, array: Tensor) -> Tensor:
        return array

    def is_known(self, array: Tensor | None) -> bool:
        return not (torch.compiler.is_compiling() or (array is not None and array.is_meta))

    def id_range(self, tokens: Tensor, *, ignored: bool, wait: bool) -> tuple[int, int] | None:
        reads = tokens.device.type == "cpu" or (wait and not tokens.is_meta)
        if not reads or not tokens.numel() or torch.compiler.is_compiling():
            return None
        extremes = torch.aminmax(tokens.masked_fill(tokens == IGNORED, 0) if ignored else tokens)
        lowest, highest = torch.stack(extremes).tolist()
        return lowest, highest

    def all_finite(self, array: Tensor) -> bool:
        return array.device.type != "cpu" or torch.compiler.is_compiling() or bool(torch.isfinite(array).all())

    def is_binary(self, array: Tensor) -> bool:
        if array.dtype == torch.bool or array.device.type != "cpu" or torch.compiler.is_compiling():
            return True
        return bool(((array == 0) | (array == 1)).all())

    def valid_first(self, rows: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return moved(rows, mask), mask.sum(1)

    def namespace(self, array: Tensor) -> tuple[Any, Tensor]:
        return torch, array


ARRAYS: Final[Arrays] = TorchArrays()
