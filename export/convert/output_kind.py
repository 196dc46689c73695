"""What a network's outputs are: one of N classes, one of two, independent labels, or plain values.

Three sources decide, in this order:

1. the path to the output, walked backwards through operators that keep the order and the range of the numbers;
2. the loss that the file says the model was trained with;
3. the user (--output-kind).

A softmax or sigmoid is added only to numbers that are logits along the path, and only if the loss or the user says so.
The numbers for the sample images have the last word: probabilities that do not sum to 1 are no classes.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from export.artefact.description import Assumption, OutputKind
from export.convert.output_path import Ending
from export.errors import BadArgument, NotAClassifier, OutputUnclear

#: What turns the model's numbers into the artefact's. pair: [1-p, p] of one probability; sigmoid_pair: the same of one
#: logit.
Function = Literal["as-is", "softmax", "exp", "sigmoid", "pair", "sigmoid_pair"]

#: What the loss of a training says: the kind, and whether it took logits.
Loss = tuple[OutputKind, bool]

#: How far a row's sum may be from 1. A float16 softmax over 1000 classes is off by up to 5e-4.
SUM_TOLERANCE = 1e-3

#: The same for a softmax that was rounded to 8 bits. Consumers refuse rows that are further off.
ROUNDED_SUM_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class Head:
    """`contradicted`: what in the file proves another kind than the user stated."""

    kind: OutputKind
    function: Function
    assumption: Assumption
    contradicted: str = ""

    @property
    def gives_two_of_one(self) -> bool:
        return self.function in ("pair", "sigmoid_pair")

    def applied(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The artefact's output for the model's scores [images,outputs], computed in NumPy."""
        x = scores.astype(np.float64)
        match self.function:
            case "as-is":
                result = x
            case "softmax":
                powers = np.exp(x - x.max(axis=1, keepdims=True))
                result = powers / powers.sum(axis=1, keepdims=True)
            case "exp":
                result = np.exp(x)
            case "sigmoid":
                result = _sigmoid(x)
            case "pair":
                result = np.hstack([1 - x, x])
            case "sigmoid_pair":
                result = np.hstack([_sigmoid(-x), _sigmoid(x)])
        return result.astype(np.float32)


def _sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -700, 700))), np.float64)


def decide(
    found: Ending,
    scores: npt.NDArray[np.float32],
    *,
    stated: OutputKind | None,
    loss: Loss | None,
    tolerance: float = SUM_TOLERANCE,
) -> Head:
    """`scores` [images,outputs] are the model's own; `tolerance`: how far the sum of probabilities may be from 1.

    Raises OutputUnclear, BadArgument, NotAClassifier.
    """
    proven = _proven(found, scores, loss, tolerance)
    if stated is not None:
        head = _stated(found, scores, stated)
        return head if proven is None or _agree(stated, proven.kind) else _against(head, proven.assumption.why)
    if proven is None:
        raise OutputUnclear(_question(found, scores))
    return proven


def _agree(stated: OutputKind, proven: OutputKind) -> bool:
    """One sigmoid is the probability of one label, too."""
    return stated == proven or (stated, proven) == ("labels", "binary")


def _against(head: Head, why: str) -> Head:
    reason = f"{head.assumption.why}, although {why}"
    return replace(head, assumption=replace(head.assumption, why=reason), contradicted=why)


def _proven(found: Ending, scores: npt.NDArray[np.float32], loss: Loss | None, tolerance: float) -> Head | None:
    """By the graph or the loss; None if neither proves a kind."""
    single = scores.shape[1] == 1
    if found.range == "distribution" and not single and sums_to_one(scores, tolerance):
        return Head("classes", "as-is", _known("classes", f"the model ends in {found.operator}"))
    if found.range == "log_distribution" and not single and sums_to_one(np.exp(scores)):
        return Head(
            "classes", "exp", _known("classes", f"the model ends in {found.operator}, whose exponential is taken")
        )
    if found.range == "independent" and _within_one(scores):
        if single:
            return Head("binary", "pair", _known("binary", f"the model ends in one {found.operator}"))
        return Head("labels", "as-is", _known("labels", f"the model ends in {scores.shape[1]} x {found.operator}"))
    if found.range is None and not single and sums_to_one(scores) and _has_fractions(scores):
        return Head("classes", "as-is", _known("classes", "every row of its outputs sums to 1"))
    return None if loss is None else _by_loss(found, scores, loss)


def _known(kind: OutputKind, why: str) -> Assumption:
    return Assumption(kind, "known", why)


def sums_to_one(scores: npt.NDArray[np.float32], tolerance: float = SUM_TOLERANCE) -> bool:
    """Whether every row is a distribution over the classes."""
    return bool(scores.min() >= -tolerance and np.abs(scores.sum(axis=1) - 1).max() <= tolerance)


def _has_fractions(scores: npt.NDArray[np.float32]) -> bool:
    """Whether two rows or more are no decisions. Those of labels sum to 1 wherever just one label is found."""
    return bool((np.abs(scores - np.rint(scores)).max(axis=1) > SUM_TOLERANCE).sum() > 1)


