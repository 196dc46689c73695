"""Files of Keras 2, written by tf-keras, and SavedModels of Keras 2, Keras 3 and plain TensorFlow."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

from tests.export.matrix import keras_cases
from tests.export.matrix.case import Case, Floats, Made, Pixels, pair, sigmoid, softmax
from tests.export.matrix.keras_cases import raw, tf_mode, unit

Model = Any

#: Each is built, saved and converted, which takes seconds.
_BACKBONES = ("MobileNet", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "ResNet50", "DenseNet121")


def case(
    name: str,
    build: Callable[[], Model],
    suffix: str,
    *options: str,
    prepare: Callable[[Pixels], Floats] = raw,
    head: Callable[[Floats], Floats] = lambda x: x,
    twin: Callable[[], Model] | None = None,
    **more: Any,
) -> Case:
    """A model whose owner prepares images with `prepare`; `twin` is the same in float32."""

    def make(folder: Path) -> Made:
        model = build()
        path = folder / f"model{suffix}"
        model.save(path, save_format="tf" if not suffix else None)
        if twin is not None:
            exact = twin()
            exact.set_weights(model.get_weights())
            model = exact

        def predict(images: Pixels) -> Floats:
            return head(np.asarray(model.predict(prepare(images), verbose=0)))

        return Made(path, predict, options)

    return Case(name, make, **more)


def head(x: Any, count: int = 3, activation: str | None = "softmax") -> Any:
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dense(count, activation=activation, kernel_initializer=tf_keras.initializers.HeNormal(1))(x)


def functional(before: Callable[[Any], Any] = lambda x: x, count: int = 3, activation: str | None = "softmax") -> Model:
    given = layers.Input((16, 16, 3))
    x = layers.SeparableConv2D(8, 3, activation="relu")(before(given))
    return tf_keras.Model(given, head(layers.DepthwiseConv2D(3)(layers.BatchNormalization()(x)), count, activation))


def transfer(name: str, prepare: Callable[[Any], Any]) -> Model:
    """The tutorials' way: a backbone as one layer, its preprocessing in front."""
    base = getattr(tf_keras.applications, name)(include_top=False, weights=None, input_shape=(64, 64, 3))
    given = layers.Input((64, 64, 3))
    return tf_keras.Model(given, head(base(prepare(given), training=False)))


def arithmetic() -> Model:
    given = layers.Input((16, 16, 3))
    x = tf.math.subtract(tf.cast(given, tf.float32) / 255.0, 0.5) * 2.0
    x = tf.reduce_mean(tf.nn.relu(layers.Conv2D(8, 3)(x)), axis=[1, 2])
    return tf_keras.Model(given, tf.nn.softmax(tf.reshape(layers.Dense(3)(x), (-1, 3)) / 2.0))


def compiled(model: Model, loss: Any) -> Model:
    model.compile("sgd", loss)
    return model


def mixed() -> Model:
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        return functional(layers.Rescaling(1 / 255))
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


def keras_2(suffix: str) -> Iterator[Case]:
    applications = tf_keras.applications
    own = applications.mobilenet_v2.preprocess_input
    losses = tf_keras.losses
    none = "does not tell how the pixels were scaled"
    yield case("Rescaling", lambda: functional(layers.Rescaling(1 / 255)), suffix)
    yield case("mobilenet_v2.preprocess_input", lambda: functional(own), suffix)
    if suffix == ".h5":  # TensorFlow itself can't save caffe's slices into a .keras
        yield case("vgg16.preprocess_input", lambda: functional(applications.vgg16.preprocess_input), suffix)
    yield case("densenet.preprocess_input", lambda: functional(applications.densenet.preprocess_input), suffix)
    yield case("operations of TensorFlow", arithmetic, suffix)
    yield case("normalisation stated", functional, suffix, "--preprocess", "unit", prepare=unit)
    yield case("normalisation not said", functional, suffix, asks=none)
    yield case("one sigmoid", lambda: functional(own, 1, "sigmoid"), suffix, head=pair, outputs=2)
    yield case("labels", lambda: functional(own, 3, "sigmoid"), suffix)
    yield case("logits", lambda: functional(own, 3, None), suffix, asks="--output-kind classes")
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    yield case("logits with their loss", lambda: compiled(functional(own, 3, None), loss), suffix, head=softmax)
    binary = losses.BinaryCrossentropy(from_logits=True)
    yield case(
        "one logit with its loss",
        lambda: compiled(functional(own, 1, None), binary),
        suffix,
        head=lambda x: pair(sigmoid(x)),
        outputs=2,
    )
    yield case("regression", lambda: compiled(functional(own, 1, None), "mae"), suffix, outputs=1)
    yield case("mixed_float16", mixed, suffix, twin=lambda: functional(layers.Rescaling(1 / 255)))
    yield case("Lambda", lambda: functional(layers.Lambda(lambda x: x / 255)), suffix, asks="which is never run")
    yield case("MNIST", mnist, suffix, "--preprocess", "unit", prepare=unit, size=(28, 28, 1), outputs=10)
    for name in _BACKBONES if suffix == ".h5" else _BACKBONES[1:4:2]:
        within = name in ("MobileNetV3Small", "EfficientNetB0")
        stated = () if within else ("--preprocess", "tf")
        yield case(
            f"transfer of {name}",
            partial(transfer, name, lambda x: x),
            suffix,
            *stated,
            prepare=raw if within else tf_mode,
            size=(64, 64, 3),
        )


