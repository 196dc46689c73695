"""Models of Keras 3: endings, nesting, structures, precisions, heads of many kinds, and places for preprocessing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tests.export.matrix.case import Case, Floats, Made, Pixels, pair, sigmoid, softmax

Model = Any


def unit(images: Pixels) -> Floats:
    return images.astype(np.float32) / 255


def raw(images: Pixels) -> Floats:
    return images.astype(np.float32)


def tf_mode(images: Pixels) -> Floats:
    return images.astype(np.float32) / 127.5 - 1


def case(
    name: str,
    build: Callable[[], Model],
    *options: str,
    prepare: Callable[[Pixels], Floats] = unit,
    head: Callable[[Floats], Floats] = lambda x: x,
    suffix: str = ".keras",
    twin: Callable[[], Model] | None = None,
    **more: Any,
) -> Case:
    """A model whose owner prepares images with `prepare`, and whose answers become the artefact's by `head`.

    `twin` is the same model in float32, for one that computes in fewer bits.
    """

    def make(folder: Path) -> Made:
        model = build()
        shaken(model)
        path = folder / f"model{suffix}"
        model.save(path)
        if twin is not None:
            exact = twin()
            exact.set_weights(model.get_weights())
            model = exact

        def predict(images: Pixels) -> Floats:
            answer = model.predict(prepare(images), verbose=0)
            while isinstance(answer, dict | list):
                (answer,) = answer.values() if isinstance(answer, dict) else answer
            return head(np.asarray(answer).reshape(len(images), -1))

        stated = ("--preprocess", "unit") if prepare is unit and "--preprocess" not in options else ()
        return Made(path, predict, (*stated, *options) if more.get("asks") is None else options)

    return Case(name, make, **more)


def shaken(model: Model) -> None:
    """Weights that make the answers differ from image to image, and statistics that matter."""
    random = np.random.default_rng(7)
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, layers.BatchNormalization) and layer.get_weights():
            gamma, beta, mean, variance = layer.get_weights()
            shape = gamma.shape
            layer.set_weights(
                [gamma * random.uniform(0.7, 1.3, shape), beta + random.normal(0, 0.1, shape),
                 mean + random.normal(0, 0.05, shape), variance * random.uniform(0.5, 1.5, shape)]
            )  # fmt: skip
        elif isinstance(layer, layers.Dense):
            layer.set_weights([4 * weight for weight in layer.get_weights()])


def body(x: Any) -> Any:
    x = layers.Conv2D(8, 3, activation="relu")(x)
    x = layers.BatchNormalization()(x)
    return layers.GlobalAveragePooling2D()(x)


def functional(
    head: Callable[[Any], Any], *, before: Callable[[Any], Any] = lambda x: x, shape: Any = (16, 16, 3)
) -> Model:
    given = keras.Input(shape)
    return keras.Model(given, head(body(before(given))))


def dense(count: int = 3, activation: str | None = "softmax") -> Any:
    return layers.Dense(count, activation=activation)


def compiled(model: Model, loss: Any) -> Model:
    model.compile("sgd", loss)
    return model


def backbone(name: str = "mobilenet") -> Model:
    given = keras.Input((16, 16, 3))
    return keras.Model(given, body(given), name=name)


def with_policy(policy: str, build: Callable[[], Model]) -> Callable[[], Model]:
    def building() -> Model:
        keras.config.set_dtype_policy(policy)
        try:
            return build()
        finally:
            keras.config.set_dtype_policy("float32")

    return building


def plain() -> Model:
    return functional(dense())


def endings() -> Iterator[Case]:
    logits = dense(3, None)
    yield case("ops.softmax", lambda: functional(lambda x: ops.softmax(dense(3, None)(x))))
    yield case("keras.activations.softmax", lambda: functional(lambda x: keras.activations.softmax(dense(3, None)(x))))
    yield case("softmax of logits / T", lambda: functional(lambda x: ops.softmax(dense(3, None)(x) / 2.0)))
    yield case("Softmax layer", lambda: functional(lambda x: layers.Softmax()(dense(3, None)(x))))
    yield case("Activation layer", lambda: functional(lambda x: layers.Activation("softmax")(dense(3, None)(x))))
    yield case("log_softmax", lambda: functional(dense(3, "log_softmax")), head=np.exp)
    yield case("logits / T", lambda: functional(lambda x: dense(3, None)(x) / 2.0), asks="--output-kind classes")
    yield case(
        "logits / T, stated",
        lambda: functional(lambda x: dense(3, None)(x) / 2.0),
        "--output-kind",
        "classes",
        head=softmax,
    )
    loss = keras.losses.SparseCategoricalCrossentropy
    yield case("logits with their loss", lambda: compiled(functional(logits), loss(from_logits=True)), head=softmax)
    yield case("logits as values", lambda: functional(dense(3, None)), "--output-kind", "values")
    yield case("regression by its loss", lambda: compiled(functional(dense(1, None)), "mse"), outputs=1)
    yield case("dict of one output", lambda: functional(lambda x: {"p": dense()(x)}))
    yield case("list of one output", lambda: functional(lambda x: [dense()(x)]))
    yield case(
        "nested twice", lambda: keras.Sequential([keras.Input((16, 16, 3)), keras.Sequential([backbone(), dense()])])
    )
    yield case("nested backbone with a name", lambda: keras.Sequential([backbone(), dense()]))
    yield case("dropout behind softmax", lambda: functional(lambda x: layers.Dropout(0.5)(dense()(x))))
    yield case("mean of two softmaxes", lambda: functional(lambda x: layers.Average()([dense()(x), dense()(x)])))
    yield case("mixed_float16", with_policy("mixed_float16", plain), twin=plain)
    yield case("mixed_bfloat16", with_policy("mixed_bfloat16", plain), twin=plain)
    yield case("an .h5 of Keras 3", lambda: functional(dense()), suffix=".h5")
    yield case("greyscale", lambda: functional(dense(), shape=(16, 16, 1)), size=(16, 16, 1))
    yield case("RGBA", lambda: functional(dense(), shape=(16, 16, 4)), size=(16, 16, 4))
    yield case("not square", lambda: functional(dense(), shape=(16, 24, 3)), size=(16, 24, 3))
    yield case("open size", lambda: functional(dense(), shape=(None, None, 3)), "--size", "20x12", size=(20, 12, 3))
    yield case("open size, not said", lambda: functional(dense(), shape=(None, None, 3)), asks="--size")
    yield case("two inputs", two_inputs, asks="2 inputs")
    yield case(
        "no top",
        lambda: keras.Sequential([keras.Input((16, 16, 3)), layers.Conv2D(3, 3)]),
        "--preprocess",
        "unit",
        asks="is its top missing?",
    )


def two_inputs() -> Model:
    one, two = keras.Input((16, 16, 3)), keras.Input((16, 16, 3))
    return keras.Model([one, two], dense()(body(layers.Add()([one, two]))))


def labels() -> Iterator[Case]:
    several = dense(3, "sigmoid")
    yield case("sigmoids", lambda: functional(several))
    yield case("sigmoids, Reshape", lambda: functional(lambda x: layers.Reshape((3,))(dense(3, "sigmoid")(x))))
    yield case("sigmoids, Dropout", lambda: functional(lambda x: layers.Dropout(0.1)(dense(3, "sigmoid")(x))))
    yield case(
        "sigmoids, Concatenate",
        lambda: functional(lambda x: layers.Concatenate()([dense(1, "sigmoid")(x) for _ in range(3)])),
    )
    yield case(
        "sigmoids, Average",
        lambda: functional(lambda x: layers.Average()([dense(3, "sigmoid")(x) for _ in range(3)])),
    )
    yield case(
        "sigmoids, Rescaling",
        lambda: functional(lambda x: layers.Rescaling(100.0)(dense(3, "sigmoid")(x))),
        "--preprocess",
        "unit",
        asks="--output-kind",
    )
    yield case(
        "UnitNormalization",
        lambda: functional(lambda x: layers.UnitNormalization()(dense(3, "sigmoid")(x))),
        "--preprocess",
        "unit",
        asks="--output-kind",
    )
    yield case(
        "hard_sigmoid",
        lambda: functional(dense(3, "hard_sigmoid")),
        "--preprocess",
        "unit",
        asks="--output-kind labels",
    )
    yield case("ops.sigmoid", lambda: functional(lambda x: ops.sigmoid(dense(3, None)(x))))
    yield case("one sigmoid", lambda: functional(dense(1, "sigmoid")), head=pair, outputs=2)
    yield case(
        "one sigmoid, Flatten",
        lambda: functional(lambda x: layers.Flatten()(dense(1, "sigmoid")(x))),
        head=pair,
        outputs=2,
    )
    yield case("one sigmoid, one label", lambda: functional(dense(1, "sigmoid")), head=pair, outputs=1)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    yield case(
        "one logit with its loss",
        lambda: compiled(functional(dense(1, None)), loss),
        head=lambda x: pair(sigmoid(x)),
        outputs=2,
    )
    yield case("logits with a binary loss", lambda: compiled(functional(dense(3, None)), loss), head=sigmoid)
    yield case(
        "one logit, stated",
        lambda: functional(dense(1, None)),
        "--output-kind",
        "binary",
        head=lambda x: pair(sigmoid(x)),
        outputs=2,
    )
    yield case(
        "one number, not said",
        lambda: functional(dense(1, None)),
        "--preprocess",
        "unit",
        asks="--output-kind binary",
        outputs=2,
    )
