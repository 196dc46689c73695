"""Converts a function of TensorFlow to ONNX with tf2onnx, in a few times the memory of its weights.

tf2onnx copies the whole graph at each of its passes: 60 times the weights for ResNet50, 6.6 GB. So the large weights
stay outside of the graph while tf2onnx works on it, as further inputs, and are put back as stored tensors afterwards.
What can only be computed with the weights (transposed kernels, batch normalisation folded into convolutions) is then
left to ONNX Runtime's basic optimisations, which write standard operators.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
from onnx import defs
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.types.experimental import ConcreteFunction

import export.convert.operators  # noqa: F401  # registers itself with tf2onnx
from export.convert.original import BareGraph
from export.errors import ConversionFailed

#: Of a weight. Smaller ones stay in the graph: TensorFlow folds a batch normalisation's five into two.
MAX_BYTES_IN_GRAPH = 64 * 1024

INPUT_NAME = "input"
OUTPUT_NAME = "output"

Array = npt.NDArray[np.generic]


def traced(function: Callable[[tf.Tensor], tf.Tensor], shape: tuple[int | None, ...], dtype: str) -> ConcreteFunction:
    """`function` of one tensor as a graph."""
    signature = tf.TensorSpec(shape, dtype, name=INPUT_NAME)
    # Without autograph: it would rewrite the model's own Python, which Keras has traced already.
    made = tf.function(lambda x: tf.identity(function(x)), input_signature=(signature,), autograph=False)
    with _inlined():
        return made.get_concrete_function()


@contextmanager
def _inlined() -> Iterator[None]:
    """While a graph is traced, functions within functions become part of it.

    Keras compiles grouped convolutions (ConvNeXt) as functions of their own, because TensorFlow's
    CPU kernels lack them; ONNX has them, and tf2onnx can't look into a compiled function.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def to_onnx(concrete: ConcreteFunction, *, opset: int) -> BareGraph:
    """A function of one tensor, in ONNX. Raises ConversionFailed."""
    try:
        proto = _with_weights(*_without_weights(concrete), opset=opset)
        _check_operators(proto)
        folded = _folded(proto)
        _open_batch(folded)
        onnx.checker.check_model(folded)
    except ConversionFailed:
        raise
    # tf2onnx, onnx and TensorFlow each raise what they like.
    except Exception as error:
        raise ConversionFailed(_reason(error, opset)) from error
    return BareGraph(folded, INPUT_NAME, OUTPUT_NAME)


def _check_operators(proto: onnx.ModelProto) -> None:
    """tf2onnx leaves in the graph what it has no counterpart for. Raises ConversionFailed."""
    unknown = {node.op_type: node.name for node in proto.graph.node if not node.domain and not defs.has(node.op_type)}
    if not unknown:
        return
    kinds = ", ".join(f"{kind} ({name})" for kind, name in sorted(unknown.items()))
    if any(kind.startswith("TensorList") for kind in unknown):
        raise ConversionFailed(_loop(kinds))
    raise ConversionFailed(
        f"the network has a step that can't be expressed in ONNX: {kinds}. Build the model without that step, or with"
        " other operations in its place, load the weights, and save it"
    )


def _loop(reason: str) -> str:
    return (
        f"the network has a loop or a branch, which can't be expressed in ONNX ({reason}). If it is a recurrent layer,"
        " build the model again with unroll=True in that layer, load the weights, and save it. Instead of tf.cond, use"
        " tf.where"
    )


def _reason(error: Exception, opset: int) -> str:
    reason = str(error).strip().partition("\n")[0]
    if "while/" in reason or "cond/" in reason:
        return _loop(reason)
    newer = ": another --opset may help" if "opset" in reason.lower() and opset < 18 else ""
    return f"the network can't be expressed in ONNX opset {opset} ({type(error).__name__}: {reason}){newer}"


def _without_weights(concrete: ConcreteFunction) -> tuple[GraphDef, list[str], list[str], dict[str, Array]]:
    """The graph, its inputs and outputs, and the large weights, which have become placeholders of the graph."""
    count = len(concrete.inputs) - len(concrete.captured_inputs)
    inputs, outputs = [given.name for given in concrete.inputs[:count]], [given.name for given in concrete.outputs]
    placeholders = (placeholder.op.name for placeholder in concrete.inputs[count:])
    captured = dict(zip(placeholders, concrete.captured_inputs, strict=True))
    graph = concrete.graph.as_graph_def(add_shapes=True)
    with tf.Graph().as_default() as surrounding:
        tf.import_graph_def(graph, name="")
        # This inlines functions; constants are few as long as variables are not part of the graph.
        graph = tf2onnx.tf_loader.tf_optimize(inputs, outputs, graph)
        del surrounding
    weights = _Weights(graph, captured)
    result = GraphDef(versions=graph.versions, library=graph.library)
    for node in graph.node:
        weights.add(node, result)
    return result, inputs, outputs, weights.large


