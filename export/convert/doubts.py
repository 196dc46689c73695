"""Says what is wrong where labelled images speak against a normalisation, or against the order of the labels."""

import shlex
from collections.abc import Sequence

import numpy as np

from export.artefact.description import Assumption
from export.convert import measure
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
    first = _best(trials)
    if measure.beats_guessing(first, len(labels)):
        return
    complaint = _complaint(first, normalisation)
    if others and measure.beats_guessing(other := _best(others), len(labels)):
        raise NormalisationUnclear(
            f"{complaint}. The normalisation {other.preprocess} is right on {other.accuracy:.0%}: pass --preprocess"
            f" {other.preprocess}"
        )
    if (reversed_ := _reversed([*trials, *others], found, labels)) is not None:
        right = f"with the other order, {reversed_.preprocess} is right on {reversed_.accuracy:.0%}"
        if found.unnamed:
            raise NormalisationUnclear(
                f"{complaint}. No subfolder ({', '.join(found.unnamed)}) is named as a label, so they count as the"
                f" classes in this order, and {right}. Name each as its class is named in --labels"
            )
        raise NormalisationUnclear(
            f"{complaint}. The order of the two names is wrong: {right}. Name the outputs so: printf '%s\\n'"
            f" {shlex.join(reversed(labels))} > labels.txt, and pass --labels labels.txt"
        )
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
    own, other = _best(trials), _best(others)
    if not measure.right_more_often(other, own, chance=measure.SMALL_CHANCE):
        return None
    return BETTER.format(
        count=len(own.right), other=other.preprocess, others=other.accuracy, stated=own.preprocess, own=own.accuracy
    )


def _reversed(trials: Sequence[Trial], found: Truth, labels: Sequence[str]) -> Trial | None:
    """The best trial with the names of the two classes in the other order, if it beats guessing."""
    if len(labels) != 2:
        return None
    swapped = [
        measure.judged(trial.answers[:, ::-1].astype(np.float32), found, trial.preprocess, trial.resize)
        for trial in trials
    ]
    best = _best(swapped)
    return best if measure.beats_guessing(best, len(labels)) else None


def _best(trials: Sequence[Trial]) -> Trial:
    return max(trials, key=lambda trial: trial.rank)
