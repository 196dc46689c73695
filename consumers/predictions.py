"""Counts what a model predicts, so that a shift of its inputs is seen: labels, confidence and entropy.

Off unless `prediction_labels` is set: the labels of private images may be private, too. consumers/metrics.py shows the
counts.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.model import ModelDescription

#: Bounds of confidence and of entropy, both between 0 and 1.
BOUNDS: Final = (0.01, 0.05, *(tenth / 10 for tenth in range(1, 10)), 0.95, 0.99, 1.0)

#: The label that stands for all that are not named.
OTHER: Final = "other"

#: From this probability on, a label of a model with independent labels counts as predicted.
_PREDICTED: Final = 0.5

Values = NDArray[np.float32]


@dataclass(slots=True)
class Distribution:
    """How many values lie up to each of the bounds, and beyond the last one because of rounding, and their sum."""

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(BOUNDS) + 1, np.int64))
    total: float = 0.0

    def add(self, values: Values) -> None:
        self.counts += np.bincount(np.searchsorted(BOUNDS, values), minlength=len(self.counts))
        self.total += float(values.sum())


@dataclass(slots=True)
class VersionPredictions:
    """What one version of a model has predicted. `labels` has the named ones and OTHER."""

    labels: Counter[str] = field(default_factory=lambda: Counter({OTHER: 0}))
    confidence: Distribution = field(default_factory=Distribution)
    entropy: Distribution = field(default_factory=Distribution)

    def count(self, label: str, max_labels: int) -> None:
        named = label in self.labels or len(self.labels) <= max_labels
        self.labels[label if named else OTHER] += 1


class Predictions:
    """The predictions of a consumer, by model and version.

    The first labels that are predicted keep their names. A counter of a label therefore never falls, and frequent
    labels are among the first. One thread observes, and another may read at the same time.
    """

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], VersionPredictions] = {}

    def __iter__(self) -> Iterator[tuple[tuple[str, str], VersionPredictions]]:
        return iter(list(self._versions.items()))

    def observe(self, about: ModelDescription, outputs: Values, *, max_labels: int) -> None:
        """Count a batch of valid outputs float32 [N, labels]. Values that are no probabilities are not counted."""
        if about.output_kind == "values":
            return
        seen = self._versions.setdefault((about.name, about.version), VersionPredictions())
        seen.confidence.add(outputs.max(axis=1))
        if about.output_kind == "labels":
            predicted = np.nonzero(outputs >= _PREDICTED)[1]
        else:
            predicted = outputs.argmax(axis=1)
            seen.entropy.add(_normalised_entropy(outputs))
        for index in predicted.tolist():
            seen.count(about.labels[index], max_labels)


def _normalised_entropy(probabilities: Values) -> Values:
    """float32 [N], from 0 to 1, of float32 [N, labels]."""
    positive = np.maximum(probabilities, np.finfo(np.float32).tiny)
    entropy: Values = -(positive * np.log(positive)).sum(axis=1) / np.log(max(2, probabilities.shape[1]))
    return entropy.clip(0, 1)
