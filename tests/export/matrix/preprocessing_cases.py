"""Models of Keras 3 that prepare their pixels in many places, or look as if they did."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tests.export.matrix.case import Case, Floats
from tests.export.matrix.keras_cases import Model, backbone, body, case, dense, functional, raw, tf_mode, unit


def adapted(data: Floats) -> Any:
    layer = layers.Normalization()
    layer.adapt(data)
    return layer


def normaliser(mean: float, variance: float) -> Any:
    layer = layers.BatchNormalization()
    layer.build((None, 16, 16, 3))
    layer.set_weights([np.ones(3), np.zeros(3), np.full(3, mean), np.full(3, variance)])
    return layer


def preprocessed(prepare: Callable[[Any], Any]) -> Model:
    return functional(dense(), before=prepare)


def preprocessing() -> Iterator[Case]:
    images = np.random.default_rng(3).integers(0, 256, (32, 16, 16, 3)).astype(np.float32)
    applications = keras.applications
    none = "does not tell how the pixels were scaled"
    yield case("Rescaling(1/255)", lambda: functional(dense(), before=layers.Rescaling(1 / 255)), prepare=raw)
    yield case(
        "Rescaling(1/127.5, -1)",
        lambda: functional(dense(), before=layers.Rescaling(1 / 127.5, offset=-1)),
        prepare=raw,
    )
    yield case("x / 255 as operation", lambda: functional(dense(), before=lambda x: x / 255.0), prepare=raw)
    for name in ("resnet50", "mobilenet_v2", "densenet"):
        build = partial(preprocessed, getattr(applications, name).preprocess_input)
        yield case(f"{name}.preprocess_input", build, prepare=raw)
    yield case("Rescaling(255), on 0..1", lambda: functional(dense(), before=layers.Rescaling(255.0)), prepare=unit)
    yield case(
        "Rescaling(127.5, 127.5), on -1..1",
        lambda: functional(dense(), before=layers.Rescaling(127.5, offset=127.5)),
        "--preprocess",
        "tf",
        prepare=tf_mode,
    )
    yield case("Normalization adapted on 0..255", lambda: functional(dense(), before=adapted(images)), prepare=raw)
    yield case("Normalization adapted on 0..1", lambda: functional(dense(), before=adapted(images / 255)), asks=none)
    yield case(
        "Rescaling in a residual branch",
        lambda: functional(dense(), before=lambda x: layers.Add()([x, layers.Rescaling(1 / 255)(x)])),
        asks=none,
    )
    yield case(
        "Rescaling on the logits",
        lambda: functional(lambda x: layers.Softmax()(layers.Rescaling(0.5)(dense(3, None)(x)))),
        asks=none,
    )
    yield case(
        "BatchNormalization as normaliser, 0..255",
        lambda: functional(dense(), before=normaliser(120.0, 4000.0)),
        prepare=raw,
    )
    yield case(
        "BatchNormalization as normaliser, 0..1", lambda: functional(dense(), before=normaliser(0.47, 0.06)), asks=none
    )
    yield case(
        "a network named resnet50",
        lambda: keras.Sequential([backbone("resnet50"), dense()], name="resnet50"),
        asks=none,
    )
    yield case(
        "augmentation, then Rescaling",
        lambda: keras.Sequential(
            [
                keras.Input((16, 16, 3)),
                layers.RandomFlip(),
                layers.RandomRotation(0.1),
                layers.Rescaling(1 / 255),
                backbone(),
                dense(),
            ]
        ),
        prepare=raw,
    )
    yield case(
        "Resizing, then Rescaling",
        lambda: keras.Sequential(
            [keras.Input((16, 16, 3)), layers.Resizing(24, 24), layers.Rescaling(1 / 255), layers.Flatten(), dense()]
        ),
        prepare=raw,
    )
    yield case("uint8 input", uint8_input, prepare=lambda x: x)
    yield case(
        "uint8 input with a scale stated",
        uint8_input,
        "--preprocess",
        "unit",
        prepare=lambda x: x,
        asks="leave out --preprocess unit",
    )


def uint8_input() -> Model:
    given = keras.Input((16, 16, 3), dtype="uint8")
    return keras.Model(given, dense()(body(ops.cast(given, "float32") / 255.0)))
