"""Graphs as sessions of ONNX Runtime. Values stay in its memory between calls (I/O binding)."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import onnxruntime as ort

from dragoman.errors import CheckpointError, ModelNotFoundError, tells_memory
from dragoman.onnx.graphs import FOLDER, GraphFacts

Value: TypeAlias = Any  # an `ort.OrtValue`, which has no type of its own
"""A tensor in the memory of ONNX Runtime."""

_ERRORS: Final = 3  # the levels of its log; warnings are about its own choices


def value_of(array: "np.ndarray[Any, Any]") -> Value:
    """Return an array as a value that ONNX Runtime reads without a copy."""
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


class Graph:
    """A graph in memory.

    Args:
        path: Its file.
        threads: Number of CPU threads; `None` leaves the runtime's choice.

    Raises:
        ModelNotFoundError: If there is no such file.
        CheckpointError: If the runtime cannot read it.
    """

    @tells_memory("The graph", "Free some memory, or use a smaller model.")
    def __init__(self, path: Path, threads: int | None = None) -> None:
        if not path.is_file():
            raise ModelNotFoundError(f"There is no file {path}. Export the model again.")
        options = ort.SessionOptions()
        options.log_severity_level = _ERRORS
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = ort.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise CheckpointError(f"ONNX Runtime cannot read {path}: {error}. Export the model again.") from error
        self.inputs = frozenset(one.name for one in self._session.get_inputs())
        self.outputs = tuple(one.name for one in self._session.get_outputs())

    def __call__(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Run the graph; inputs and outputs by name. Values that it does not read are ignored."""
        binding = self._session.io_binding()
        for name, value in values.items():
            if name in self.inputs:
                binding.bind_ortvalue_input(name, value)
        for name in self.outputs:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        return dict(zip(self.outputs, binding.get_outputs(), strict=True))


class Graphs:
    """The graphs of a model, each loaded when it is first run.

    Args:
        folder: The model's.
        threads: Number of CPU threads; `None` leaves the runtime's choice.

    Raises:
        ModelNotFoundError: If there are none.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self.facts = GraphFacts.read(folder)
        self._folder, self._threads = folder / FOLDER, threads
        self._loaded: dict[str, Graph] = {}

    def run(self, name: str, values: Mapping[str, Value]) -> dict[str, Value]:
        """Run the graph in the file of this name; see `Graph`."""
        if name not in self._loaded:
            self._loaded[name] = Graph(self._folder / f"{name}.onnx", self._threads)
        return self._loaded[name](values)

    def has(self, name: str) -> bool:
        """Return whether there is such a graph."""
        return (self._folder / f"{name}.onnx").is_file()

    def load(self, names: Iterable[str]) -> None:
        """Load graphs now, so that missing and corrupt files are reported at once."""
        for name in names:
            self._loaded[name] = Graph(self._folder / f"{name}.onnx", self._threads)