def mnist() -> Model:
    return tf_keras.Sequential(
        [layers.Conv2D(8, 3, activation="relu", input_shape=(28, 28, 1)), layers.MaxPooling2D(), layers.Flatten(),
         layers.Dense(10, activation="softmax")]
    )  # fmt: skip


class Plain(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """A classifier that no Keras has made."""

    def __init__(self) -> None:
        self.kernel = tf.Variable(tf.random.stateless_normal((3, 3), [1, 2]) * 3)

    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.uint8, name="pixels")])  # type: ignore[untyped-decorator]
    def of_pixels(self, pixels: Any) -> dict[str, Any]:
        return {"p": tf.nn.softmax(tf.reduce_mean(tf.cast(pixels, tf.float32) / 255.0, [1, 2]) @ self.kernel)}

    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32, name="pixels")])  # type: ignore[untyped-decorator]
    def of_floats(self, pixels: Any) -> dict[str, Any]:
        return {"p": tf.nn.sigmoid(tf.reduce_mean(pixels, [1, 2]) @ self.kernel)}

    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32, name="pixels")])  # type: ignore[untyped-decorator]
    def of_both(self, pixels: Any) -> dict[str, Any]:
        means = tf.reduce_mean(pixels, [1, 2])
        return {"a": means @ self.kernel, "b": means}


def plain(
    name: str,
    function: str,
    *options: str,
    prepare: Callable[[Pixels], Any] = lambda x: x,
    key: str = "serving_default",
    **more: Any,
) -> Case:
    def make(folder: Path) -> Made:
        module = Plain()
        tf.saved_model.save(module, str(folder / "model"), signatures={key: getattr(module, function)})

        def predict(images: Pixels) -> Floats:
            # The module is kept by this function: what tf.function makes of a method holds it weakly.
            return np.asarray(getattr(module, function)(prepare(images))["p"])

        return Made(folder / "model", predict, options)

    return Case(name, make, **more)


def exported(
    name: str,
    build: Callable[[], Model],
    *options: str,
    prepare: Callable[[Pixels], Floats] = raw,
    head: Callable[[Floats], Floats] = lambda x: x,
    **more: Any,
) -> Case:
    """By model.export() of Keras 3."""

    def make(folder: Path) -> Made:
        model = build()
        keras_cases.shaken(model)
        model.export(str(folder / "model"), verbose=False)
        return Made(folder / "model", lambda images: head(model.predict(prepare(images), verbose=0)), options)

    return Case(name, make, **more)


def saved_models() -> Iterator[Case]:
    own = tf_keras.applications.mobilenet_v2.preprocess_input
    rescaled = keras.layers.Rescaling(1 / 255)
    dense, made = keras_cases.dense, keras_cases.functional
    yield case("Keras 2, Rescaling", lambda: functional(layers.Rescaling(1 / 255)), "")
    yield case("Keras 2, vgg16.preprocess_input", lambda: functional(tf_keras.applications.vgg16.preprocess_input), "")
    yield case("Keras 2, operations of TensorFlow", arithmetic, "")
    yield case("Keras 2, one sigmoid", lambda: functional(own, 1, "sigmoid"), "", head=pair, outputs=2)
    yield case("Keras 2, labels", lambda: functional(own, 3, "sigmoid"), "")
    yield case("Keras 2, logits", lambda: functional(own, 3, None), "", asks="--output-kind classes")
    yield case("Keras 2, Lambda", lambda: functional(layers.Lambda(lambda x: x / 255)), "")
    yield case("Keras 2, MNIST", mnist, "", "--preprocess", "unit", prepare=unit, size=(28, 28, 1), outputs=10)
    yield case("Keras 2, transfer", lambda: transfer("MobileNetV2", own), "", size=(64, 64, 3))
    yield exported("Keras 3, export", lambda: made(dense(), before=rescaled))
    yield exported("Keras 3, sigmoids", lambda: made(dense(3, "sigmoid"), before=rescaled))
    yield exported("Keras 3, one sigmoid", lambda: made(dense(1, "sigmoid"), before=rescaled), head=pair, outputs=2)
    yield exported("Keras 3, stated", lambda: made(dense()), "--preprocess", "unit", prepare=unit)
    yield exported("Keras 3, greyscale", lambda: made(dense(), before=rescaled, shape=(16, 16, 1)), size=(16, 16, 1))
    yield exported(
        "Keras 3, open size", lambda: made(dense(), before=rescaled, shape=(None, None, 3)), "--size", "16x16"
    )
    yield plain("TensorFlow, uint8", "of_pixels")
    yield plain("TensorFlow, its own signature name", "of_pixels", key="classify")
    yield plain("TensorFlow, float", "of_floats", "--preprocess", "unit", prepare=unit)
    yield plain("TensorFlow, two outputs", "of_both", asks="2 outputs")
