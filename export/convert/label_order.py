"""Finds the order of the labels that labelled images speak for, where it is another one than the user's."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from export.convert import measure
from export.convert.measure import Trial, Truth

#: So many names, or pairs of names, can be read in a message.
_MOST_NAMES = 100
_MOST_PAIRS = 6


@dataclass(frozen=True, slots=True)
class OtherOrder:
    """`trial` is judged with the labels in this order. `given` pairs each subfolder with the label of its images.

    `unnamed` are the subfolders that count as the classes in their order. `clear` is whether most images of each
    subfolder that is misplaced get the same label.
    """

    trial: Trial
    labels: tuple[str, ...]
    given: tuple[tuple[str, str], ...]
    unnamed: tuple[str, ...]
    clear: bool

    @property
    def correction(self) -> str:
        """What is wrong, and what to do."""
        right = f"With another order, {self.trial.preprocess} is right on {self.trial.accuracy:.0%}"
        if self.unnamed:
            names = ", ".join(f"{folder} to {label}" for folder, label in self.given[:_MOST_NAMES])
            return (
                f"No subfolder ({', '.join(self.unnamed)}) is named as a label, so they count as the classes in this"
                f" order, which is wrong. {right}. Rename {names}"
            )
        return f"The order of the labels is wrong: {self._confusion}. {right}. {self._remedy}"

    @property
    def _confusion(self) -> str:
        moved = [f"{own} get the label {given}" for own, given in self.given if own != given]
        more = f", and so on for {len(moved) - _MOST_PAIRS} more" if len(moved) > _MOST_PAIRS else ""
        return f"images of {', those of '.join(moved[:_MOST_PAIRS])}{more}"

    @property
    def _remedy(self) -> str:
        if len(self.labels) > _MOST_NAMES:
            return "Exchange these labels in --labels"
        return (
            f"Name the outputs so: printf '%s\\n' {shlex.join(self.labels)} > labels.txt, and pass --labels labels.txt"
        )


def other_order(trials: Sequence[Trial], found: Truth, labels: Sequence[str]) -> OtherOrder | None:
    """The order with which a trial is right most often; None if that is the order of the labels.

    It must be right on most images, too: of so many orders, some beat guessing by chance.
    """
    tried = [order for trial in trials if (order := _of(trial, found, labels)) is not None]
    best = max(tried, key=lambda order: order.trial.rank, default=None)
    if best is None or best.trial.accuracy <= 0.5 or not measure.beats_guessing(best.trial, len(labels)):
        return None
    return best


def _of(trial: Trial, found: Truth, labels: Sequence[str]) -> OtherOrder | None:
    count = len(labels)
    if trial.answers.shape[1] != count:  # The model could not run with this normalisation.
        return None
    counts = np.zeros((count, count), np.intp)
    np.add.at(counts, (found.classes, trial.answers.argmax(axis=1)), 1)
    output_of = _assigned(counts)
    if output_of is None or output_of == list(range(count)):
        return None
    ordered = list(labels)
    for label, output in zip(labels, output_of, strict=True):
        ordered[output] = label
    shown = sorted(set(found.classes.tolist()))
    subfolders = found.unnamed or labels
    return OtherOrder(
        measure.judged(trial.answers[:, output_of].astype(np.float32), found, trial.preprocess, trial.resize),
        tuple(ordered),
        tuple((subfolders[index], labels[output_of[index]]) for index in shown),
        found.unnamed,
        all(2 * counts[at, output_of[at]] > counts[at].sum() for at in shown if output_of[at] != at),
    )


def _assigned(counts: npt.NDArray[np.intp]) -> list[int] | None:
    """The output of each label: the one that most of its images choose, where no other label has more of them.

    A label without images keeps its output, or takes the one that is left; None if several are left.
    """
    chosen: dict[int, int] = {}
    cells = ((int(index), int(output)) for index, output in np.argwhere(counts))
    for index, output in sorted(cells, key=lambda cell: (-counts[cell], cell[0] != cell[1])):
        if index not in chosen and output not in chosen.values():
            chosen[index] = output
    everything = set(range(len(counts)))
    kept = everything - set(chosen) - set(chosen.values())
    chosen |= {index: index for index in kept}
    left, free = everything - set(chosen), everything - set(chosen.values())
    if len(left) > 1:
        return None
    chosen |= zip(left, free, strict=True)
    return [chosen[index] for index in range(len(counts))]
