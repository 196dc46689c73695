"""Which head a model gets, from its numbers and its last activation."""

import numpy as np
import numpy.typing as npt
import pytest

from export.convert import head
from export.errors import NotAClassifier

PROBABILITIES = np.array([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]], np.float32)
LOGITS = np.array([[-1, 4, 0.5], [2, 2, 2]], np.float32)
SCORES = np.array([[0.9, 0.8, 0.1], [0.2, 0.3, 0.1]], np.float32)
ONE = np.array([[0.4], [0.6]], np.float32)


@pytest.mark.parametrize(
    ("scores", "activation", "expected"),
    [
        (PROBABILITIES, "softmax", "as-is"),
        (PROBABILITIES, "linear", "as-is"),
        (PROBABILITIES, None, "as-is"),
        (PROBABILITIES * np.float32(1.0005), "softmax", "as-is"),
        (LOGITS, "linear", "softmax"),
        (LOGITS, None, "softmax"),
        (np.log(PROBABILITIES + 1e-9), "log_softmax", "softmax"),
        (ONE, "sigmoid", "complement"),
        (ONE, "linear", "sigmoid"),
    ],
)
def test_the_head_follows_from_numbers_and_activation(
    scores: npt.NDArray[np.float32], activation: str | None, expected: str
) -> None:
    """The numbers decide where they can, the activation where they can't."""
    assert head.decide(scores, activation) == expected


@pytest.mark.parametrize(
    ("scores", "activation", "message"),
    [
        (SCORES, "sigmoid", "ends in sigmoid, and its outputs don't sum to 1"),
        (SCORES, "softmax", "ends in softmax, and its outputs don't sum to 1"),
        (LOGITS, "relu", "ends in relu"),
        (ONE, "tanh", "a single output after tanh"),
        (ONE, None, "a single output after a layer of its own"),
        (LOGITS * np.float32("nan"), "linear", "not finite"),
        (LOGITS.reshape(1, 1, 2, 3), "softmax", r"shape \[1,2,3\]"),
    ],
)
def test_what_chooses_nothing_is_refused(scores: npt.NDArray[np.float32], activation: str | None, message: str) -> None:
    """Scores that are independent of one another have no most probable class."""
    with pytest.raises(NotAClassifier, match=message):
        head.decide(scores, activation)
