"""Keras models small enough to be exported in a second, and files that hold them."""

import json
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

#: For the tests that run Keras: it converts its own tensors to NumPy in a way that NumPy 2 deprecates.
quiet_keras = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

LABELS = ("red", "green", "blue")
SIZE = 16

#: Files that TensorFlow 2.12 and 2.15 wrote.
KERAS_2 = Path(__file__).parent / "keras2"


def layers(*, classes: int = 3, activation: str | None = "softmax") -> list[keras.layers.Layer]:
    """A convolution, its normalisation, a pooling and a dense layer, with weights of the same seed each time."""
    return [
        keras.layers.Conv2D(8, 3, activation="relu", kernel_initializer=keras.initializers.HeNormal(seed=1)),
        keras.layers.DepthwiseConv2D(3, depthwise_initializer=keras.initializers.HeNormal(seed=2)),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(classes, activation=activation, kernel_initializer=keras.initializers.HeNormal(seed=3)),
    ]


def model(
    *,
    classes: int = 3,
    activation: str | None = "softmax",
    before: tuple[keras.layers.Layer, ...] = (),
    size: int | None = SIZE,
    name: str = "tiny",
) -> keras.Model:
    """Normalised [N,16,16,3] to [N,classes]; `before` stands between the input and the convolution."""
    body = [*before, *layers(classes=classes, activation=activation)]
    return keras.Sequential([keras.Input((size, size, 3)), *body], name=name)


def save(kept: keras.Model, path: Path) -> Path:
    kept.save(path)
    return path


def labels_file(folder: Path, names: tuple[str, ...] = LABELS) -> Path:
    path = folder / "labels.txt"
    path.write_text("\n".join(names) + "\n")
    return path


def keras_2_file(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """An .h5 in the words of Keras 2.2: batch_input_shape, groups, no modules; returns its two kernels.

    A depthwise convolution and a dense softmax upon the flattened 4 x 4 x 3 pixels.
    """
    random = np.random.default_rng(4)
    depthwise = random.normal(size=(1, 1, 3, 1)).astype(np.float32)
    dense = random.normal(size=(48, 3)).astype(np.float32)
    config = [
        _keras_2_layer(
            "DepthwiseConv2D",
            name="depthwise",
            batch_input_shape=[None, 4, 4, 3],
            kernel_size=[1, 1],
            groups=1,
            use_bias=False,
        ),
        _keras_2_layer("Flatten", name="flatten"),
        _keras_2_layer("Dense", name="dense", units=3, activation="softmax", use_bias=False),
    ]
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.2.4"
        file.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = json.dumps(
            {"class_name": "Sequential", "config": {"name": "old", "layers": config}}
        )
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = [b"depthwise", b"flatten", b"dense"]
        _keras_2_weights(weights, "depthwise", "depthwise_kernel:0", depthwise)
        _keras_2_weights(weights, "flatten")
        _keras_2_weights(weights, "dense", "kernel:0", dense)
    return depthwise, dense


def _keras_2_layer(kind: str, **config: object) -> dict[str, object]:
    return {"class_name": kind, "config": {"trainable": True, "dtype": "float32", **config}}


def _keras_2_weights(group: h5py.Group, layer: str, name: str = "", value: np.ndarray | None = None) -> None:
    folder = group.create_group(layer)
    folder.attrs["weight_names"] = [] if value is None else [f"{layer}/{name}".encode()]
    if value is not None:
        folder[f"{layer}/{name}"] = value
