"""From a Keras model to one graph: uint8 pixels in, probabilities out; and that graph in ONNX."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import onnx
import tensorflow as tf
import tf2onnx
from tensorflow.types.experimental import ConcreteFunction, GenericFunction

import export.convert.operators  # noqa: F401  # registers itself with tf2onnx
from export.artefact.description import INPUT_NAME, OUTPUT_NAME
from export.convert.head import Head
from export.convert.normalisation import NORMALISATIONS
from export.errors import ConversionFailed
from export.sources.network import Network

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Classify = Callable[[tf.Tensor], tf.Tensor]


def raw(network: Network) -> Classify:
    """The model behind its normalisation: uint8 [N,H,W,3] to what it ends in, as float32 [N,...]."""
    normalisation = NORMALISATIONS[network.preprocess]

    def normalised_model(images: tf.Tensor) -> tf.Tensor:
        x = tf.cast(images, tf.float32)
        if normalisation.bgr:
            x = x[..., ::-1]
        if any(normalisation.mean):
            x = x - tf.constant(normalisation.mean)
        if set(normalisation.scale) != {1.0}:
            x = x / tf.constant(normalisation.scale)
        # A model of mixed precision ends in float16, where a softmax would lose digits.
        return tf.cast(network.model(x, training=False), tf.float32)

    return normalised_model


def classify(network: Network, head: Head) -> Classify:
    """uint8 [N,H,W,3] to probabilities, float32 [N,classes]."""
    scores = raw(network)

    def pixels_to_probabilities(images: tf.Tensor) -> tf.Tensor:
        y = scores(images)
        match head:
            case "as-is":
                return y
            case "softmax":
                return tf.nn.softmax(y)
            case "sigmoid":
                # Both halves from the logit: 1 - sigmoid(x) has lost its digits where x is large.
                return tf.concat([tf.sigmoid(-y), tf.sigmoid(y)], axis=-1)
            case "complement":
                return tf.concat([1.0 - y, y], axis=-1)

    return pixels_to_probabilities


def traced(function: Classify, network: Network) -> GenericFunction:
    """`function` as a graph of TensorFlow's, for any number of images of the network's size."""
    signature = tf.TensorSpec((None, network.height, network.width, 3), tf.uint8, name=INPUT_NAME)
    # Without autograph: it would rewrite the model's own Python, which Keras has traced already.
    return tf.function(lambda images: {OUTPUT_NAME: function(images)}, input_signature=(signature,), autograph=False)


def to_onnx(function: Classify, network: Network, *, opset: int) -> onnx.ModelProto:
    """`function` in ONNX, both of its ends named as the artefact's format asks.

    Raises ConversionFailed for an operator that tf2onnx can't express in this opset.
    """
    graph = traced(function, network)
    try:
        with _inlined():
            concrete = graph.get_concrete_function()
            proto, _ = tf2onnx.convert.from_function(graph, graph.input_signature, opset=opset)
        _embed_captures(proto, concrete)
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "N"
        onnx.checker.check_model(proto)
    # tf2onnx, onnx and TensorFlow each raise what they like.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConversionFailed(
            f"the network can't be expressed in ONNX opset {opset} ({reason}): another --opset may help"
        ) from error
    assert [value.name for value in proto.graph.input] == [INPUT_NAME]
    assert [value.name for value in proto.graph.output] == [OUTPUT_NAME]
    return proto


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


def _embed_captures(proto: onnx.ModelProto, concrete: ConcreteFunction) -> None:
    """Makes constants of the tensors that the function closes over.

    tf2onnx freezes variables but takes a bare tensor, such as the mean that Keras's Normalization
    keeps, for one more input.
    """
    placeholders = concrete.inputs[-len(concrete.captured_inputs) :] if concrete.captured_inputs else []
    captured = dict(zip((p.name for p in placeholders), concrete.captured_inputs, strict=True))
    for value in [value for value in proto.graph.input if value.name in captured]:
        array = np.asarray(captured[value.name])
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
        proto.graph.input.remove(value)
