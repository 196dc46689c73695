"""An fp32 graph in fp16, its two ends unchanged.

The converter is the one that ONNX Runtime ships, so that it fits the runtime that serves the result.
"""

import warnings
from collections.abc import Iterator

import onnx
from onnxruntime.transformers import float16

from export.errors import ConversionFailed

#: Kept in fp32: probabilities of a thousand classes and means over many pixels lose their last digits in
#: eleven bits, the smallest of them vanish, and neither operator costs anything.
KEPT = ("Softmax", "GlobalAveragePool", "ReduceMean")

#: What a network's own work begins with; before it only pixels are normalised.
_LAYERS = frozenset(("Conv", "Gemm", "MatMul"))


def halved(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Raises ConversionFailed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    _name_nodes(copy)
    try:
        with warnings.catch_warnings():
            # A weight below fp16's smallest number becomes that number; the agreement tells whether it matters.
            warnings.simplefilter("ignore")
            return float16.convert_float_to_float16(
                copy,
                keep_io_types=True,
                op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *KEPT],
                node_block_list=list(_normalisation(copy)),
            )
    # Whatever the converter stumbles over in a graph that it doesn't expect.
    except Exception as error:
        raise ConversionFailed(f"the network can't be converted to fp16: {error}") from error


def _name_nodes(proto: onnx.ModelProto) -> None:
    for index, node in enumerate(proto.graph.node):
        node.name = node.name or f"node_{index}_{node.op_type}"


def _normalisation(proto: onnx.ModelProto) -> Iterator[str]:
    """The nodes in front of the first layer: there a pixel less its mean would lose a tenth of a step."""
    for node in proto.graph.node:
        if node.op_type in _LAYERS:
            return
        yield node.name
