"""A foreign graph inside the artefact's: uint8 pixels in front, probabilities behind."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from export.artefact.description import INPUT_NAME, OUTPUT_NAME
from export.convert.head import Head
from export.convert.normalisation import NORMALISATIONS
from export.errors import ConversionFailed
from export.sources.onnx_file import Foreign

#: In front of every name of the foreign graph, so that none is one of ours.
PREFIX = "foreign/"

#: Broadcasting as NumPy's exists since then.
LEAST_OPSET = 7


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
        """The last node gives `name`; one that changes nothing is added where there is none."""
        if not self.nodes:
            self.add("Identity")
        self.nodes[-1].output[0] = self.value = name


def wrapped(foreign: Foreign, *, preprocess: str, head: Head, rank: int, classes: int) -> onnx.ModelProto:
    """`rank`: dimensions of the foreign graph's output; `classes`: of the result's. Raises ConversionFailed."""
    opset = next(entry.version for entry in foreign.proto.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < LEAST_OPSET:
        raise ConversionFailed(f"{foreign.path} is written in opset {opset}: export it again in 13 or newer")
    inner = onnx.compose.add_prefix(foreign.proto, PREFIX)
    front, back = _front(foreign, preprocess), _back(foreign, head, rank)
    graph = inner.graph
    nodes, outputs = list(graph.node), [_value(OUTPUT_NAME, TensorProto.FLOAT, ["N", classes])]
    _replace(graph.node, [*front.nodes, *nodes, *back])
    _replace(graph.output, outputs)
    kept = [value for value in graph.input if value.name != PREFIX + foreign.input_name]
    _replace(graph.input, [_value(INPUT_NAME, TensorProto.UINT8, ["N", foreign.height, foreign.width, 3]), *kept])
    graph.initializer.extend(front.constants)
    del inner.metadata_props[:]
    return inner


def _value(name: str, element: int, shape: list[str | int]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def _replace(field: object, values: list[NodeProto] | list[ValueInfoProto]) -> None:
    del field[:]  # type: ignore[attr-defined]  # protobuf's repeated field has no type here
    field.extend(values)  # type: ignore[attr-defined]


def _front(foreign: Foreign, preprocess: str) -> _Chain:
    """images -> what the foreign graph takes."""
    normalisation, chain = NORMALISATIONS[preprocess], _Chain(INPUT_NAME, "front")
    channel_axis, shape = (1, (3, 1, 1)) if foreign.layout == "nchw" else (3, (3,))
    if foreign.layout == "nchw":
        chain.add("Transpose", perm=[0, 3, 1, 2])  # first, while a pixel is one byte
    if normalisation.bgr:
        chain.add("Gather", np.array([2, 1, 0], np.int64), axis=channel_axis)
    if foreign.element != TensorProto.UINT8:
        chain.add("Cast", to=TensorProto.FLOAT)
        if any(normalisation.mean):
            chain.add("Sub", np.array(normalisation.mean, np.float32).reshape(shape))
        if set(normalisation.scale) != {1.0}:
            chain.add("Div", np.array(normalisation.scale, np.float32).reshape(shape))
    if foreign.element == TensorProto.FLOAT16:
        chain.add("Cast", to=TensorProto.FLOAT16)
    chain.end_at(PREFIX + foreign.input_name)
    return chain


def _back(foreign: Foreign, head: Head, rank: int) -> Iterator[NodeProto]:
    """What the foreign graph gives -> probabilities, always as float32."""
    chain = _Chain(PREFIX + foreign.output_name, "back")
    chain.add("Cast", to=TensorProto.FLOAT)
    if rank > 2:
        chain.add("Flatten", axis=1)
    if head == "softmax":
        chain.add("Softmax", axis=1)
    if head in ("as-is", "softmax"):
        chain.end_at(OUTPUT_NAME)
        return iter(chain.nodes)
    return iter([*chain.nodes, *_two_classes(chain.value, head)])


def _two_classes(value: str, head: Head) -> list[NodeProto]:
    """One number of the second class -> both; from a logit, both halves keep their digits."""
    first, second, negative = "sluice/first", "sluice/second", "sluice/negative"
    if head == "sigmoid":
        pair = [
            helper.make_node("Neg", [value], [negative]),
            helper.make_node("Sigmoid", [negative], [first]),
            helper.make_node("Sigmoid", [value], [second]),
        ]
    else:
        one = helper.make_node("Constant", [], ["sluice/one"], value=numpy_helper.from_array(np.float32(1)))
        pair = [one, helper.make_node("Sub", ["sluice/one", value], [first])]
        second = value
    return [*pair, helper.make_node("Concat", [first, second], [OUTPUT_NAME], axis=1)]
