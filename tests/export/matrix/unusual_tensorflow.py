"""Files of Keras 2 and SavedModels that users have and tutorials have not."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers
from tf_keras.src.applications import convnext, inception_resnet_v2

from tests.export.matrix import keras_cases, tensorflow_cases
from tests.export.matrix.case import Case, Floats, Made, Pixels, sigmoid, softmax
from tests.export.matrix.keras_cases import raw, tf_mode, unit
from tests.export.matrix.tensorflow_cases import Model, case, compiled, exported, functional, head, transfer

#: What the export says of pixels whose scale is not known.
SCALE = "does not tell how the pixels were scaled"


def keras_2(suffix: str) -> Iterator[Case]:
    rescaled = layers.Rescaling(1 / 255)
    losses = tf_keras.losses
    yield case("BatchNormalization as normaliser", adjusted, suffix)
    yield case("activations of many kinds", activations, suffix)
    yield case("rows through an LSTM", rows, suffix)
    yield case("attention over patches", attention, suffix)
    yield case("layers of ConvNeXt and InceptionResNetV2", application_layers, suffix)
    yield case("float64 throughout", float64, suffix)
    if suffix == ".h5":
        yield Case("mixed_float16 of TensorFlow 2.1", old_mixed)
    yield case("two heads", heads, suffix, asks="2 outputs")
    yield case("a loss of one's own", lambda: compiled(functional(rescaled), lambda y, p: p - y), suffix)
    yield case("a dict of losses", lambda: compiled(named(), {"scores": logits_loss()}), suffix, head=softmax)
    yield case("embedding of unit length", embedding, suffix, "--output-kind", "values", outputs=4)
    yield case("augmentation in front", augmented, suffix)
    yield case("Normalization adapted on 0..255", adapted, suffix)
    yield case("a Sequential within a Sequential", nested, suffix)
    yield case("softmax of one", lambda: functional(rescaled, 1), suffix, outputs=1, asks="over one output")
    binary = losses.BinaryCrossentropy(from_logits=True)
    yield case("logits of labels", lambda: compiled(functional(rescaled, 3, None), binary), suffix, head=sigmoid)
    yield case("channels first", channels_first, suffix, "--preprocess", "unit", prepare=planar)
    for name in ("VGG16", "ResNet50V2", "EfficientNetV2B0", "NASNetMobile") if suffix == ".h5" else ("VGG16",):
        within = name == "EfficientNetV2B0"
        build = partial(transfer, name, lambda x: x)
        stated = () if within else ("--preprocess", "tf")
        yield case(f"transfer of {name}", build, suffix, *stated, prepare=raw if within else tf_mode, size=(64, 64, 3))


def logits_loss() -> Any:
    return tf_keras.losses.CategoricalCrossentropy(from_logits=True)


def planar(images: Pixels) -> Floats:
    return unit(images).transpose(0, 3, 1, 2)


def image() -> Any:
    return layers.Input((16, 16, 3))


def adjusted() -> Model:
    layer = layers.BatchNormalization()
    layer.build((None, 16, 16, 3))
    layer.set_weights([np.ones(3), np.zeros(3), np.full(3, 120.0), np.full(3, 4000.0)])
    return functional(layer)


def activations() -> Model:
    def before(x: Any) -> Any:
        x = layers.PReLU()(layers.LeakyReLU()(layers.ELU()(layers.Rescaling(1 / 255)(x) - 0.5)))
        return layers.Activation("swish")(layers.Activation("selu")(x))

    return functional(before)


def rows() -> Model:
    given = image()
    x = layers.Reshape((16, 48))(layers.Rescaling(1 / 255)(given))
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(x)
    return tf_keras.Model(given, layers.Dense(3, activation="softmax")(layers.GRU(4)(x)))


def attention() -> Model:
    given = image()
    x = layers.Reshape((16, 12))(layers.Conv2D(12, 4, strides=4)(layers.Rescaling(1 / 255)(given)))
    x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(2, 6)(x, x)]))
    return tf_keras.Model(given, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling1D()(x)))


def application_layers() -> Model:
    """A file of Keras 2 has their names, and not where they are."""
    given = image()
    x = layers.Conv2D(4, 3, padding="same")(layers.Rescaling(1 / 255)(given))
    x = layers.Add()([x, convnext.StochasticDepth(0.1)(convnext.LayerScale(0.5, 4)(x))])
    x = inception_resnet_v2.CustomScaleLayer(0.2)([x, layers.Conv2D(4, 1)(x)])
    return tf_keras.Model(given, head(x))


def float64() -> Model:
    tf_keras.backend.set_floatx("float64")
    try:
        return functional(layers.Rescaling(1 / 255))
    finally:
        tf_keras.backend.set_floatx("float32")


def old_mixed(folder: Path) -> Made:
    """The policy of that time holds the scale of the loss."""
    model, path = tensorflow_cases.mixed(), folder / "model.h5"
    exact = functional(layers.Rescaling(1 / 255))
    exact.set_weights(model.get_weights())
    model.save(path)
    scale = {"class_name": "DynamicLossScale", "config": {"initial_loss_scale": 32768.0}}
    policy = {"class_name": "PolicyV1", "config": {"name": "mixed_float16", "loss_scale": scale}}
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"][1:]:  # the input has a type and no policy
            layer["config"]["dtype"] = policy
        file.attrs["model_config"] = json.dumps(config)
    return Made(path, lambda images: np.asarray(exact.predict(raw(images), verbose=0)))


def heads() -> Model:
    given = image()
    x = layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(given))
    return tf_keras.Model(given, [head(x), head(x, 2)])


def named() -> Model:
    given = image()
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(given)))
    return tf_keras.Model(given, layers.Dense(3, name="scores")(x))


def embedding() -> Model:
    given = image()
    x = layers.Flatten()(layers.Conv2D(2, 5, strides=3)(layers.Rescaling(1 / 255)(given)))
    return tf_keras.Model(given, tf.math.l2_normalize(layers.Dense(4)(x), axis=1))


def augmented() -> Model:
    layers_in_front = [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1), layers.RandomContrast(0.2)]
    return tf_keras.Sequential([image(), *layers_in_front, functional(layers.Rescaling(1 / 255))])


def adapted() -> Model:
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(1).integers(0, 256, (16, 16, 16, 3)).astype(np.float32))
    return functional(layer)


def nested() -> Model:
    inner = tf_keras.Sequential([layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D()])
    outer = [layers.Rescaling(1 / 255, input_shape=(16, 16, 3)), inner, layers.Dense(3, activation="softmax")]
    return tf_keras.Sequential(outer)


def channels_first() -> Model:
    given = layers.Input((3, 16, 16))
    return tf_keras.Model(given, head(layers.Conv2D(4, 3)(layers.Permute((2, 3, 1))(given))))


class Module(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """A classifier of plain TensorFlow: what `answer` makes of pixels 0..255 and the kernel."""

    def __init__(self, answer: Callable[[Any, Any], Any], spec: Any) -> None:
        self.kernel = tf.Variable(tf.random.stateless_normal((3, 3), [1, 2]) * 3)
        self.call = tf.function(lambda pixels: answer(pixels, self.kernel), input_signature=[spec])


def module(
    name: str,
    answer: Callable[[Any, Any], Any],
    *options: str,
    spec: Any = None,
    signatures: Callable[[Any], Any] = lambda module: module.call,
    **more: Any,
) -> Case:
    def make(folder: Path) -> Made:
        made = Module(answer, spec or tf.TensorSpec((None, 16, 16, 3), tf.float32, name="pixels"))
        tf.saved_model.save(made, str(folder / "model"), signatures=signatures(made))

        def predict(images: Pixels) -> Floats:
            answers = [np.asarray(made.call(raw(images[at : at + 1]))).reshape(1, -1) for at in range(len(images))]
            return np.concatenate(answers)

        return Made(folder / "model", predict, options)

    return Case(name, make, **more)


def mean(x: Any) -> Any:
    return tf.reduce_mean(x / 255.0, [1, 2])


def in_a_loop(x: Any, kernel: Any) -> Any:
    return tf.nn.softmax(tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y @ kernel / 2), (0, mean(x)))[1])


def by_condition(x: Any, kernel: Any) -> Any:
    return tf.nn.softmax(tf.cond(tf.reduce_mean(x) > 127.0, lambda: mean(x) @ kernel, lambda: mean(x) @ -kernel))


def softmaxed(x: Any, kernel: Any) -> Any:
    return tf.nn.softmax(mean(x) @ kernel)


def printed(x: Any, kernel: Any) -> Any:
    with tf.control_dependencies([tf.print(tf.shape(x))]):
        return tf.nn.softmax(mean(x) @ kernel)


def saved_models() -> Iterator[Case]:
    fixed = tf.TensorSpec((1, 16, 16, 3), tf.float32, name="pixels")
    yield module("batch of 1", softmaxed, spec=fixed, asks="takes 1 images at a time")
    yield module("channels last of any size", softmaxed, "--size", "16", spec=tf.TensorSpec((None, None, None, 3)))
    yield module(
        "one image without a batch",
        lambda x, k: softmaxed(x[None], k),
        spec=tf.TensorSpec((16, 16, 3)),
        asks="(None, height, width, channels)",
    )
    yield module("resized inside", lambda x, k: softmaxed(tf.image.resize(x, (8, 8)), k))
    yield module("standardised per image", lambda x, k: softmaxed(tf.image.per_image_standardization(x), k), asks=SCALE)
    yield module("a loop", in_a_loop, asks="unroll=True")
    yield module("a condition on the batch", by_condition, asks="use tf.where")
    yield module("prints", printed, asks="export the model without it")
    yield module(
        "noise at inference",
        lambda x, k: tf.nn.softmax(mean(x) @ k + tf.random.normal((3,))),
        asks="differently each time",
    )
    yield module("the index of the class", lambda x, k: tf.argmax(mean(x) @ k, 1), asks="up to the layer")
    text = tf.TensorSpec((None,), tf.string, name="files")
    yield module("encoded images", lambda x, _: tf.strings.length(x), spec=text, asks="export the model without it")
    both = lambda made: {"a": made.call, "b": made.call}  # noqa: E731
    yield module("two signatures", softmaxed, signatures=both, asks="needs one serving signature")
    yield module("no signature", softmaxed, signatures=lambda _: None)
    rescaled = keras.layers.Rescaling(1 / 255)
    made, dense = keras_cases.functional, keras_cases.dense
    yield exported("Keras 3, GRU", gru, asks="unroll=True")
    yield exported(
        "Keras 3, softmax of one", lambda: made(dense(1), before=rescaled), outputs=1, asks="over one output"
    )


def gru() -> Any:
    given = keras.Input((16, 16, 3))
    x = keras.layers.Reshape((16, 48))(keras.layers.Rescaling(1 / 255)(given))
    return keras.Model(given, keras_cases.dense()(keras.layers.GRU(5)(x)))
