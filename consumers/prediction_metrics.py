"""Counts what a model predicts, so that a shift of its inputs is seen: labels, confidence and entropy.

Off unless `prediction_labels` is set: the labels of private images may be private, too.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from consumers.metrics import REGISTRY
from stream.model import ModelDescription

#: Bounds of confidence and of entropy, both between 0 and 1.
_BOUNDS: Final = (0.01, 0.05, *(tenth / 10 for tenth in range(1, 10)), 0.95, 0.99, 1.0)

#: The label that stands for all that are not named.
OTHER: Final = "other"

#: From this probability on, a label of a model with independent labels counts as predicted.
_PREDICTED: Final = 0.5

Values = NDArray[np.float32]


@dataclass(slots=True)
class _Histogram:
    """How many values lie up to each bound, and beyond the last one because of rounding."""

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_BOUNDS) + 1, np.int64))
    total: float = 0.0

    def add(self, values: Values) -> None:
        self.counts += np.bincount(np.searchsorted(_BOUNDS, values), minlength=len(self.counts))
        self.total += float(values.sum())

    def buckets(self) -> list[tuple[str, float]]:
        bounds = [*map(floatToGoString, _BOUNDS), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self.counts.tolist())), strict=True))


@dataclass(slots=True)
class _Version:
    """What one version of a model has predicted. `labels` has the named ones and OTHER."""

    labels: Counter[str] = field(default_factory=lambda: Counter({OTHER: 0}))
    confidence: _Histogram = field(default_factory=_Histogram)
    entropy: _Histogram = field(default_factory=_Histogram)

    def count(self, label: str, max_labels: int) -> None:
        named = label in self.labels or len(self.labels) <= max_labels
        self.labels[label if named else OTHER] += 1


class PredictionMetrics(Collector):
    """The metrics of a consumer's predictions, by model and version.

    The first labels that are predicted keep their names. A counter of a label therefore never falls, and frequent
    labels are among the first. One thread observes, and another may read at the same time.
    """

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], _Version] = {}

    def observe(self, about: ModelDescription, outputs: Values, *, max_labels: int) -> None:
        """Count a batch of valid outputs float32 [N, labels]. Values that are no probabilities are not counted."""
        if about.output_kind == "values":
            return
        seen = self._versions.setdefault((about.name, about.version), _Version())
        seen.confidence.add(outputs.max(axis=1))
        if about.output_kind == "labels":
            predicted = np.nonzero(outputs >= _PREDICTED)[1]
        else:
            predicted = outputs.argmax(axis=1)
            seen.entropy.add(_normalised_entropy(outputs))
        for index in predicted.tolist():
            seen.count(about.labels[index], max_labels)

    def collect(self) -> Iterable[Metric]:
        names = ["model", "version"]
        labels = CounterMetricFamily(
            "sluice_predictions_total",
            "Predictions of each label; the first prediction_labels of a version have their names, the rest is other.",
            labels=[*names, "label"],
        )
        confidence = HistogramMetricFamily(
            "sluice_prediction_confidence", "Probability of the most probable label of an image.", labels=names
        )
        entropy = HistogramMetricFamily(
            "sluice_prediction_entropy",
            "Entropy of an image's probabilities: 0 is one certain label, 1 is all labels alike.",
            labels=names,
        )
        for version, seen in list(self._versions.items()):
            for label, count in list(seen.labels.items()):
                labels.add_metric([*version, label], count)
            confidence.add_metric(version, seen.confidence.buckets(), seen.confidence.total)
            entropy.add_metric(version, seen.entropy.buckets(), seen.entropy.total)
        return labels, confidence, entropy


def _normalised_entropy(probabilities: Values) -> Values:
    """float32 [N], from 0 to 1, of float32 [N, labels]."""
    positive = np.maximum(probabilities, np.finfo(np.float32).tiny)
    entropy: Values = -(positive * np.log(positive)).sum(axis=1) / np.log(max(2, probabilities.shape[1]))
    return entropy.clip(0, 1)


PREDICTIONS: Final = PredictionMetrics()
REGISTRY.register(PREDICTIONS)
