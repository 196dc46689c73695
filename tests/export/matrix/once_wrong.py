"""Models that were answered wrongly once, or refused although they can be served. The quick test has them all."""

from collections.abc import Iterator
from typing import Any

import keras
import onnx
import tensorflow as tf
import tf_keras
from keras import layers, ops

from tests.export.matrix import onnx_cases, tensorflow_cases, unusual_tensorflow
from tests.export.matrix.case import Case, Floats, Pixels, softmax
from tests.export.matrix.keras_cases import Model, body, case, compiled, dense, functional, raw, unit
from tests.export.matrix.preprocessing_cases import normaliser, uint8_input
from tests.support.models import tiny_onnx

#: What the export says of pixels whose scale is not known.
SCALE = "does not tell how the pixels were scaled"


def once_wrong() -> Iterator[Case]:
    caffe = functional_of(normaliser(3.0, 4200.0))
    yield case("BatchNormalization behind caffe's means", lambda: caffe, asks=SCALE)
    fitted = layers.Normalization(mean=[-4.0, 2.0, 6.0], variance=[4225.0] * 3)
    yield case("Normalization adapted behind caffe's means", lambda: functional_of(fitted), asks=SCALE)
    dark = layers.Normalization(mean=[33.0] * 3, variance=[6100.0] * 3)
    yield case("Normalization adapted on dark images, 0..255", lambda: functional_of(dark), prepare=raw)
    yield case(
        "numbers of MNIST stated",
        lambda: functional(dense(), shape=(16, 16, 1)),
        "--preprocess",
        "0.1307/0.3081",
        prepare=mnist,
        size=(16, 16, 1),
    )
    yield case("the vote of two networks", lambda: functional(vote), asks="without that step, or with other operations")
    yield case("celu", lambda: functional_of(layers.Conv2D(4, 3, activation="celu")))
    yield case("pixels in one row", row, outputs=10, asks="keras.layers.Flatten(), model])")
    yield case("int32 pixels", whole_numbers, asks="model(keras.ops.cast(x, 'int32'))")
    digits: dict[str, Any] = {"size": (28, 28, 1), "outputs": 10}
    yield case("28x28 without channels", tutorial, "--preprocess", "unit", prepare=flat, head=softmax, **digits)
    yield case(
        "28x28 without channels, Rescaling", lambda: tutorial(rescaled=True), prepare=flat_raw, head=softmax, **digits
    )
    yield tensorflow_cases.case(
        "28x28 without channels, Keras 2",
        tutorial_of_keras_2,
        ".h5",
        "--preprocess",
        "unit",
        prepare=flat,
        head=softmax,
        **digits,
    )
    yield case(
        "read by OpenCV", lambda: functional(dense()), "--preprocess", "unit:bgr", prepare=lambda x: unit(x[..., ::-1])
    )
    stated = ("--preprocess", "none:bgr")
    yield case("uint8 pixels read by OpenCV", uint8_input, *stated, prepare=lambda images: images[..., ::-1])
    yield case("caffe's means, channels not swapped", lambda: functional_of(less_means), asks=SCALE)
    yield case("BGR made RGB within", lambda: functional_of(lambda x: x[..., ::-1] / 255.0), asks=SCALE)
    yield case("regression by MAPE", lambda: compiled(functional(dense(1, None)), "mape"), outputs=1)
    yield case("RandomPosterization", lambda: functional_of(layers.RandomPosterization(4)))
    yield case("pixels as tokens", tokens, size=(16, 16, 1), prepare=lambda images: images)
    bins = layers.Discretization(bin_boundaries=[64.0, 128.0])
    yield case("Discretization", lambda: functional_of(bins), asks="a layer of Keras that is not for images")
    yield unusual_tensorflow.module("log(1 + x)", lambda x, kernel: tf.nn.softmax(mean_of(tf.math.log1p, x) @ kernel))
    yield unusual_tensorflow.module("rows of a variable", rows_of_a_variable)
    yield onnx_cases.case("nodes in another order", tiny_onnx_in_reverse)
    yield onnx_cases.case("output without a shape", lambda: without_shape("output"))
    yield onnx_cases.case("input without a shape", lambda: without_shape("input"), asks="export it again with one")


def less_means(x: Any) -> Any:
    return x - ops.array([103.939, 116.779, 123.68])


def tokens() -> Model:
    given = keras.Input((16, 16, 1), dtype="uint8")
    x = layers.Embedding(256, 4)(layers.Flatten()(given))
    return keras.Model(given, dense()(layers.GlobalAveragePooling1D()(x)))


def mean_of(function: Any, x: Any) -> Any:
    return tf.reduce_mean(function(x / 255.0), [1, 2])


def rows_of_a_variable(x: Any, kernel: Any) -> Any:
    return tf.nn.softmax(unusual_tensorflow.mean(x) @ tf.nn.embedding_lookup(kernel, tf.constant([2, 0, 1])))


def tiny_onnx_in_reverse() -> onnx.ModelProto:
    made = tiny_onnx.model(ends="Softmax")
    nodes = list(made.graph.node)[::-1]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def without_shape(end: str) -> onnx.ModelProto:
    made = tiny_onnx.model(ends="Softmax")
    getattr(made.graph, end)[0].type.tensor_type.ClearField("shape")
    return made


def functional_of(before: object) -> Model:
    return functional(dense(), before=before)  # type: ignore[arg-type]  # Keras has no types


def vote(x: Any) -> Any:
    return (ops.one_hot(ops.argmax(dense()(x)), 3) + ops.one_hot(ops.argmax(dense()(x)), 3)) / 2


def row() -> Model:
    return keras.Sequential([keras.Input((784,)), layers.Dense(16, activation="relu"), dense(10)])


def whole_numbers() -> Model:
    given = keras.Input((16, 16, 3), dtype="int32")
    return keras.Model(given, dense()(body(layers.Rescaling(1 / 255)(given))))


def mnist(images: Pixels) -> Floats:
    return (unit(images) - 0.1307) / 0.3081


def flat(images: Pixels) -> Floats:
    return unit(images)[..., 0]


def flat_raw(images: Pixels) -> Floats:
    return raw(images)[..., 0]


def tutorial(*, rescaled: bool = False) -> Model:
    """TensorFlow's first tutorial, on keras.datasets.mnist as it is."""
    first = [layers.Reshape((28, 28, 1)), layers.Rescaling(1 / 255)] if rescaled else []
    hidden = [layers.Flatten(), layers.Dense(16, activation="relu"), layers.Dropout(0.2), dense(10, None)]
    model = keras.Sequential([keras.Input((28, 28)), *first, *hidden])
    return compiled(model, keras.losses.SparseCategoricalCrossentropy(from_logits=True))


def tutorial_of_keras_2() -> Model:
    hidden = [tf_keras.layers.Flatten(input_shape=(28, 28)), tf_keras.layers.Dense(16, activation="relu")]
    model = tf_keras.Sequential([*hidden, tf_keras.layers.Dense(10)])
    model.compile("adam", tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model
