"""From a module to the file of a graph, whose large tensors lie in a file that all graphs share.

PyTorch's tracing exporter is used (docs/decisions/031): for Whisper tiny.en it takes a seventh of the time of the newer
one and needs one package less. A size that it mistakes for a constant is found by `checking`.
"""

import hashlib
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch
from torch import Tensor, nn

from dragoman._lazy import require
from dragoman.errors import ConfigError
from dragoman.onnx.graphs import WEIGHTS

OPSET: Final = 18
_SMALL: Final = 1024  # bytes; smaller tensors stay in the graph
_ALIGNED: Final = 4096  # so that a runtime can map them


class WeightFile:
    """The file with the large tensors of several graphs, each tensor once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._places: dict[bytes, tuple[int, int]] = {}

    def take(self, graph: Any) -> None:
        """Move the large tensors of a graph (an `onnx.ModelProto`) here."""
        onnx = require("onnx", "`dragoman export`")
        for tensor in graph.graph.initializer:
            raw = tensor.raw_data
            if len(raw) >= _SMALL:
                offset, length = self._place(raw)
                onnx.external_data_helper.set_external_data(tensor, WEIGHTS, offset=offset, length=length)
                tensor.ClearField("raw_data")

    def _place(self, raw: bytes) -> tuple[int, int]:
        digest = hashlib.sha256(raw).digest()
        if digest not in self._places:
            self._file.write(b"\0" * (-self._file.tell() % _ALIGNED))
            self._places[digest] = self._file.tell(), len(raw)
            self._file.write(raw)
        return self._places[digest]


def trace(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
) -> Any:
    """Return the graph of a module as an `onnx.ModelProto` with all its tensors.

    Args:
        module: The module.
        inputs: Examples, by name, in the order of the module's arguments.
        outputs: Names of the results.
        axes: For inputs and outputs, the names of the axes that may have any size.

    Raises:
        ConfigError: If ONNX lacks an operation of the module.
    """
    onnx = require("onnx", "`dragoman export`")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "graph.onnx"
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # about values that tracing makes constants: `checking` finds them
            try:
                torch.onnx.export(
                    module.eval(),
                    tuple(inputs.values()),
                    str(path),
                    input_names=list(inputs),
                    output_names=list(outputs),
                    dynamic_axes={name: dict(named) for name, named in axes.items()},
                    opset_version=OPSET,
                    dynamo=False,
                )
            except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
                raise ConfigError(
                    f"{type(module).__name__} cannot be written as an ONNX graph: {str(error).splitlines()[0][:300]}"
                ) from error
        return onnx.load(path)
