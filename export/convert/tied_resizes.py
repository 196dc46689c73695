"""What it can cost to take one of several resizes that a user's labelled images cannot tell apart.

It knows nothing of normalisations: all trials here are with the one that was chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from export.artefact.description import Assumption
from export.convert.measure import RESIZES, Trial, clearly_better
from export.errors import ResizeUnclear

#: The largest share of the images that may change their first class with the resize. It is the level of the tests that
#: choose the normalisation, and as much as a good classifier is wrong anyway.
MAX_CHANGED = 0.05

#: One image alone is no share.
_MIN_CHANGED = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """How the answers differ between resizes: images whose first class changes, of how many; one probability."""

    changed: int
    images: int
    probability: float

    @property
    def too_high(self) -> bool:
        return self.changed >= _MIN_CHANGED and self.changed > MAX_CHANGED * self.images

    def __str__(self) -> str:
        return (
            f"the top class of {self.changed} of {self.images} images changes, and a probability by up to"
            f" {self.probability:.2g}"
        )


def ties(best: Trial, trials: Sequence[Trial]) -> list[Trial]:
    """The other resizes with the same normalisation that are not clearly worse."""
    others = [trial for trial in trials if trial.preprocess == best.preprocess and trial.resize != best.resize]
    return [other for other in others if not clearly_better(best, other)]


def cost(trials: Sequence[Trial]) -> Cost:
    """Of trials on the same images."""
    answers = np.stack([trial.answers for trial in trials])
    first = answers.argmax(axis=2)
    changed = int((first != first[0]).any(axis=0).sum())
    return Cost(changed, answers.shape[1], float((answers.max(axis=0) - answers.min(axis=0)).max()))


def assumption(best: Trial, trials: Sequence[Trial]) -> Assumption:
    """The resize of the best combination: measured if it is clearly best with its normalisation, else assumed."""
    tied = ties(best, trials)
    right = f"right on {best.accuracy:.0%} of {len(best.right)} labelled images"
    if not tied:
        return Assumption(str(best.resize), "measured", right)
    others = len({trial.resize for trial in trials}) - 1
    why = (
        f"{right}, but {len(tied)} of {others} others come too close to tell. Among them {cost([best, *tied])}."
        " --like LOADER names the loader of the training"
    )
    return Assumption(str(best.resize), "assumed", why)


def check(best: Trial, trials: Sequence[Trial], command: str) -> None:
    """Raises ResizeUnclear, with the `command` that was typed, if the choice among tied resizes matters too much."""
    tied = ties(best, trials)
    if not tied or not (found := cost([best, *tied])).too_high:
        return
    options = {resize: option for option, resize in RESIZES.items()}
    lines = "\n".join(f"  {command} {options[trial.resize]}   ({trial.accuracy:.0%})" for trial in [best, *tied])
    raise ResizeUnclear(
        f"the images show the normalisation ({best.preprocess}) but not the resize. Several ways are right about"
        f" equally often, yet among them {found}.\nIf you know how the training loaded its images:\n{lines}\n"
        "If you don't: give more images, so that one way becomes clearly best"
    )
