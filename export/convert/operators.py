"""Operators of TensorFlow that tf2onnx has no handler for. Importing this module registers them."""

import numpy as np
from tf2onnx import utils
from tf2onnx.graph import Graph, Node
from tf2onnx.handler import tf_op


@tf_op("Erfc")
class Erfc:
    """The complementary error function, in which TensorFlow's exact GELU (ConvNeXt) is written."""

    @classmethod
    def version_9(cls, ctx: Graph, node: Node, **_options: object) -> None:
        """erfc(x) = 1 - erf(x), which ONNX has since opset 9."""
        dtype, shape = ctx.get_dtype(node.output[0]), ctx.get_shape(node.output[0])
        ctx.remove_node(node.name)
        erf = ctx.make_node("Erf", node.input, shapes=[shape], dtypes=[dtype])
        one = ctx.make_const(utils.make_name("erfc_one"), np.array(1, utils.map_onnx_to_numpy_type(dtype)))
        ctx.make_node(
            "Sub",
            [one.output[0], erf.output[0]],
            name=node.name,
            outputs=node.output,
            shapes=[shape],
            dtypes=[dtype],
        )


@tf_op("Expm1")
class Expm1:
    """exp(x) - 1, in which Keras writes celu."""

    @classmethod
    def version_6(cls, ctx: Graph, node: Node, **_options: object) -> None:
        """By two operators, which are off by a rounding of 1."""
        dtype, shape = ctx.get_dtype(node.output[0]), ctx.get_shape(node.output[0])
        ctx.remove_node(node.name)
        power = ctx.make_node("Exp", node.input, shapes=[shape], dtypes=[dtype])
        one = ctx.make_const(utils.make_name("expm1_one"), np.array(1, utils.map_onnx_to_numpy_type(dtype)))
        ctx.make_node(
            "Sub",
            [power.output[0], one.output[0]],
            name=node.name,
            outputs=node.output,
            shapes=[shape],
            dtypes=[dtype],
        )


@tf_op("Log1p")
class Log1p:
    """log(1 + x)."""

    @classmethod
    def version_6(cls, ctx: Graph, node: Node, **_options: object) -> None:
        """By two operators, which are off by a rounding of 1."""
        dtype, shape = ctx.get_dtype(node.output[0]), ctx.get_shape(node.output[0])
        ctx.remove_node(node.name)
        one = ctx.make_const(utils.make_name("log1p_one"), np.array(1, utils.map_onnx_to_numpy_type(dtype)))
        more = ctx.make_node("Add", [node.input[0], one.output[0]], shapes=[shape], dtypes=[dtype])
        ctx.make_node("Log", more.output, name=node.name, outputs=node.output, shapes=[shape], dtypes=[dtype])