def _within_one(scores: npt.NDArray[np.float32]) -> bool:
    return bool(scores.min() >= -1e-6 and scores.max() <= 1 + 1e-6)


def _by_loss(found: Ending, scores: npt.NDArray[np.float32], loss: Loss) -> Head | None:
    kind, from_logits = loss
    why = f"it was trained with a loss for {kind}"
    if kind == "values":
        return Head("values", "as-is", _known("values", why))
    if not from_logits or found.range != "logits":
        return None
    assumption = _known(kind, f"{why}, on logits")
    if kind == "classes" and scores.shape[1] > 1:
        return Head("classes", "softmax", assumption)
    if kind == "binary":
        single = scores.shape[1] == 1
        return Head("binary" if single else "labels", "sigmoid_pair" if single else "sigmoid", assumption)
    return None


def _stated(found: Ending, scores: npt.NDArray[np.float32], kind: OutputKind) -> Head:
    """The user's word, as far as the numbers allow it; raises BadArgument."""
    count = scores.shape[1]
    function = {
        "classes": _classes_function,
        "binary": _binary_function,
        "labels": _labels_function,
        "values": lambda *_: "as-is",
    }[kind](found, scores)
    if function is None:
        raise BadArgument(
            f"--output-kind {kind} does not fit: the model has {count} output{'s' if count > 1 else ''}, it ends in"
            f" {found.operator}, and the numbers are between {scores.min():.4g} and {scores.max():.4g}"
            f"{_other_kinds(kind)}"
        )
    added = "" if function == "as-is" else f"; {function.replace('_', ' of a ')} is added"
    return Head(kind, function, Assumption(kind, "stated", f"--output-kind{added}"))


def _other_kinds(kind: OutputKind) -> str:
    others = [other for other in ("classes", "binary", "labels", "values") if other != kind]
    return f"; try {', '.join(others[:-1])} or {others[-1]}"


def _classes_function(found: Ending, scores: npt.NDArray[np.float32]) -> Function | None:
    if scores.shape[1] == 1:
        return None
    if sums_to_one(scores):
        return "as-is"
    if found.range == "log_distribution":
        return "exp"
    return "softmax" if found.range == "logits" else None


def _binary_function(found: Ending, scores: npt.NDArray[np.float32]) -> Function | None:
    if scores.shape[1] != 1:
        return None
    if found.range == "logits":
        return "sigmoid_pair"
    return "pair" if _within_one(scores) else None


def _labels_function(found: Ending, scores: npt.NDArray[np.float32]) -> Function | None:
    if found.range == "logits":
        return "sigmoid"
    return "as-is" if _within_one(scores) else None


def _question(found: Ending, scores: npt.NDArray[np.float32]) -> str:
    count = scores.shape[1]
    if found.operator in ("ArgMax", "TopK"):
        return (
            f"the model ends in {found.operator}, which tells the class and no probabilities. Export it up to the layer"
            " before, which gives one number per class. --output-kind values serves the model as it is"
        )
    if count == 1 and found.operator in ("Softmax", "LogSoftmax"):
        return (
            f"the model ends in {found.operator} over one output, which gives the same number for every image: train it"
            " with as many outputs as classes, or with one output and activation='sigmoid' for two classes."
            " --output-kind values serves it as it is"
        )
    numbers = "one number" if count == 1 else f"{count} numbers"
    choices = (
        "--output-kind binary (it is the score of the second of two classes) or --output-kind values (a measurement)"
        if count == 1
        else "--output-kind classes (one of them is right; softmax is added to logits), --output-kind labels (each is"
        " right or wrong by itself; sigmoid is added to logits) or --output-kind values (measurements, an embedding)"
    )
    return (
        f"the model ends in {found.operator} and gives {numbers} between {scores.min():.4g} and {scores.max():.4g},"
        f" which can mean several things: say which with {choices}"
    )


def check(scores: npt.NDArray[np.float32], images: int) -> npt.NDArray[np.float32]:
    """The scores as [images,outputs]; raises NotAClassifier unless they are one row of finite numbers per image."""
    if scores.ndim == 0 or len(scores) != images:
        rows = 1 if scores.ndim == 0 else len(scores)
        raise NotAClassifier(
            f"the model answers {images} images with {rows} row{'s' if rows != 1 else ''}:"
            " it must give one row per image"
        )
    flat = scores.reshape(images, -1)
    if sum(size > 1 for size in scores.shape[1:]) > 1:
        shape = ",".join(map(str, scores.shape[1:]))
        raise NotAClassifier(
            f"the model answers one image with an array of shape [{shape}], not with one row of numbers: is its"
            " top missing? A classifier usually ends in a pooling and a dense layer"
        )
    if not np.isfinite(flat).all():
        raise NotAClassifier(
            "the model answers with numbers that are not finite: the file is damaged, or --preprocess is not the one"
            " that the model was trained with"
        )
    return flat
