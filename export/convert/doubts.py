"""Says what is wrong where labelled images speak against a normalisation, or against the order of the labels."""

from collections.abc import Sequence

from export.artefact.description import Assumption
from export.convert import label_order, measure
from export.convert.label_order import OtherOrder
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
    """Raises NormalisationUnclear if the best of the trials is no better than guessing, or the labels are misplaced.

    `trials` are those to choose from. `normalisation` is theirs, if the file or the user gave one; `others` are then of
    those that are only compared.
    """
    first = measure.best_of(trials)
    beats_guessing = measure.beats_guessing(first, len(labels))
    complaint = _complaint(first, normalisation)
    if (order := _right_order(trials, others, found, labels)) is not None:
        few = f"on {len(first.right)} images, {first.preprocess} is right on only {first.accuracy:.0%}"
        raise NormalisationUnclear(f"{few if beats_guessing else complaint}. {order.correction}")
    if beats_guessing:
        return
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


def _right_order(
    trials: Sequence[Trial], others: Sequence[Trial], found: Truth, labels: Sequence[str]
) -> OtherOrder | None:
    """Another order of the labels that is clearly better than theirs, whichever normalisation that has."""
    best = measure.best_of([*trials, *others])
    for tried in (trials, [*trials, *others]):
        order = label_order.other_order(tried, found, labels)
        if order and order.clear and measure.right_more_often(order.trial, best, chance=measure.SMALL_CHANCE):
            return order
    return None


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
