"""Says what is wrong where labelled images speak against a normalisation, or against the order of the labels."""

from collections.abc import Sequence

from export.artefact.description import Assumption
from export.convert import label_order, measure
from export.convert.measure import Trial, Truth
from export.errors import NormalisationUnclear

BETTER = (
    "warning: on {count} images the normalisation {other} is right on {others:.0%}, and {stated} by --preprocess on"
    " {own:.0%}. Pass --preprocess {other}, unless you are sure of yours"
)


def check(
    trials: Sequence[Trial],
    others: Sequence[Trial],
    found: Truth,
    labels: Sequence[str],
    normalisation: Assumption | None,
) -> None:
    """Raises NormalisationUnclear if the best of the trials is no better than guessing.

    `trials` are those to choose from. `normalisation` is theirs, if the file or the user gave one; `others` are then of
    those that are only compared.
    """
    first = measure.best_of(trials)
    if measure.beats_guessing(first, len(labels)):
        return
    complaint = _complaint(first, normalisation)
    if others and measure.beats_guessing(other := measure.best_of(others), len(labels)):
        raise NormalisationUnclear(
            f"{complaint}. The normalisation {other.preprocess} is right on {other.accuracy:.0%}: pass --preprocess"
            f" {other.preprocess}"
        )
    if (order := label_order.other_order([*trials, *others], found, labels)) is not None:
        raise NormalisationUnclear(f"{complaint}. {order.correction}")
    raise NormalisationUnclear(
        f"{complaint}{', and no other one is better' if others else ''}: are the subfolders named as the classes, and"
        " is --labels in the order of the outputs?"
    )


def _complaint(first: Trial, normalisation: Assumption | None) -> str:
    count = len(first.right)
    if normalisation is None:
        return (
            f"no normalisation is better than guessing on {count} images (the best, {first.preprocess}, is right on"
            f" {first.accuracy:.0%})"
        )
    return (
        f"on {count} images the normalisation {normalisation} is no better than guessing: it is right on"
        f" {first.accuracy:.0%}"
    )


def better(trials: Sequence[Trial], others: Sequence[Trial]) -> str | None:
    """A warning if one of the others is right clearly more often than what the user stated."""
    if not others:
        return None
    own, other = measure.best_of(trials), measure.best_of(others)
    if not measure.right_more_often(other, own, chance=measure.SMALL_CHANCE):
        return None
    return BETTER.format(
        count=len(own.right), other=other.preprocess, others=other.accuracy, stated=own.preprocess, own=own.accuracy
    )


def misplaced(best: Trial, found: Truth, labels: Sequence[str]) -> str | None:
    """A warning if some labels are clearly in each other's places, although the best trial is right on the others."""
    other = label_order.other_order([best], found, labels)
    if other is None or not other.clear or not measure.right_more_often(other.trial, best, chance=measure.SMALL_CHANCE):
        return None
    return f"warning: only {best.accuracy:.0%} of {len(best.right)} images are right. {other.correction}"
