"""Models of Keras 3 as notebooks write them: transfer learning, endings, structures, and files edited afterwards."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tests.export.matrix.case import Case, pair, sigmoid, softmax
from tests.export.matrix.keras_cases import Model, body, case, compiled, dense, functional, raw, tf_mode

STATED = ("--preprocess", "unit")

#: What the export says of pixels whose scale is not known.
SCALE = "does not tell how the pixels were scaled"


def image(channels: int = 3) -> Any:
    return keras.Input((16, 16, channels))


def endings() -> Iterator[Case]:
    """What comes last."""
    yield case("logits / T, then ops.softmax", lambda: functional(lambda x: ops.softmax(dense(3, None)(x) / 3.0)))
    yield case("softmax of both axes", both_axes)
    yield case("weighted mean of two softmaxes", lambda: functional(weighted))
    yield case(
        "weights that sum to 0.9", lambda: functional(partial(weighted, second=0.2)), *STATED, asks="--output-kind"
    )
    yield case("softmax, clipped", lambda: functional(lambda x: ops.clip(dense()(x), 1e-7, 1.0)))
    yield case("label smoothing inside", lambda: functional(lambda x: dense()(x) * 0.9 + 0.1 / 3))
    yield case("1 - sigmoids", lambda: functional(lambda x: 1 - dense(3, "sigmoid")(x)), *STATED, asks="--output-kind")
    yield case(
        "(tanh + 1) / 2", lambda: functional(lambda x: (dense(3, "tanh")(x) + 1) / 2), *STATED, asks="--output-kind"
    )
    yield case("softplus, as evidence", lambda: functional(evidence))
    yield case(
        "hinge of one tanh",
        lambda: compiled(functional(dense(1, "tanh")), "hinge"),
        *STATED,
        outputs=2,
        asks="--output-kind",
    )
    yield case("embedding of unit length", lambda: functional(unit_length), "--output-kind", "values", outputs=4)
    yield case("scaled cosines", lambda: functional(cosines), "--output-kind", "classes", head=softmax)
    yield case(
        "a softmax and a sigmoid side by side",
        lambda: functional(side_by_side),
        *STATED,
        outputs=4,
        asks="--output-kind",
    )
    yield case(
        "softmax of two, one taken", lambda: functional(lambda x: dense(2)(x)[:, 1:]), *STATED, outputs=2, asks="binary"
    )
    yield case("classes in reverse order", lambda: functional(lambda x: ops.flip(dense()(x), axis=-1)))
    yield case("classes by take", lambda: functional(lambda x: ops.take(dense()(x), [2, 0, 1], axis=1)))
    yield case("dropout that stays on", lambda: functional(lambda x: dense()(layers.Dropout(0.5)(x, training=True))))
    yield case("mean over flips of the image", flips)
    yield case(
        "regression by a sigmoid", lambda: compiled(functional(dense(1, "sigmoid")), "mse"), head=pair, outputs=2
    )
    for loss, built in {"BinaryFocalCrossentropy": 3, "BinaryCrossentropy": 1}.items():
        made = getattr(keras.losses, loss)(from_logits=True, label_smoothing=0.1)
        head = (lambda x: pair(sigmoid(x))) if built == 1 else sigmoid
        build = partial(compiled_dense, built, made)
        yield case(f"{loss} with smoothing", build, head=head, outputs=max(built, 2))
    yield case("own metric and schedule", trained)


def compiled_dense(count: int, loss: Any) -> Model:
    return compiled(functional(dense(count, None)), loss)


def weighted(x: Any, second: float = 0.3) -> Any:
    return 0.7 * dense()(x) + second * dense()(x)


def both_axes() -> Model:
    given = image()
    x = layers.Conv2D(3, 16)(given)
    return keras.Model(given, layers.Flatten()(layers.Softmax(axis=[1, 2, 3])(x)))


def evidence(x: Any) -> Any:
    alpha = dense(3, "softplus")(x) + 1.0
    return alpha / ops.sum(alpha, axis=-1, keepdims=True)


def unit_length(x: Any) -> Any:
    return layers.UnitNormalization()(dense(4, None)(x))


def cosines(x: Any) -> Any:
    return 8.0 * layers.Dense(3, use_bias=False, kernel_constraint="unit_norm")(layers.UnitNormalization()(x))


def side_by_side(x: Any) -> Any:
    return layers.Concatenate()([dense()(x), dense(1, "sigmoid")(x)])


def flips() -> Model:
    given = image()
    inner = functional(dense())
    return keras.Model(given, layers.Average()([inner(given), inner(ops.flip(given, axis=2))]))


@keras.saving.register_keras_serializable("own")
class Often(keras.metrics.Metric):  # type: ignore[misc]  # Keras has no types
    def update_state(self, *_: Any, **__: Any) -> None:
        pass

    def result(self) -> Any:
        return ops.convert_to_tensor(0.0)


def trained() -> Model:
    model = functional(dense())
    schedule = keras.optimizers.schedules.CosineDecay(1e-3, 10)
    model.compile(keras.optimizers.AdamW(schedule), "sparse_categorical_crossentropy", metrics=["accuracy", Often()])
    model.fit(np.random.default_rng(1).random((8, 16, 16, 3)), np.arange(8) % 3, verbose=0)
    return model


def preprocessing() -> Iterator[Case]:
    """What is done first."""
    own = keras.applications
    for name, prepare in {"resnet50": raw, "mobilenet_v2": raw, "densenet": raw, "vgg16": raw}.items():
        yield case(
            f"{name}.preprocess_input in a nested model",
            partial(nested, getattr(own, name).preprocess_input),
            prepare=prepare,
        )
    yield case("preprocess_input in a nested Sequential", sequential_first, prepare=raw)
    yield case("Rescaling behind a nested backbone", behind, asks=SCALE)
    yield case("Rescaling twice", lambda: functional(dense(), before=lambda x: rescaling()(rescaling()(x))), asks=SCALE)
    yield case("Rescaling in one of two branches", two_branches, asks=SCALE)
    yield case("Rescaling in both branches", lambda: two_branches(both=True), prepare=raw)
    yield case("the image resized in two ways", multi_scale, prepare=raw)
    yield case(
        "Rescaling, then BatchNormalization",
        lambda: functional(dense(), before=lambda x: layers.BatchNormalization()(rescaling()(x))),
        prepare=raw,
    )
    yield case("zero-centred by one mean", lambda: functional(dense(), before=lambda x: x - 127.5), prepare=raw)
    yield case("x - 0.5", lambda: functional(dense(), before=lambda x: x - 0.5), asks=SCALE)
    yield case("2 (x - 0.5)", lambda: functional(dense(), before=lambda x: 2.0 * (x - 0.5)))
    yield case("Normalization of grey, 0..255", grey_normalised, prepare=raw, size=(16, 16, 1))
    yield case("grey made RGB, then Rescaling", grey_tripled, prepare=raw, size=(16, 16, 1))
    yield case("RGBA, alpha cut off, then Rescaling", alpha_cut, asks=SCALE, size=(16, 16, 4))
    yield case(
        "a model of Rescaling, called by another",
        lambda: functional(dense(), before=keras.Sequential([image(), rescaling()])),
        prepare=raw,
    )
    yield case("Resizing and Rescaling of any size", any_size, "--size", "20", size=(20, 20, 3), prepare=raw)
    yield case("uint8 input, cast by a layer", uint8_cast, prepare=lambda x: x)
    yield case(
        "stated against what is known",
        lambda: functional(dense(), before=rescaling()),
        "--preprocess",
        "tf",
        prepare=tf_mode,
    )


def rescaling() -> Any:
    return layers.Rescaling(1 / 255)


def nested(prepare: Callable[[Any], Any]) -> Model:
    given, inner = image(), image()
    backbone = keras.Model(inner, body(prepare(inner)), name="preprocessed")
    return keras.Model(given, dense()(backbone(given)))


def sequential_first() -> Model:
    given = image()
    first = keras.Model(given, keras.applications.mobilenet_v2.preprocess_input(given))
    return keras.Sequential(
        [image(), keras.Sequential([image(), first]), layers.Conv2D(4, 3), layers.Flatten(), dense()]
    )


def behind() -> Model:
    given = image()
    inner = keras.Model(image_ := image(), layers.Conv2D(3, 3)(image_))
    return keras.Model(given, dense()(body(rescaling()(inner(given)))))


def two_branches(*, both: bool = False) -> Model:
    given = image()
    first = body(rescaling()(given))
    second = body(rescaling()(given) if both else given)
    return keras.Model(given, dense()(layers.Concatenate()([first, second])))


def multi_scale() -> Model:
    given = image()
    x = rescaling()(given)
    return keras.Model(given, dense()(layers.Concatenate()([body(x), body(layers.Resizing(8, 8)(x))])))


def grey_normalised() -> Model:
    layer = layers.Normalization(axis=None, mean=33.3, variance=78.6**2)
    return functional(dense(), before=layer, shape=(16, 16, 1))


def grey_tripled() -> Model:
    return functional(dense(), before=lambda x: rescaling()(layers.Concatenate()([x, x, x])), shape=(16, 16, 1))


def alpha_cut() -> Model:
    return functional(dense(), before=lambda x: rescaling()(x[..., :3]), shape=(16, 16, 4))


def any_size() -> Model:
    return functional(dense(), before=lambda x: rescaling()(layers.Resizing(12, 12)(x)), shape=(None, None, 3))


def uint8_cast() -> Model:
    given = keras.Input((16, 16, 3), dtype="uint8")
    return keras.Model(given, dense()(body(rescaling()(given))))


def structures() -> Iterator[Case]:
    """Inputs, nesting and precisions."""
    yield case("dict of one input", dict_input)
    yield case("dict of two outputs", dict_outputs, *STATED, asks="2 outputs")
    yield case("image and metadata", with_metadata, *STATED, asks="2 inputs")
    yield case("mixed_float16 with float32 head", partial(mixed, "mixed_float16"), twin=partial(mixed, "float32"))
    yield case("mixed_bfloat16 with float32 head", partial(mixed, "mixed_bfloat16"), twin=partial(mixed, "float32"))
    yield case("float64 throughout", partial(of_policy, "float64"))
    yield case("a batch of fixed size", lambda: functional_batch(4))
    yield case(
        "frozen BatchNormalization in training mode",
        lambda: functional(dense(), before=lambda x: layers.BatchNormalization()(x, training=True)),
    )
    yield case("layers of ConvNeXt and InceptionResNetV2", application_layers, *STATED)
    yield case("transfer of MobileNetV3Large", transfer, prepare=raw, size=(75, 75, 3))


def dict_input() -> Model:
    given = {"pixels": keras.Input((16, 16, 3), name="pixels")}
    return keras.Model(given, dense()(body(given["pixels"])))


def dict_outputs() -> Model:
    given = image()
    x = body(given)
    return keras.Model(given, {"kind": dense()(x), "colour": dense(2)(x)})


def with_metadata() -> Model:
    given, numbers = image(), keras.Input((4,))
    return keras.Model([given, numbers], dense()(layers.Concatenate()([body(given), numbers])))


def mixed(policy: str) -> Model:
    return of_policy(policy, layers.Dense(3, activation="softmax", dtype="float32"))


def of_policy(policy: str, head: Any = None) -> Model:
    keras.config.set_dtype_policy(policy)
    try:
        return functional(head or dense())
    finally:
        keras.config.set_dtype_policy("float32")


def functional_batch(size: int) -> Model:
    given = keras.Input(batch_shape=(size, 16, 16, 3))
    return keras.Model(given, dense()(body(given)))


def application_layers() -> Model:
    """Keras stores these by the module that they are in, and Keras 2 by their name alone."""
    from keras.src.applications import convnext, inception_resnet_v2

    given = image()
    x = layers.Conv2D(4, 3, padding="same")(given)
    x = x + convnext.StochasticDepth(0.1)(convnext.LayerScale(0.5, 4)(x))
    x = inception_resnet_v2.CustomScaleLayer(0.2)([x, layers.Conv2D(4, 1)(x)])
    return keras.Model(given, dense()(body(x)))


def transfer() -> Model:
    base = keras.applications.MobileNetV3Large(include_top=False, weights=None, input_shape=(75, 75, 3))
    base.trainable = False
    given = keras.Input((75, 75, 3))
    x = layers.GlobalAveragePooling2D()(base(layers.RandomFlip()(given), training=False))
    return keras.Model(given, dense()(layers.Dropout(0.2)(x)))
