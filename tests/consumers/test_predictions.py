"""What a consumer's metrics say of its predictions: how many of each label, and how certain the model was."""

from dataclasses import replace

import numpy as np
import pytest

from consumers.metrics import PredictionCollector
from consumers.predictions import OTHER, Predictions
from stream.model import ModelDescription, OutputKind, Resize

LABELS = ("cat", "dog", "owl", "elk")


def model(kind: OutputKind = "classes", *, version: str = "1") -> ModelDescription:
    return ModelDescription("m", version, "0" * 64, 8, 8, Resize(), LABELS, output_kind=kind)


def observed(
    rows: list[list[float]], *, about: ModelDescription | None = None, max_labels: int = 9
) -> dict[tuple[str, ...], float]:
    """Samples that are not 0, by name and labels."""
    predictions = Predictions()
    for row in rows:
        predictions.observe(about or model(), np.asarray([row], np.float32), max_labels=max_labels)
    return {
        (sample.name.removeprefix("sluice_prediction"), *list(sample.labels.values())[2:]): sample.value
        for family in PredictionCollector(predictions).collect()
        for sample in family.samples
        if sample.value
    }


def test_each_label_confidence_and_entropy_is_counted() -> None:
    """By model and version; the bounds of a histogram are inclusive."""
    found = observed([[0.7, 0.1, 0.1, 0.1], [0.25] * 4, [0, 0, 0, 1]])
    assert {name: value for name, value in found.items() if name[0] == "s_total"} == {
        ("s_total", "cat"): 2,
        ("s_total", "elk"): 1,
    }
    assert [found["_confidence_bucket", bound] for bound in ("0.3", "0.7", "0.99", "1.0", "+Inf")] == [1, 2, 2, 3, 3]
    assert found["_confidence_sum",] == pytest.approx(1.95)
    assert found["_entropy_count",] == 3
    certain, uniform = 0, 1
    middle = -(0.7 * np.log(0.7) + 0.3 * np.log(0.1)) / np.log(4)
    assert found["_entropy_sum",] == pytest.approx(certain + uniform + middle, abs=1e-5)
    assert found["_entropy_bucket", "0.01"] == 1


def test_only_so_many_labels_are_named() -> None:
    """The first ones keep their names, and the rest is one label."""
    rows = np.eye(4)[[2, 0, 1, 3, 2, 1]].tolist()
    found = {name[1]: value for name, value in observed(rows, max_labels=2).items() if name[0] == "s_total"}
    assert found == {"owl": 2, "cat": 1, OTHER: 3}


def test_independent_labels_count_from_one_half_on() -> None:
    """Any number of them for an image, and their probabilities have no entropy."""
    found = observed([[0.9, 0.5, 0.4, 0], [0.1, 0.2, 0.3, 0.4]], about=model("labels"))
    assert {name[1]: value for name, value in found.items() if name[0] == "s_total"} == {"cat": 1, "dog": 1}
    assert found["_confidence_count",] == 2
    assert ("_entropy_count",) not in found


def test_values_are_no_predictions_of_labels() -> None:
    """Nothing is known of what they mean."""
    assert observed([[1.0, 2.0, 3.0, 4.0]], about=model("values")) == {}


def test_each_version_is_counted_by_itself() -> None:
    """A new version may well predict something else."""
    predictions = Predictions()
    for version in ("1", "2", "2"):
        predictions.observe(replace(model(), version=version), np.eye(4, dtype=np.float32)[:1], max_labels=1)
    labels, *_ = PredictionCollector(predictions).collect()
    assert {(one.labels["version"], one.labels["label"]): one.value for one in labels.samples} == {
        ("1", "cat"): 1, ("1", OTHER): 0, ("2", "cat"): 2, ("2", OTHER): 0
    }  # fmt: skip
