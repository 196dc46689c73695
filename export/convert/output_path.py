"""Walks a graph backwards from its output, to what gives the numbers their range."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx

from export.convert.graph_view import GraphView, attribute

#: distribution: sums to 1; log_distribution: its logarithm; independent: each in 0..1; logits: any number, before a
#: softmax or sigmoid.
Range = Literal["distribution", "log_distribution", "independent", "logits"]

#: They give the numbers that they take, in their order.
_TRANSPARENT = frozenset(
    ("Cast", "DequantizeLinear", "Dropout", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze",
     "Transpose", "Unsqueeze")
)  # fmt: skip
_LINEAR = frozenset(("Conv", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul", "BatchNormalization"))
_ACTIVATIONS: dict[str, Range] = {
    "Softmax": "distribution",
    "LogSoftmax": "log_distribution",
    "Sigmoid": "independent",
    "HardSigmoid": "independent",
}
_POOLS = frozenset(("AveragePool", "GlobalAveragePool", "ReduceMean"))


@dataclass(frozen=True, slots=True)
class Ending:
    """What the path says: the range, or None; `operator` is the one that decided."""

    range: Range | None
    operator: str


def ending(proto: onnx.ModelProto, output_name: str) -> Ending:
    """What the path to the output says of its numbers."""
    return _Backwards(GraphView(proto)).ending(output_name)


class _Backwards:
    """Walks from the output to what gives its numbers their range. A weight other than 1 is a sum not yet divided."""

    def __init__(self, view: GraphView) -> None:
        self._view = view
        self._operator = "its input"

    def ending(self, output_name: str) -> Ending:
        found, weight = self._range(output_name)
        bounded = found not in ("logits", None)
        return Ending(None if bounded and not np.isclose(weight, 1) else found, self._operator)

    def _range(self, name: str) -> tuple[Range | None, float]:
        node = self._view.maker(name)
        if node is None:
            return None, 1.0
        kind = node.op_type
        if kind in _TRANSPARENT:
            return self._range(node.input[0])
        if kind == "Clip":
            found, weight = self._range(node.input[0])
            self._operator = kind if found == "logits" else self._operator  # ReLU6 is a Clip, too
            return (None if found == "logits" else found), weight
        if kind in ("Add", "Sub", "Mul", "Div"):
            return self._arithmetic(node)
        if kind in ("Concat", "Mean", "Sum", *_POOLS):
            return self._several(node)
        self._operator = kind
        if kind == "Exp":
            return ("distribution" if self._range(node.input[0])[0] == "log_distribution" else None), 1.0
        if kind == "Log":
            return ("log_distribution" if self._range(node.input[0])[0] == "distribution" else None), 1.0
        return ("logits" if kind in _LINEAR else _ACTIVATIONS.get(kind)), 1.0

    def _arithmetic(self, node: onnx.NodeProto) -> tuple[Range | None, float]:
        if node.op_type == "Div" and self._is_sum_of(node.input[1], node.input[0]):
            self._operator = "division by the sum"
            return "distribution", 1.0
        constants = [self._view.constant(name) for name in node.input]
        if node.op_type == "Add" and constants == [None, None]:
            return self._sum([self._range(name) for name in node.input])
        number = next((constant for constant in constants if constant is not None), None)
        if number is None or (constants[0] is not None and node.op_type in ("Sub", "Div")):
            self._operator = node.op_type
            return None, 1.0
        found, weight = self._range(node.input[1 if constants[0] is not None else 0])
        if node.op_type in ("Add", "Sub"):
            changed = found != "logits" and bool(np.any(number))
            self._operator = node.op_type if changed else self._operator
            return (None if changed else found), weight
        if np.size(number) > 1:
            # A scale per output, as a folded batch normalisation has it, keeps logits logits.
            return (found if found == "logits" else None), 1.0
        factor = float(np.asarray(number).reshape(-1)[0])
        if factor <= 0:
            self._operator = node.op_type
            return None, 1.0
        return found, weight * factor if node.op_type == "Mul" else weight / factor

    def _is_sum_of(self, name: str, parts: str) -> bool:
        """Whether a value is the sum of `parts`, perhaps with a constant that keeps it above 0."""
        while (node := self._view.maker(name)) is not None:
            if node.op_type == "ReduceSum":
                return bool(node.input[0] == parts)
            computed = [given for given in node.input if given and self._view.constant(given) is None]
            if len(computed) != 1 or node.op_type not in (*_TRANSPARENT, "Add", "Clip", "Max"):
                return False
            (name,) = computed
        return False

    def _sum(self, parts: list[tuple[Range | None, float]]) -> tuple[Range | None, float]:
        ranges = {found for found, _ in parts}
        found = ranges.pop() if len(ranges) == 1 else None
        if found is None:
            # Logits may be the sum of anything that a dense layer gave.
            self._operator = "Add"
        return found, sum(weight for _, weight in parts)

    def _several(self, node: onnx.NodeProto) -> tuple[Range | None, float]:
        """A value made of several, all of which must be of one range."""
        pools = node.op_type in _POOLS
        inputs = node.input[:1] if pools else node.input
        found, weight = self._sum([self._range(name) for name in inputs])
        if pools or node.op_type == "Sum" or len(inputs) == 1:
            return found, weight
        if node.op_type == "Mean":
            return found, weight / len(inputs)
        # Side by side: several softmaxes are not one choice.
        if found in ("independent", "logits") and attribute(node, "axis") != 0:
            return found, weight / len(inputs)
        self._operator = node.op_type
        return None, 1.0
