"""Puts a bare graph inside the artefact's: uint8 pixels in front, probabilities or values behind."""

from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from export.artefact.description import INPUT_NAME, OUTPUT_NAME, VALUES_NAME
from export.convert.normalisation import by_name
from export.convert.original import BareGraph, ImageInput
from export.convert.output_kind import Head
from export.errors import ConversionFailed

#: In front of every name of the bare graph, so that none is one of ours.
PREFIX = "model/"

#: Broadcasting as NumPy's exists since then.
MIN_OPSET = 7


class _Chain:
    """Nodes one behind the other, each taking what the one before gave."""

    def __init__(self, value: str, part: str) -> None:
        self.value = value
        self._part = part
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, kind: str, *constants: np.ndarray, **attributes: object) -> None:
        start, name = self.value, f"sluice/{self._part}/{kind}_{len(self.nodes)}"
        self.value = f"{name}/output"
        names = [self._constant(constant) for constant in constants]
        self.nodes.append(helper.make_node(kind, [start, *names], [self.value], name, **attributes))

    def _constant(self, array: np.ndarray) -> str:
        name = f"sluice/{self._part}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def end_at(self, name: str) -> None:
        """The last node gives `name`; one that changes nothing is added if there is none."""
        if not self.nodes:
            self.add("Identity")
        self.nodes[-1].output[0] = self.value = name


def opset(proto: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that a graph is written in; 1 if it does not say."""
    return next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 1)


def wrapped(
    bare: BareGraph, given: ImageInput, *, preprocess: str, head: Head, outputs: int, rounded: bool = True
) -> onnx.ModelProto:
    """uint8 [N,H,W,C], or float32 if not `rounded`, -> float32 [N,outputs]. Raises ConversionFailed."""
    if opset(bare.proto) < MIN_OPSET:
        raise ConversionFailed(f"the file is written in opset {opset(bare.proto)}: export it again in 13 or newer")
    inner = onnx.ModelProto()
    inner.CopyFrom(bare.proto)
    _prefix(inner.graph)
    name = VALUES_NAME if head.kind == "values" else OUTPUT_NAME
    front, back = _front(bare, given, preprocess, rounded=rounded), _back(bare, head, outputs, name)
    graph = inner.graph
    nodes = [*front.nodes, *graph.node, *back]
    _replace(graph.node, nodes)
    _replace(graph.output, [_value(name, TensorProto.FLOAT, ["N", outputs])])
    kept = [value for value in graph.input if value.name != PREFIX + bare.input_name]
    size: list[str | int] = ["N", given.height, given.width, given.channels]
    element = TensorProto.UINT8 if rounded else TensorProto.FLOAT
    _replace(graph.input, [_value(INPUT_NAME, element, size), *kept])
    graph.initializer.extend(front.constants)
    del inner.metadata_props[:]
    return inner


def _prefix(graph: onnx.GraphProto) -> None:
    """Every name in the graph and in the branches and loops within it."""
    for tensor in graph.initializer:
        tensor.name = PREFIX + tensor.name
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = PREFIX + value.name
    for node in graph.node:
        node.name = PREFIX + node.name if node.name else ""
        node.input[:] = [PREFIX + name if name else "" for name in node.input]
        node.output[:] = [PREFIX + name if name else "" for name in node.output]
        for attribute in node.attribute:
            for inner in (
                (attribute.g, *attribute.graphs) if attribute.type in (attribute.GRAPH, attribute.GRAPHS) else ()
            ):
                _prefix(inner)
    for sparse in graph.sparse_initializer:
        sparse.values.name = PREFIX + sparse.values.name
    del graph.quantization_annotation[:]


def _value(name: str, element: int, shape: list[str | int]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def _replace(field: object, values: Iterable[NodeProto] | Iterable[ValueInfoProto]) -> None:
    kept = list(values)
    del field[:]  # type: ignore[attr-defined]  # protobuf's repeated field has no type here
    field.extend(kept)  # type: ignore[attr-defined]


def _front(bare: BareGraph, given: ImageInput, preprocess: str, *, rounded: bool) -> _Chain:
    """images -> what the bare graph takes."""
    normalisation, chain = by_name(preprocess), _Chain(INPUT_NAME, "front")
    shape = (given.channels, 1, 1) if given.layout == "nchw" else (given.channels,)
    if given.layout == "nchw":
        chain.add("Transpose", perm=[0, 3, 1, 2])  # first, while a pixel is one byte
    if normalisation.bgr:
        chain.add("Gather", np.array([2, 1, 0], np.int64), axis=given.channel_axis)
    if given.element != "uint8":
        mean, scale = normalisation.for_channels(given.channels)
        if rounded:
            chain.add("Cast", to=TensorProto.FLOAT)
        if mean.any():
            chain.add("Sub", mean.reshape(shape))
        if (scale != 1).any():
            chain.add("Div", scale.reshape(shape))
    if given.element == "float16":
        chain.add("Cast", to=TensorProto.FLOAT16)
    if given.layout == "nhw":
        chain.add("Reshape", np.array([0, given.height, given.width], np.int64))
    chain.end_at(PREFIX + bare.input_name)
    return chain


def _back(bare: BareGraph, head: Head, outputs: int, name: str) -> Iterator[NodeProto]:
    """What the bare graph gives -> the artefact's output, always float32 [N,outputs]."""
    chain = _Chain(PREFIX + bare.output_name, "back")
    chain.add("Cast", to=TensorProto.FLOAT)
    if _rank(bare) != 2:
        chain.nodes += _rows(chain.value, 1 if head.gives_two_of_one else outputs)
        chain.value = chain.nodes[-1].output[0]
    match head.function:
        case "softmax":
            chain.add("Softmax", axis=1)
        case "exp":
            chain.add("Exp")
        case "sigmoid":
            chain.add("Sigmoid")
        case "pair" | "sigmoid_pair":
            chain.nodes += _two_classes(chain.value, head, name)
            return iter(chain.nodes)
    chain.end_at(name)
    return iter(chain.nodes)


def _rank(bare: BareGraph) -> int | None:
    (output,) = (value for value in bare.proto.graph.output if value.name == bare.output_name)
    tensor = output.type.tensor_type
    return len(tensor.shape.dim) if tensor.HasField("shape") else None


def _rows(value: str, outputs: int) -> Iterator[NodeProto]:
    """[N,1,1,outputs], [N,outputs,1,1] or [N] -> [N,outputs]."""
    shape = numpy_helper.from_array(np.array([-1, outputs], np.int64))
    yield helper.make_node("Constant", [], ["sluice/shape"], value=shape)
    yield helper.make_node("Reshape", [value, "sluice/shape"], ["sluice/rows"], "sluice/back/Reshape")


def _two_classes(value: str, head: Head, name: str) -> Iterator[NodeProto]:
    """One number of the second class -> both; from a logit, both halves keep their digits."""
    first, second, negative = "sluice/first", "sluice/second", "sluice/negative"
    if head.function == "sigmoid_pair":
        yield helper.make_node("Neg", [value], [negative])
        yield helper.make_node("Sigmoid", [negative], [first])
        yield helper.make_node("Sigmoid", [value], [second])
    else:
        second = value
        yield helper.make_node("Constant", [], ["sluice/one"], value=numpy_helper.from_array(np.float32(1)))
        yield helper.make_node("Sub", ["sluice/one", value], [first])
    yield helper.make_node("Concat", [first, second], [name], axis=1)
