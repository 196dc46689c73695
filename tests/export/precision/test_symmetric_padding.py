"""Symmetric padding: the same outputs, bit for bit, from convolutions that cuDNN takes on every card."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.precision.symmetric_padding import with_symmetric_padding


def network(pads: list[int], *, kernel: int = 3, stride: int = 2, group: int = 1, size: int = 12) -> onnx.ModelProto:
    """One convolution over 4 channels, whose weights a second one without padding shares."""
    weights = np.random.default_rng(1).normal(0, 1, (4, 4 // group, kernel, kernel)).astype(np.float32)
    common = {"kernel_shape": [kernel, kernel], "group": group}
    nodes = [
        helper.make_node("Conv", ["image", "weights"], ["first"], strides=[stride, stride], pads=pads, **common),
        helper.make_node("Conv", ["image", "weights"], ["second"], pads=[0, 0, 0, 0], **common),
    ]
    graph = helper.make_graph(
        nodes,
        "padded",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 4, size, size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4, None, None]) for name in ("first", "second")],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


def outputs(model: onnx.ModelProto, image: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, {"image": image})
    return found


def pads_of(model: onnx.ModelProto) -> list[list[int]]:
    return [list(one.ints) for node in model.graph.node for one in node.attribute if one.name == "pads"]


@pytest.mark.parametrize("pads", [[0, 0, 1, 1], [1, 1, 2, 2], [1, 0, 0, 2], [2, 2, 0, 0]])
@pytest.mark.parametrize(("kernel", "stride", "group"), [(3, 2, 1), (5, 2, 4), (3, 1, 2), (3, 3, 4)])
@pytest.mark.parametrize("size", [11, 12])
def test_outputs_do_not_change(pads: list[int], kernel: int, stride: int, group: int, size: int) -> None:
    """For each side, stride and grouping; pixels are whole numbers here, so that sums are exact in any order."""
    random = np.random.default_rng(2)
    model = network(pads, kernel=kernel, stride=stride, group=group, size=size)
    whole = np.round(numpy_helper.to_array(model.graph.initializer[0]) * 8)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(whole, "weights"))
    image = random.integers(-128, 128, (2, 4, size, size)).astype(np.float32)
    symmetric = with_symmetric_padding(model)
    onnx.checker.check_model(symmetric)
    for found, expected in zip(outputs(symmetric, image), outputs(model, image), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert pads_of(model)[0] == pads, "the original is left alone"
    first, second = pads_of(symmetric)
    assert first[:2] == first[2:]
    assert second == [0, 0, 0, 0]


def test_symmetric_convolutions_are_left_alone() -> None:
    """Not a byte of them changes."""
    model = network([1, 1, 1, 1])
    assert with_symmetric_padding(model) == model


def test_a_dilated_convolution_is_left_alone() -> None:
    """Its kernel could only grow by whole steps of the dilation."""
    model = network([0, 0, 1, 1])
    model.graph.node[0].attribute.append(helper.make_attribute("dilations", [2, 2]))
    assert with_symmetric_padding(model) == model
