"""Models of Keras 3 that users have and tutorials have not."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tests.export.matrix.case import Case, Floats, Pixels, sigmoid, softmax
from tests.export.matrix.keras_cases import Model, body, case, compiled, dense, functional, raw, shaken, unit
from tests.export.matrix.preprocessing_cases import adapted

STATED = ("--preprocess", "unit")

#: What the export says of pixels whose scale is not known.
SCALE = "does not tell how the pixels were scaled"


def on(given: Any, head: Any) -> Model:
    return keras.Model(given, head)


def image() -> Any:
    return keras.Input((16, 16, 3))


def endings() -> Iterator[Case]:
    """Structures, layers and precisions."""
    yield case("one convolution used twice", twice)
    yield case("patches and attention", transformer)
    yield case("rows through a GRU", rows)
    yield case("squeeze and excite", excited)
    yield case("layer and group normalisation", normalised)
    yield case("spectral normalisation", spectral)
    yield case("channels first by Permute", channels_first, *STATED, prepare=planar)
    yield case("decoder, as values", decoder, "--output-kind", "values", outputs=8)
    yield case("three augmentations in front", augmented)
    yield case("noise and dropout of many kinds", noisy)
    yield case("two heads", heads, *STATED, asks="2 outputs")
    yield case("a Lambda layer", lambda: functional(dense(), before=layers.Lambda(lambda x: x / 2)), asks="never run")
    yield case("quantised to int8 by Keras", quantised, asks="--precision int8")
    yield case("float16 throughout", low("float16"), twin=lambda: functional(dense()))
    yield case("softmax on a map of one pixel", on_a_map)
    yield case("a loss of one's own", lambda: compiled(functional(dense()), lambda y, p: ops.mean(p - y)))
    yield case("a Sequential that was built late", late)


def twice() -> Model:
    given, convolution = image(), layers.Conv2D(3, 3, padding="same", activation="relu")
    return on(given, dense()(body(convolution(convolution(given)))))


def transformer() -> Model:
    given = image()
    x = layers.Reshape((16, 12))(layers.Conv2D(12, 4, strides=4)(given))
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 6)(x, x))
    return on(given, dense()(layers.GlobalAveragePooling1D()(layers.Dense(12, activation="gelu")(x))))


def rows() -> Model:
    given = image()
    x = layers.TimeDistributed(layers.Dense(6, activation="tanh"))(layers.Reshape((16, 48))(given))
    return on(given, dense()(layers.Bidirectional(layers.GRU(5))(x)))


def excited() -> Model:
    given = image()
    x = layers.SeparableConv2D(8, 3, activation="silu")(given)
    weights = layers.Dense(8, activation="hard_sigmoid")(layers.GlobalMaxPooling2D(keepdims=True)(x))
    return on(given, dense()(layers.GlobalAveragePooling2D()(layers.Multiply()([x, weights]))))


def normalised() -> Model:
    given = image()
    x = layers.GroupNormalization(4)(layers.Conv2D(8, 3)(given))
    return on(given, dense()(layers.GlobalAveragePooling2D()(layers.PReLU()(layers.LayerNormalization()(x)))))


def spectral() -> Model:
    return functional(dense(), before=layers.SpectralNormalization(layers.Conv2D(3, 3)))


def planar(images: Pixels) -> Floats:
    return unit(images).transpose(0, 3, 1, 2)


def channels_first() -> Model:
    given = keras.Input((3, 16, 16))
    return on(given, dense()(body(layers.Permute((2, 3, 1))(given))))


def decoder() -> Model:
    given = image()
    x = layers.UpSampling2D(2, interpolation="bilinear")(layers.Conv2DTranspose(4, 3, strides=2)(given))
    x = layers.AveragePooling2D(4)(layers.ZeroPadding2D(1)(layers.Cropping2D(2)(x)))
    return on(given, layers.Dense(8)(layers.Flatten()(x)))


def augmented() -> Model:
    def before(x: Any) -> Any:
        return layers.RandomContrast(0.2)(layers.RandomZoom(0.1)(layers.RandomTranslation(0.1, 0.1)(x)))

    return functional(dense(), before=before)


def noisy() -> Model:
    def head(x: Any) -> Any:
        x = layers.GaussianDropout(0.2)(layers.ActivityRegularization(0.1)(layers.AlphaDropout(0.2)(x)))
        return dense()(layers.GaussianNoise(0.3)(x))

    return functional(head)


def heads() -> Model:
    given = image()
    x = body(given)
    return keras.Model(given, [dense()(x), dense(2)(x)])


def quantised() -> Model:
    model = functional(dense())
    shaken(model)
    model.quantize("int8")
    return model


def low(policy: str) -> Callable[[], Model]:
    def build() -> Model:
        keras.config.set_dtype_policy(policy)
        try:
            return functional(dense())
        finally:
            keras.config.set_dtype_policy("float32")

    return build


def on_a_map() -> Model:
    given = image()
    x = layers.AveragePooling2D(16)(layers.Conv2D(3, 3, padding="same")(given))
    return on(given, layers.Softmax()(4 * x))


def late() -> Model:
    model = keras.Sequential([layers.Conv2D(8, 3, activation="relu"), layers.GlobalAveragePooling2D(), dense()])
    model(np.zeros((1, 16, 16, 3), np.float32))
    return model


def labels() -> Iterator[Case]:
    """Heads."""
    losses = keras.losses
    yield case("softmax of two", lambda: functional(dense(2)), outputs=2)
    yield case("two sigmoids", lambda: functional(dense(2, "sigmoid")), outputs=2)
    yield case("softmax of one", lambda: functional(dense(1)), *STATED, outputs=1, asks="over one output")
    yield case("tanh", lambda: functional(dense(3, "tanh")), *STATED, asks="--output-kind")
    yield case("relu", lambda: functional(dense(3, "relu")), *STATED, asks="--output-kind")
    yield case("three softmaxes side by side", side_by_side, *STATED, outputs=6, asks="--output-kind")
    yield case(
        "maximum of sigmoids",
        lambda: functional(lambda x: ops.maximum(*(dense(3, "sigmoid")(x) for _ in "ab"))),
        *STATED,
        asks="--output-kind labels",
    )
    yield case(
        "a sigmoid times a sigmoid",
        lambda: functional(lambda x: dense(3, "sigmoid")(x) * dense(3, "sigmoid")(x)),
        *STATED,
        asks="--output-kind",
    )
    focal = losses.BinaryFocalCrossentropy(from_logits=True)
    yield case("logits with a focal loss", lambda: compiled(functional(dense(3, None)), focal), head=sigmoid)
    yield case(
        "logits with a hinge loss",
        lambda: compiled(functional(dense(3, None)), "categorical_hinge"),
        *STATED,
        asks="--output-kind classes",
    )
    yield case(
        "logits with a loss of probabilities",
        lambda: compiled(functional(dense(3, None)), "categorical_crossentropy"),
        *STATED,
        asks="--output-kind classes",
    )
    named = {"scores": losses.CategoricalCrossentropy(from_logits=True)}
    yield case("logits with a dict of losses", lambda: compiled(named_output(), named), head=softmax)
    yield case("regression of four", lambda: compiled(functional(dense(4, None)), losses.Huber()), outputs=4)
    yield case("one sigmoid, three labels", lambda: functional(dense(1, "sigmoid")), *STATED, asks="labels", outputs=3)
    yield case(
        "1 - sigmoid",
        lambda: functional(lambda x: 1 - dense(1, "sigmoid")(x)),
        *STATED,
        outputs=2,
        asks="--output-kind binary",
    )


def named_output() -> Model:
    return functional(layers.Dense(3, name="scores"))


def side_by_side() -> Model:
    return functional(lambda x: layers.Concatenate()([dense(2)(x) for _ in range(3)]))


def caffe(x: Any) -> Any:
    return ops.flip(x, axis=-1) - np.array([103.939, 116.779, 123.68], np.float32)


def preprocessing() -> Iterator[Case]:
    """What is done to pixels in front of a network."""
    images = np.random.default_rng(3).integers(0, 256, (32, 16, 16, 3)).astype(np.float32)
    deviation = np.array([0.229, 0.224, 0.225])
    mean = np.array([0.485, 0.456, 0.406])
    known: dict[str, Callable[[Any], Any]] = {
        "(x - 128) / 128": lambda x: (x - 128.0) / 128.0,
        "x / 255, then 2x - 1": lambda x: (x / 255.0) * 2.0 - 1.0,
        "x * (1 / 255)": lambda x: x * (1 / 255),
        "Rescaling(1/256)": layers.Rescaling(1 / 256),
        "ImageNet's numbers for 0..255": lambda x: (x - 255 * mean) / (255 * deviation),
        "noise, then Rescaling": lambda x: layers.Rescaling(1 / 255)(layers.GaussianNoise(1.0)(x)),
        "zoom, Rescaling, Normalization": lambda x: adapted(images / 255)(
            layers.Rescaling(1 / 255)(layers.RandomZoom(0.1)(x))
        ),
        "cast to float16 and back": lambda x: ops.cast(ops.cast(x, "float16") / 255.0, "float32"),
    }
    for name, before in known.items():
        yield case(name, lambda before=before: functional(dense(), before=before), prepare=raw)  # type: ignore[misc]
    asked: dict[str, Callable[[Any], Any]] = {
        "Rescaling behind a convolution": lambda x: layers.Rescaling(1 / 255)(layers.Conv2D(3, 3)(x)),
        "caffe by hand": caffe,
        "cropped, padded, then Rescaling": lambda x: layers.Rescaling(1 / 255)(
            layers.ZeroPadding2D(2)(layers.CenterCrop(12, 12)(x))
        ),
        "clipped to 0..1": lambda x: ops.clip(x, 0.0, 1.0),
        "two scales side by side": lambda x: layers.Concatenate()([x / 255.0, x / 127.5 - 1.0]),
        "log of 1 + x": lambda x: ops.log(1.0 + x),
        "standardised per image": lambda x: (
            (x - ops.mean(x, (1, 2, 3), keepdims=True)) / ops.std(x, (1, 2, 3), keepdims=True)
        ),
    }
    for name, before in asked.items():
        yield case(name, lambda before=before: functional(dense(), before=before), asks=SCALE)  # type: ignore[misc]
    unit_numbers = layers.Normalization(mean=mean, variance=deviation**2)
    yield case("ImageNet's numbers for 0..1", lambda: functional(dense(), before=unit_numbers))
    yield case(
        "grey inside", lambda: functional(dense(), before=lambda x: ops.image.rgb_to_grayscale(x / 255.0)), prepare=raw
    )
