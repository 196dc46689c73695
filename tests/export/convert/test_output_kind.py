"""Which kind of output a model has, and how its numbers become the artefact's."""

import numpy as np
import numpy.typing as npt
import pytest

from export.artefact.description import OutputKind
from export.convert import output_kind
from export.convert.output_kind import Loss
from export.convert.output_path import Ending, Range
from export.errors import BadArgument, NotAClassifier, OutputUnclear

Floats = npt.NDArray[np.float32]

PROBABILITIES = np.array([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]], np.float32)
LOGITS = np.array([[-1, 4, 0.5], [2, 2, 2]], np.float32)
SCORES = np.array([[0.9, 0.8, 0.1], [0.2, 0.3, 0.1]], np.float32)
ONE = np.array([[0.4], [0.6]], np.float32)
ONE_LOGIT = np.array([[-4], [6]], np.float32)


@pytest.mark.parametrize(
    ("scores", "found", "loss", "expected"),
    [
        (PROBABILITIES, "distribution", None, ("classes", "as-is")),
        (PROBABILITIES, None, None, ("classes", "as-is")),
        (PROBABILITIES * np.float32(1.0005), "distribution", None, ("classes", "as-is")),
        (np.log(PROBABILITIES + 1e-9), "log_distribution", None, ("classes", "exp")),
        (SCORES, "independent", None, ("labels", "as-is")),
        (ONE, "independent", None, ("binary", "pair")),
        (LOGITS, "logits", ("classes", True), ("classes", "softmax")),
        (LOGITS, "logits", ("binary", True), ("labels", "sigmoid")),
        (ONE_LOGIT, "logits", ("binary", True), ("binary", "sigmoid_pair")),
        (LOGITS, "logits", ("values", False), ("values", "as-is")),
        (ONE_LOGIT, None, ("values", False), ("values", "as-is")),
    ],
)
def test_the_kind_follows_from_the_path_or_the_loss(
    scores: Floats, found: Range | None, loss: Loss | None, expected: tuple[str, str]
) -> None:
    """No user is asked where the file proves it."""
    head = output_kind.decide(Ending(found, "Dense"), scores, stated=None, loss=loss)
    assert (head.kind, head.function) == expected


@pytest.mark.parametrize(
    ("scores", "found", "loss"),
    [
        (LOGITS, "logits", None),
        (LOGITS, "logits", ("classes", False)),
        (LOGITS, None, ("classes", True)),
        (SCORES, "distribution", None),
        (SCORES, None, None),
        (ONE, None, None),
        (ONE_LOGIT, "logits", None),
        (SCORES * 3, "independent", None),
        (np.ones((2, 1), np.float32), "distribution", None),
        (np.eye(3, dtype=np.float32)[[1, 1, 0]], None, None),
    ],
)
def test_what_can_mean_several_things_is_asked(scores: Floats, found: Range | None, loss: Loss | None) -> None:
    """A softmax by guess was off by up to 0.87. Decisions of labels may sum to 1 in each sample."""
    with pytest.raises(OutputUnclear, match="say which with --output-kind"):
        output_kind.decide(Ending(found, "Mul"), scores, stated=None, loss=loss)


@pytest.mark.parametrize(
    ("scores", "found", "stated", "expected"),
    [
        (LOGITS, "logits", "classes", "softmax"),
        (PROBABILITIES, None, "classes", "as-is"),
        (LOGITS, "logits", "labels", "sigmoid"),
        (SCORES, None, "labels", "as-is"),
        (ONE_LOGIT, "logits", "binary", "sigmoid_pair"),
        (ONE, None, "binary", "pair"),
        (LOGITS, None, "values", "as-is"),
    ],
)
def test_the_user_may_say_it(scores: Floats, found: Range | None, stated: OutputKind, expected: str) -> None:
    """And then a softmax or sigmoid is added to logits."""
    assert output_kind.decide(Ending(found, "Gemm"), scores, stated=stated, loss=None).function == expected


@pytest.mark.parametrize(
    ("scores", "found", "stated", "loss", "why"),
    [
        (PROBABILITIES, "distribution", "labels", None, "the model ends in Softmax"),
        (PROBABILITIES, "distribution", "values", None, "the model ends in Softmax"),
        (LOGITS, "logits", "labels", ("classes", True), "it was trained with a loss for classes, on logits"),
        (PROBABILITIES, "distribution", "classes", None, ""),
        (ONE, "independent", "labels", None, ""),
        (LOGITS, "logits", "labels", None, ""),
    ],
)
def test_what_the_file_proves_otherwise_is_kept_for_a_warning(
    scores: Floats, found: Range | None, stated: OutputKind, loss: Loss | None, why: str
) -> None:
    """The numbers allow it, but a softmax's are no independent probabilities. One sigmoid's may be."""
    head = output_kind.decide(Ending(found, "Softmax"), scores, stated=stated, loss=loss)
    assert head.kind == stated
    assert head.contradicted == why
    assert head.assumption.why.endswith(f", although {why}" if why else head.assumption.why)


@pytest.mark.parametrize(
    ("scores", "found", "stated"),
    [
        (SCORES, "independent", "classes"),
        (LOGITS, None, "classes"),
        (ONE, "independent", "classes"),
        (SCORES, "independent", "binary"),
        (ONE_LOGIT, None, "binary"),
        (LOGITS, None, "labels"),
    ],
)
def test_what_the_numbers_contradict_is_refused(scores: Floats, found: Range | None, stated: OutputKind) -> None:
    """Else a probability of 1.77 would be served."""
    with pytest.raises(BadArgument, match=f"--output-kind {stated} does not fit"):
        output_kind.decide(Ending(found, "Relu"), scores, stated=stated, loss=None)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (LOGITS * np.float32("nan"), "not finite"),
        (LOGITS.reshape(2, 1, 3, 1).repeat(2, axis=1), r"shape \[2,3,1\]"),
        (LOGITS[:1], "answers 2 images with 1 row"),
        (np.float32(3), "answers 2 images with 1 row"),
    ],
)
def test_what_is_no_row_per_image_is_refused(scores: Floats, message: str) -> None:
    """With what it is instead."""
    with pytest.raises(NotAClassifier, match=message):
        output_kind.check(np.asarray(scores), 2)


def test_rows_of_any_shape_are_made_flat() -> None:
    """[N,C,1,1] and [N] are rows as well."""
    assert output_kind.check(LOGITS.reshape(2, 3, 1, 1), 2).shape == (2, 3)
    assert output_kind.check(ONE.reshape(2), 2).shape == (2, 1)


def test_both_halves_of_a_logit_keep_their_digits() -> None:
    """1 - sigmoid(20) would have lost them all in float32."""
    head = output_kind.decide(Ending("logits", "Gemm"), np.array([[20.0]], np.float32), stated="binary", loss=None)
    np.testing.assert_allclose(head.applied(np.array([[20.0]], np.float32)), [[2.0611537e-09, 1]], rtol=1e-6)