class _Weights:
    """Replaces what a graph reads from variables and captured tensors by constants or, if large, by placeholders."""

    def __init__(self, graph: GraphDef, captured: Mapping[str, tf.Tensor]) -> None:
        self._nodes = {node.name: node for node in graph.node}
        self._captured = captured
        self.large: dict[str, Array] = {}

    def add(self, node: NodeDef, result: GraphDef) -> None:
        resource = tf.resource.as_datatype_enum
        if node.op == "ReadVariableOp":
            self._put(node.name, self._value(node.input[0], tf.dtypes.as_dtype(node.attr["dtype"].type)), result)
        elif node.op == "Placeholder" and node.name in self._captured:
            if node.attr["dtype"].type != resource:
                self._put(node.name, self._captured[node.name].numpy(), result)
        elif node.op == "ResourceGather":
            self._gather(node, result)
        elif node.op.startswith("Assign"):
            # Writes the state of random numbers, say. The comparison shows if answers depend on it.
            pass
        elif not (node.op in ("Identity", "NoOp") and node.attr["T"].type == resource):
            kept = result.node.add()
            kept.CopyFrom(node)
            del kept.input[:]
            # Control inputs only order side effects, of which a graph of arithmetic has none.
            kept.input.extend(name for name in node.input if not name.startswith("^"))

    def _gather(self, node: NodeDef, result: GraphDef) -> None:
        """Rows of a variable by their numbers, as positions are embedded in transformers."""
        table, axis = f"{node.name}/table", f"{node.name}/axis"
        self._put(table, self._value(node.input[0], tf.dtypes.as_dtype(node.attr["dtype"].type)), result)
        self._put(axis, np.array(0, np.int32), result)
        made = result.node.add(name=node.name, op="GatherV2", input=[table, node.input[1], axis])
        made.attr["Tparams"].type = node.attr["dtype"].type
        made.attr["Tindices"].type = node.attr["Tindices"].type
        made.attr["Taxis"].type = tf.int32.as_datatype_enum
        made.attr["batch_dims"].i = node.attr["batch_dims"].i

    def _value(self, name: str, dtype: tf.DType) -> Array:
        node = self._nodes[name.partition(":")[0]]
        while node.op == "Identity":
            node = self._nodes[node.input[0].partition(":")[0]]
        value: Array = tf.raw_ops.ReadVariableOp(resource=self._captured[node.name], dtype=dtype).numpy()
        return value

    def _put(self, name: str, value: Array, result: GraphDef) -> None:
        made = result.node.add(name=name)
        dtype = tf.dtypes.as_dtype(value.dtype)
        made.attr["dtype"].type = dtype.as_datatype_enum
        if value.nbytes <= MAX_BYTES_IN_GRAPH:
            made.op = "Const"
            made.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        else:
            made.op = "Placeholder"
            made.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
            self.large[f"{name}:0"] = value


def _with_weights(
    graph: GraphDef, inputs: list[str], outputs: list[str], weights: dict[str, Array], *, opset: int
) -> onnx.ModelProto:
    """The graph in ONNX, with the weights as stored tensors."""
    proto, _ = tf2onnx.convert.from_graph_def(
        graph,
        input_names=[*inputs, *weights],
        output_names=outputs,
        opset=opset,
        tensors_to_rename={inputs[0]: INPUT_NAME, outputs[0]: OUTPUT_NAME},
    )
    for value in [value for value in proto.graph.input if value.name in weights]:
        proto.graph.input.remove(value)
        # One at a time leaves the dictionary, so that no weight is kept twice for longer than needed.
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weights.pop(value.name), value.name))
    return proto


def _folded(proto: onnx.ModelProto) -> onnx.ModelProto:
    """What depends on the weights alone is computed, and batch normalisations are part of their convolutions."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with TemporaryDirectory(prefix="sluice-fold-") as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(proto, before)
        options.optimized_model_filepath = str(after)
        onnxruntime.InferenceSession(before, options, providers=["CPUExecutionProvider"])
        folded = onnx.load(after)
    domains = {node.domain for node in folded.graph.node}
    kept = [entry for entry in folded.opset_import if entry.domain in domains]
    del folded.opset_import[:], folded.metadata_props[:]
    folded.opset_import.extend(kept)
    return folded


def _open_batch(proto: onnx.ModelProto) -> None:
    for value in (proto.graph.input[0], proto.graph.output[0]):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "N"
