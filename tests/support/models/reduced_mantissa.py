"""TF32 on a CPU: a network whose convolutions and matrix products see operands with 10 bits of mantissa."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

#: Veltkamp's splitting: with c = x * (2^13 + 1), c - (c - x) is x rounded to 24 - 13 bits, one of them implicit.
#: Source: T. J. Dekker, "A floating-point technique for extending the available precision", 1971.
_FACTOR = np.float32(2**13 + 1)

_ROUNDED = {"Conv", "MatMul", "Gemm"}


def with_tf32_operands(path: Path, target: Path) -> Path:
    """Write the same network, in which each operand of these operations is rounded as tensor cores do."""
    model = onnx.load(path)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.asarray(_FACTOR), "tf32_factor"))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for position in (0, 1) if node.op_type in _ROUNDED else ():
            name = f"tf32_{len(nodes)}"
            nodes += [
                helper.make_node("Mul", [node.input[position], "tf32_factor"], [f"{name}_scaled"]),
                helper.make_node("Sub", [f"{name}_scaled", node.input[position]], [f"{name}_rest"]),
                helper.make_node("Sub", [f"{name}_scaled", f"{name}_rest"], [name]),
            ]
            node.input[position] = name
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, target)
    return target
