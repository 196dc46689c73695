"""Models of Keras 3 from papers and competitions: heads that combine probabilities, and bodies that move numbers."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tests.export.matrix.case import Case, pair
from tests.export.matrix.keras_cases import Model, body, case, compiled, dense, functional, raw

STATED = ("--preprocess", "unit")


def heads() -> Iterator[Case]:
    """The last layers."""
    right: dict[str, Callable[[Any], Any]] = {
        "ordinal by differences of sigmoids": ordinal,
        "CORAL": lambda x: ops.sigmoid(dense(1, None)(x) + constant([1, 0, -1])),
        "labels with a temperature for each": lambda x: ops.sigmoid(dense(3, None)(x) / constant([1.7, 0.9, 2])),
        "vector scaling": lambda x: ops.softmax(dense(3, None)(x) * constant([1.2, 0.8, 1]) + constant([0.1, 0, 0])),
        "clipped logits": lambda x: ops.softmax(ops.clip(dense(3, None)(x), -5, 5)),
        "softmax by logsumexp": by_logsumexp,
        "mixture of experts": experts,
        "mean by a learned share": mixed,
        "product of experts": lambda x: shares(dense()(x) * dense()(x)),
        "prototypes": lambda x: ops.softmax(-distances(x)),
        "radial basis functions": lambda x: shares(ops.exp(-distances(x))),
        "maxout": lambda x: dense()(ops.max(ops.reshape(dense(12, None)(x), (-1, 6, 2)), -1)),
    }
    for name, head in right.items():
        yield case(name, lambda head=head: functional(head))  # type: ignore[misc]
    yield case("outer product of two softmaxes", lambda: functional(outer), outputs=6)
    yield case("1 - p beside p", lambda: functional(both), outputs=2)
    yield case("Platt scaling", lambda: functional(platt), head=pair, outputs=2)
    yield case("cosine loss", lambda: compiled(functional(dense(4, None)), "cosine_similarity"), outputs=4)
    asked: dict[str, Callable[[Any], Any]] = {
        "noisy or": lambda x: 1 - (1 - dense(3, "sigmoid")(x)) * (1 - dense(3, "sigmoid")(x)),
        "rounded sigmoids": lambda x: ops.round(dense(3, "sigmoid")(x)),
        "decisions": lambda x: dense(3, "sigmoid")(x) > 0.5,
        "cumulative softmax": lambda x: ops.cumsum(dense()(x), axis=-1),
        "capsule lengths": lambda x: ops.norm(ops.tanh(ops.reshape(dense(24, None)(x), (-1, 3, 8))) / 3, axis=-1),
    }
    for name, head in asked.items():
        yield case(name, lambda head=head: functional(head), *STATED, asks="--output-kind")  # type: ignore[misc]


def constant(numbers: list[float]) -> Any:
    return np.array([numbers], np.float32)


def shares(x: Any) -> Any:
    return x / ops.sum(x, -1, keepdims=True)


def distances(x: Any) -> Any:
    centres = np.random.default_rng(0).normal(0, 1, (1, 3, 4)).astype(np.float32)
    return ops.sum(ops.square(ops.expand_dims(dense(4, None)(x), 1) - centres), -1)


def ordinal(x: Any) -> Any:
    steps = ops.cumsum(-dense(2, "softplus")(x), axis=-1)
    above = ops.sigmoid(steps + dense(1, None)(x))
    return ops.concatenate([1 - above[:, :1], above[:, :1] - above[:, 1:], above[:, 1:]], axis=-1)


def by_logsumexp(x: Any) -> Any:
    logits = dense(3, None)(x)
    return ops.exp(logits - ops.logsumexp(logits, axis=-1, keepdims=True))


def experts(x: Any) -> Any:
    shares_of = ops.expand_dims(dense(2)(x), -1)
    return ops.sum(ops.stack([dense()(x), dense()(x)], axis=1) * shares_of, axis=1)


def mixed(x: Any) -> Any:
    share = dense(1, "sigmoid")(x)
    return share * dense()(x) + (1 - share) * dense()(x)


def outer(x: Any) -> Any:
    return layers.Reshape((6,))(ops.expand_dims(dense(2)(x), 2) * ops.expand_dims(dense(3)(x), 1))


def both(x: Any) -> Any:
    probability = dense(1, "sigmoid")(x)
    return ops.concatenate([1 - probability, probability], 1)


def platt(x: Any) -> Any:
    return ops.sigmoid(1.3 * dense(1, None)(x) - 0.2)


def bodies() -> Iterator[Case]:
    """What is between the pixels, which are scaled within, and the head."""
    made: dict[str, Callable[[Any], Any]] = {
        "halves through one network": halves,
        "MLP mixer": mixer,
        "shifted windows": windows,
        "sequence pooling": pooled,
        "bilinear pooling": bilinear,
        "attention to channels and places": attentive,
        "shuffled groups of channels": shuffled,
        "three dimensions": lambda x: layers.GlobalAveragePooling3D()(
            layers.Conv3D(4, 2)(layers.Reshape((4, 4, 16, 3))(x))
        ),
        "one dimension": lambda x: layers.GlobalMaxPooling1D()(
            layers.SeparableConv1D(6, 5)(layers.Reshape((256, 3))(x))
        ),
        "additive and dot attention": attending,
        "grouped query attention": lambda x: layers.Flatten()(layers.GroupQueryAttention(4, 4, 2)(*[patches(x)] * 2)),
        "cells of several kinds": lambda x: layers.RNN(
            layers.StackedRNNCells([layers.LSTMCell(5), layers.GRUCell(4, reset_after=False)])
        )(patches(x)),
        "convolutions in time": lambda x: layers.GlobalAveragePooling2D()(
            layers.ConvLSTM2D(4, 3, padding="same")(layers.Reshape((4, 4, 16, 3))(x))
        ),
        "HSV by hand": lambda x: body(ops.concatenate([ops.max(x, -1, keepdims=True), ops.roll(x, 2, axis=1)], -1)),
    }
    for name, network in made.items():
        yield case(name, lambda network=network: scaled(network), prepare=raw)  # type: ignore[misc]


def scaled(network: Callable[[Any], Any]) -> Model:
    given = keras.Input((16, 16, 3))
    return keras.Model(given, dense()(network(layers.Rescaling(1 / 255)(given))))


def patches(x: Any) -> Any:
    return layers.Reshape((16, 12))(layers.Conv2D(12, 4, strides=4)(x))


def halves(x: Any) -> Any:
    network = keras.Sequential([layers.Conv2D(6, 3, activation="relu"), layers.GlobalAveragePooling2D()])
    left, right = (network(layers.Cropping2D((0, side))(x)) for side in ((0, 8), (8, 0)))
    return layers.Concatenate()([left, right, layers.Subtract()([left, right])])


def mixer(x: Any) -> Any:
    x = patches(x)
    turned = layers.Permute((2, 1))(layers.LayerNormalization()(x))
    x = x + layers.Permute((2, 1))(layers.Dense(16)(layers.Dense(20, activation="gelu")(turned)))
    return layers.GlobalAveragePooling1D()(x + layers.Dense(12)(layers.Dense(20, activation="gelu")(x)))


def windows(x: Any) -> Any:
    x = ops.roll(layers.Conv2D(8, 2, strides=2)(x), (-2, -2), axis=(1, 2))
    x = ops.transpose(ops.reshape(x, (-1, 2, 4, 2, 4, 8)), (0, 1, 3, 2, 4, 5))
    x = ops.reshape(x, (-1, 16, 8))
    x = layers.MultiHeadAttention(2, 4)(x, x)
    return layers.GlobalAveragePooling1D()(ops.reshape(x, (-1, 64, 8)))


def pooled(x: Any) -> Any:
    x = patches(x)
    weights = ops.transpose(ops.softmax(layers.Dense(1)(x), axis=1), (0, 2, 1))
    return ops.squeeze(ops.matmul(weights, x), -2)


def bilinear(x: Any) -> Any:
    features = layers.Reshape((196, 6))(layers.Conv2D(6, 3)(x))
    products = layers.Flatten()(ops.einsum("npi,npj->nij", features, features) / 196)
    return layers.UnitNormalization()(ops.sign(products) * ops.sqrt(ops.abs(products) + 1e-6))


def attentive(x: Any) -> Any:
    x, shared = layers.Conv2D(8, 3, activation="relu")(x), layers.Dense(8)
    means, largest = (shared(reduce(x, (1, 2), keepdims=True)) for reduce in (ops.mean, ops.max))
    x = x * ops.sigmoid(means + largest)
    maps = ops.concatenate([ops.mean(x, -1, keepdims=True), ops.max(x, -1, keepdims=True)], -1)
    return layers.GlobalMaxPooling2D()(x * layers.Conv2D(1, 7, padding="same", activation="sigmoid")(maps))


def shuffled(x: Any) -> Any:
    x = layers.Conv2D(8, 3, groups=4)(layers.Conv2D(8, 3)(x))
    x = ops.transpose(ops.reshape(x, (-1, 12, 12, 2, 4)), (0, 1, 2, 4, 3))
    return layers.GlobalAveragePooling2D()(ops.reshape(x, (-1, 12, 12, 8)))


def attending(x: Any) -> Any:
    x = layers.Reshape((64, 12))(x)
    queries = layers.Dense(6)(x)
    x = layers.AdditiveAttention()([queries, layers.Dense(6)(x)])
    return layers.GlobalMaxPooling1D()(layers.Attention(use_scale=True)([x, queries]))
