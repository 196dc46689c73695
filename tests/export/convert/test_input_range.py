"""Which first arithmetic proves a range of pixels, and which proves nothing."""

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.convert import input_range
from export.convert.input_range import FirstArithmetic

Step = tuple[str, object]

#: Swaps the channels.
BGR: Step = ("Gather", np.array([2, 1, 0], np.int64))

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def graph(steps: Sequence[Step], *, branch: bool = False, layout: str = "nhwc") -> onnx.ModelProto:
    """The steps behind the input, then a convolution; `branch` lets a second operator take the input as well."""
    nodes, stored, value = [], [], "x"
    for index, (kind, constant) in enumerate(steps):
        names = [value]
        if constant is not None:
            names.append(f"c{index}")
            stored.append(numpy_helper.from_array(np.asarray(constant), names[1]))
        axis = {"axis": -1} if kind == "Gather" else {}
        nodes.append(helper.make_node(kind, names, [f"v{index}"], **axis))
        value = f"v{index}"
    nodes.append(helper.make_node("Conv", [value, "w"], ["y"]))
    if branch:
        nodes.append(helper.make_node("Relu", ["x"], ["z"]))
    shape = ["N", 8, 8, 3] if layout == "nhwc" else ["N", 3, 8, 8]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        stored,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])


def found(steps: Sequence[Step], *, branch: bool = False, layout: str = "nhwc") -> FirstArithmetic:
    axis = 3 if layout == "nhwc" else 1
    return input_range.find(graph(steps, branch=branch, layout=layout), "x", channel_axis=axis, channels=3)


def f(value: object) -> np.ndarray:
    return np.asarray(value, np.float32)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([("Mul", f(1 / 255))], "none"),
        ([("Div", f(255))], "none"),
        ([("Div", f(127.5)), ("Sub", f(1))], "none"),
        ([("Sub", f(127)), ("Div", f(128))], "none"),
        ([("Mul", f(1 / 255)), ("Sub", f(IMAGENET[0])), ("Div", f(IMAGENET[1]))], "none"),
        ([("Sub", f([123.68, 116.779, 103.939]))], "none"),
        ([("Sub", f([103.939, 116.779, 123.68]))], None),
        ([BGR, ("Sub", f([103.939, 116.779, 123.68]))], "none"),
        ([BGR, ("Sub", f([123.68, 116.779, 103.939]))], None),
        ([BGR, ("Div", f(255))], None),
        ([BGR, BGR, ("Div", f(255))], "none"),
        ([("Sub", f([120, 118, 110])), ("Div", f([55, 56, 57]))], "none"),
        ([("Mul", f(1 / 255)), ("Sub", f(0.05)), ("Div", f(0.9))], "none"),
        ([("Sub", f([33, 34, 35])), ("Div", f([70, 71, 72]))], "none"),
        ([("Sub", f([-5, 3, 8])), ("Div", f([65, 64, 66]))], None),
        ([("Div", f([58.4, 57.1, 57.4]))], None),
        ([("Mul", f(1 / 255)), ("Mul", f(1 / 255))], None),
        ([("Mul", f(1 / 255)), ("Mul", f(255))], None),
        ([("Mul", f(255))], "unit"),
        ([("Mul", f(255)), ("Sub", f([123.68, 116.779, 103.939]))], "unit"),
        ([("Mul", f(2)), ("Sub", f(1))], "unit"),
        ([("Sub", f(IMAGENET[0])), ("Div", f(IMAGENET[1]))], "unit"),
        ([("Sub", f(IMAGENET[0][::-1])), ("Div", f(IMAGENET[1][::-1]))], None),
        ([BGR, ("Sub", f(IMAGENET[0][::-1])), ("Div", f(IMAGENET[1][::-1]))], "unit"),
        ([("Mul", f(127.5)), ("Add", f(127.5))], "tf"),
        ([], None),
        ([("Mul", f(1.5))], None),
        ([("Sub", f(0.5))], None),
        ([("Sub", f([0.47, 0.45, 0.41])), ("Div", f([0.27, 0.26, 0.28]))], None),
        ([("Div", f(8))], None),
        ([("Div", f(16))], None),
        ([("Relu", None), ("Mul", f(1 / 255))], None),
    ],
)
def test_only_numbers_that_fit_one_range_prove_it(steps: list[Step], expected: str | None) -> None:
    """Everything else is asked or measured, the order of the channels as well."""
    verdict = input_range.verdict(found(steps))
    assert (None if verdict is None else verdict.value) == expected


def test_a_branch_proves_nothing() -> None:
    """A Rescaling in a residual branch says nothing about the input."""
    arithmetic = found([("Mul", f(1 / 255))], branch=True)
    assert arithmetic.then == "a branch"
    assert input_range.verdict(arithmetic) is None


def test_the_channels_are_followed_through_layouts() -> None:
    """A mean per channel stays with its channel."""
    means = f([103.939, 116.779, 123.68]).reshape(3, 1, 1)
    arithmetic = found([("Sub", means)], layout="nchw")
    np.testing.assert_allclose(arithmetic.offset, [-103.939, -116.779, -123.68], rtol=1e-6)
    assert found([("Sub", f([1, 2, 3, 4, 5, 6, 7, 8]))], layout="nchw").then == "Sub"


def test_a_constant_that_is_computed_counts() -> None:
    """As 1 / 255 or a square root stored by a framework."""
    made = graph([("Mul", None)])
    made.graph.node[0].input.append("inverse")
    made.graph.node.insert(0, helper.make_node("Reciprocal", ["scale"], ["inverse"]))
    made.graph.initializer.append(numpy_helper.from_array(f(255), "scale"))
    verdict = input_range.verdict(input_range.find(made, "x", channel_axis=3, channels=3))
    assert verdict is not None
    assert verdict.why.startswith("the model begins with x / 255, so it takes")
