"""Operators of TensorFlow that tf2onnx has no handler for. Importing this module registers them."""

from typing import Any

import numpy as np
from tf2onnx import utils
from tf2onnx.graph import Graph, Node
from tf2onnx.handler import tf_op


def _begin(ctx: Graph, node: Node) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Remove the node. Returns a constant 1, and the arguments of the nodes between and of the one in its place."""
    dtype, shape = ctx.get_dtype(node.output[0]), ctx.get_shape(node.output[0])
    ctx.remove_node(node.name)
    one = ctx.make_const(utils.make_name("one"), np.array(1, utils.map_onnx_to_numpy_type(dtype)))
    like = {"shapes": [shape], "dtypes": [dtype]}
    return one.output[0], like, like | {"name": node.name, "outputs": node.output}


@tf_op("Erfc")
class Erfc:
    """The complementary error function, in which TensorFlow's exact GELU (ConvNeXt) is written."""

    @classmethod
    def version_9(cls, ctx: Graph, node: Node, **_options: object) -> None:
        """erfc(x) = 1 - erf(x), which ONNX has since opset 9."""
        one, like, last = _begin(ctx, node)
        erf = ctx.make_node("Erf", node.input, **like)
        ctx.make_node("Sub", [one, erf.output[0]], **last)


@tf_op("Expm1")
class Expm1:
    """exp(x) - 1, in which Keras writes celu."""

    @classmethod
    def version_6(cls, ctx: Graph, node: Node, **_options: object) -> None:
        """By two operators, which are off by a rounding of 1."""
        one, like, last = _begin(ctx, node)
        power = ctx.make_node("Exp", node.input, **like)
        ctx.make_node("Sub", [power.output[0], one], **last)


@tf_op("Log1p")
class Log1p:
    """log(1 + x)."""

    @classmethod
    def version_6(cls, ctx: Graph, node: Node, **_options: object) -> None:
        """By two operators, which are off by a rounding of 1."""
        one, like, last = _begin(ctx, node)
        more = ctx.make_node("Add", [node.input[0], one], **like)
        ctx.make_node("Log", more.output, **last)
