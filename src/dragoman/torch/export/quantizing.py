"""Matrix products of a graph in 8 bits.

Weights have one scale per column, computed here; activations one per row, computed by the graph. A row then depends on
itself alone, so that neither the batch nor padding changes a result. Both are unsigned around 128: of the kernels of
ONNX Runtime these are fast on every x86 processor, and on those without VNNI the only fast ones that do not saturate.

Convolutions, embeddings, norms and attention scores stay in float32.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from dragoman._lazy import require

_ZERO: Final = 128
_LARGEST: Final = 127
_FEWEST: Final = 2**10  # numbers of a weight below which 8 bits save nothing
_EPSILON: Final = 1e-12  # of a row of zeros

_Array = np.ndarray[Any, Any]


def quantize(graph: Any) -> None:
    """Replace the products with constant weights in a graph (an `onnx.ModelProto`)."""
    Quantizer(graph.graph).run()


def eight_bits(weight: _Array) -> tuple[_Array, _Array]:
    """Return a weight `[in, out]` as uint8 around 128, and the scale of each column."""
    scales = np.maximum(np.abs(weight).max(0) / _LARGEST, _EPSILON).astype(np.float32)
    return (np.round(weight / scales) + _ZERO).astype(np.uint8), scales


class Quantizer:
    """Rewrites one graph.

    Args:
        graph: An `onnx.GraphProto`, changed in place.
    """

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._onnx = require("onnx", "`dragoman export`")
        self._weights = {one.name: one for one in graph.initializer}
        self._added: dict[str, Any] = {}
        self._rows: dict[str, tuple[str, str]] = {}

    def run(self) -> None:
        """Replace the products, and drop the weights that no node reads any more."""
        nodes: list[Any] = []
        for node in self._graph.node:
            weight = self._weight_of(node)
            nodes += [node] if weight is None else self._product(node, weight)
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        read = {name for node in nodes for name in node.input}
        kept = [one for one in self._graph.initializer if one.name in read]
        del self._graph.initializer[:]
        self._graph.initializer.extend([*kept, *self._added.values()])

    def _weight_of(self, node: Any) -> _Array | None:
        """Return the weight `[in, out]` of a product that is worth replacing."""
        if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in self._weights:
            return None
        attributes = {one.name: self._onnx.helper.get_attribute_value(one) for one in node.attribute}
        if attributes.get("transA", 0) or any(attributes.get(name, 1.0) != 1.0 for name in ("alpha", "beta")):
            return None
        weight: _Array = self._onnx.numpy_helper.to_array(self._weights[node.input[1]])
        if weight.ndim != 2 or weight.size < _FEWEST or weight.dtype != np.float32:
            return None
        return weight.T if attributes.get("transB", 0) else weight

    def _product(self, node: Any, weight: _Array) -> Iterator[Any]:
        """Yield the nodes in place of a product, and of the bias that a `Gemm` adds."""
        out, name = node.output[0], node.input[1]
        numbers, column_scales = (
            self._constant(f"{name}.{kind}", array)
            for kind, array in zip(("uint8", "scales"), eight_bits(weight), strict=True)
        )
        if node.input[0] not in self._rows:
            self._rows[node.input[0]] = f"{node.input[0]}.uint8", f"{node.input[0]}.scale"
            yield from self._row_nodes(node.input[0])
        rows, row_scales = self._rows[node.input[0]]
        zero = self._constant("zero", np.array(_ZERO, np.uint8))
        bias = node.input[2] if len(node.input) > 2 else ""
        yield self._node("MatMulInteger", (rows, numbers, zero, zero), f"{out}.int32")
        yield self._node("Cast", (f"{out}.int32",), f"{out}.sum", to=self._onnx.TensorProto.FLOAT)
        yield self._node("Mul", (f"{out}.sum", column_scales), f"{out}.by_column")
        yield self._node("Mul", (f"{out}.by_column", row_scales), f"{out}.product" if bias else out)
        if bias:
            yield self._node("Add", (f"{out}.product", bias), out)

    def _row_nodes(self, name: str) -> Iterator[Any]:
        """Yield the nodes that quantise the rows of a value."""
        rows, scale = self._rows[name]
        last = self._constant("last_axis", np.array([-1], np.int64))
        share = self._constant("share", np.array(1 / _LARGEST, np.float32))
        epsilon = self._constant("epsilon", np.array(_EPSILON, np.float32))
        middle = self._constant("middle", np.array(_ZERO, np.float32))
        yield self._node("Abs", (name,), f"{name}.abs")
        yield self._node("ReduceMax", (f"{name}.abs", last), f"{name}.largest", keepdims=1)
        yield self._node("Mul", (f"{name}.largest", share), f"{name}.step")
        yield self._node("Max", (f"{name}.step", epsilon), scale)
        yield self._node("Div", (name, scale), f"{name}.scaled")
        yield self._node("Add", (f"{name}.scaled", middle), f"{name}.shifted")
        yield self._node("Round", (f"{name}.shifted",), f"{name}.rounded")
        yield self._node("Cast", (f"{name}.rounded",), rows, to=self._onnx.TensorProto.UINT8)

    def _node(self, kind: str, inputs: tuple[str, ...], output: str, **attributes: Any) -> Any:
        return self._onnx.helper.make_node(kind, list(inputs), [output], name=output, **attributes)

    def _constant(self, name: str, array: _Array) -> str:
        """Add a constant, unless it is there, and return its name."""
        name = f"eight_bits.{name}"
        if name not in self._added:
            self._added[name] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name
