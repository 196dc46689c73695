"""Finds its way through an ONNX graph: what made a value, what consumes it, and which values are constant."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

#: Elements of a constant that is worth computing. Normalisations and scales have a few numbers, weights have thousands.
MAX_ELEMENTS = 4096

Array = npt.NDArray[np.generic]


class GraphView:
    """Read-only: the graph must not change while a view of it is in use."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._opsets = list(proto.opset_import)
        self._initializers = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._makers = {name: node for node in proto.graph.node for name in node.output if name}
        self._outputs = {value.name for value in proto.graph.output}
        self._consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in proto.graph.node:
            for name in {*node.input, *captured(node)}:
                self._consumers.setdefault(name, []).append(node)

    def maker(self, name: str) -> onnx.NodeProto | None:
        """The node that computes a value; None for an input or a stored tensor."""
        return self._makers.get(name)

    def consumers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that take a value, each once, those that use it inside a branch or loop included."""
        return self._consumers.get(name, [])

    def is_output(self, name: str) -> bool:
        return name in self._outputs

    def constant(self, name: str) -> Array | None:
        """The value of a small tensor that does not depend on the input; None for any other."""
        if name in self._initializers:
            tensor = self._initializers[name]
            return numpy_helper.to_array(tensor) if int(np.prod(tensor.dims)) <= MAX_ELEMENTS else None
        node = self._makers.get(name)
        return None if node is None else self._computed(node, name)

    def _computed(self, node: onnx.NodeProto, name: str) -> Array | None:
        values = {given: self.constant(given) for given in node.input if given}
        if any(value is None for value in values.values()) or any(captured(node)):
            return None
        feeds = [
            helper.make_tensor_value_info(given, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for given, value in values.items()
            if value is not None
        ]
        graph = helper.make_graph([node], "constant", feeds, [onnx.ValueInfoProto(name=name)])
        try:
            made = helper.make_model(graph, opset_imports=self._opsets)
            result = ReferenceEvaluator(made).run([name], values)[0]
        # The evaluator lacks some operators; what it cannot compute is treated as unknown.
        except Exception:  # noqa: BLE001
            return None
        return np.asarray(result) if np.size(result) <= MAX_ELEMENTS else None


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """An attribute's value, or the default if the node does not have it."""
    return next((helper.get_attribute_value(given) for given in node.attribute if given.name == name), default)


def captured(node: onnx.NodeProto) -> Iterator[str]:
    """Names of the outer graph that the branches of an If or the body of a Loop use."""
    for given in node.attribute:
        for graph in (given.g, *given.graphs) if given.type in (given.GRAPH, given.GRAPHS) else ():
            made = {name for inner in graph.node for name in inner.output}
            for inner in graph.node:
                yield from (name for name in (*inner.input, *captured(inner)) if name and name not in made)
            yield from (value.name for value in graph.output if value.name not in made)
