"""Decides how a model's last numbers become probabilities.

Two witnesses are heard: the numbers that the model gave for the parity images, and the activation
it ends in. The numbers decide where they can:

1. rows that are nowhere negative and sum to 1 are probabilities, whatever made them;
2. else the model ends in logits, and softmax is added, if its last activation is linear, is
   log_softmax (whose softmax is the probabilities), or can't be known (a layer of one's own);
3. one single number is the second of two classes: a probability after a sigmoid, else a logit;
4. anything else (sigmoid or ReLU for several outputs) is no choice of one among N.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from export.errors import NotAClassifier

#: How the model's last numbers become probabilities.
#: as-is: they are; softmax: they are logits of N classes; sigmoid: one logit, of the second of two
#: classes; complement: one probability, of the second of two classes.
Head = Literal["as-is", "softmax", "sigmoid", "complement"]

#: How far a row's sum may be from 1. A float16 softmax over 1000 classes is off by up to 5e-4.
SUM_TOLERANCE = 1e-3

_ENDS_IN_LOGITS = ("linear", "log_softmax", None)


def decide(scores: npt.NDArray[np.float32], activation: str | None) -> Head:
    """`scores` [images,outputs] are the model's own answers; raises NotAClassifier."""
    check(scores)
    if scores.shape[1] == 1:
        return _of_one(activation)
    if scores.min() >= 0 and np.abs(scores.sum(axis=1) - 1).max() <= SUM_TOLERANCE:
        return "as-is"
    if activation in _ENDS_IN_LOGITS:
        return "softmax"
    raise NotAClassifier(
        f"the model is no classifier that chooses one of {scores.shape[1]} classes: it ends in"
        f" {activation}, and its outputs don't sum to 1"
    )


def check(scores: npt.NDArray[np.float32]) -> None:
    """Raises NotAClassifier unless the scores are one row of finite numbers for each image."""
    if scores.ndim != 2:
        shape = ",".join(map(str, scores.shape[1:]))
        raise NotAClassifier(
            f"the model is no classifier: it answers one image with an array of shape [{shape}], not with"
            " one row of scores (is its top missing?)"
        )
    if not np.isfinite(scores).all():
        raise NotAClassifier(
            "the model answers with numbers that are not finite: is the file damaged,"
            " or --preprocess not what it was trained with?"
        )


def _of_one(activation: str | None) -> Head:
    match activation:
        case "sigmoid":
            return "complement"
        case "linear":
            return "sigmoid"
        case _:
            raise NotAClassifier(
                f"the model has a single output after {activation or 'a layer of its own'};"
                " for two classes that must be sigmoid or linear"
            )


def applied(head: Head, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The probabilities of scores [images,outputs], computed in NumPy."""
    match head:
        case "as-is":
            return scores
        case "softmax":
            exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
            return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), np.float32)
        case "sigmoid":
            return np.asarray(np.hstack([1 / (1 + np.exp(scores)), 1 / (1 + np.exp(-scores))]), np.float32)
        case "complement":
            return np.hstack([1 - scores, scores])
