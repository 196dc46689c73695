"""What it can cost to take one of several resizes that a user's labelled images cannot tell apart.

It knows nothing of normalisations: all trials here are with the one that was chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from export.artefact.description import Assumption, Resize
from export.convert.measure import MAX_IMAGES, RESIZES, Trial, clearly_better
from export.errors import ResizeUnclear
from export.images.resize import LOADERS

#: The largest share of the images on which another resize may be right where the chosen one is wrong. It is the level
#: of the tests that choose the normalisation, and as much as a good classifier is wrong anyway.
MAX_CONTRADICTING = 0.05

#: One image may always be chance.
_MIN_CONTRADICTING = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """What differs at most if another resize was right: the first class of `changed` images; one probability.

    `contradicting`: on so many images another one is right and the chosen one is wrong.
    """

    changed: int
    contradicting: int
    images: int
    probability: float

    @property
    def too_high(self) -> bool:
        return self.contradicting >= _MIN_CONTRADICTING and self.contradicting > MAX_CONTRADICTING * self.images

    def __str__(self) -> str:
        if self.probability == 0:
            return "no answer differs, since all images have the model's own size or come out the same"
        return (
            f"the top class of up to {self.changed} of {self.images} images differs, and a probability by up to"
            f" {self.probability:.2g}"
        )


def ties(best: Trial, trials: Sequence[Trial]) -> list[Trial]:
    """The other resizes with the same normalisation that are not clearly worse."""
    others = [trial for trial in trials if trial.preprocess == best.preprocess and trial.resize != best.resize]
    return [other for other in others if not clearly_better(best, other)]


def cost(best: Trial, tied: Sequence[Trial]) -> Cost:
    """Of taking the best one where one of the others, on the same images, would be right."""
    others = np.stack([trial.answers for trial in tied])
    changed = (others.argmax(axis=2) != best.answers.argmax(axis=1)).sum(axis=1)
    contradicting = (np.stack([trial.right for trial in tied]) & ~best.right).sum(axis=1)
    return Cost(
        int(changed.max()),
        int(contradicting.max()),
        len(best.answers),
        float(np.abs(others - best.answers).max()),
    )


def assumption(best: Trial, trials: Sequence[Trial]) -> Assumption:
    """The resize of the best combination: measured if it is clearly best with its normalisation, else assumed."""
    tied = ties(best, trials)
    right = f"right on {best.accuracy:.0%} of {len(best.right)} labelled images"
    if not tied:
        return Assumption(str(best.resize), "measured", right)
    others = len({trial.resize for trial in trials}) - 1
    why = (
        f"{right}, but {len(tied)} of {others} others come too close to tell: with them, {cost(best, tied)}."
        " --like LOADER names the loader of the training"
    )
    return Assumption(str(best.resize), "assumed", why)


def check(best: Trial, trials: Sequence[Trial], command: str) -> None:
    """Raises ResizeUnclear, with the `command` that was typed, if the choice among tied resizes matters too much."""
    tied = ties(best, trials)
    if not tied or not (found := cost(best, tied)).too_high:
        return
    options = {resize: option for option, resize in RESIZES.items()}
    lines = "\n".join(
        f"  {command} {options[trial.resize]}   ({trial.accuracy:.0%}{_same_as(trial.resize, options[trial.resize])})"
        for trial in [best, *tied]
    )
    more = (
        "give more images, so that one way becomes clearly best,"
        if len(best.right) < MAX_IMAGES
        else f"ask the author of the training (more images do not help: of all, {MAX_IMAGES} are read)"
    )
    raise ResizeUnclear(
        f"the normalisation is {best.preprocess}, but the images do not show the resize. Several ways are right about"
        f" equally often, and on {found.contradicting} of {found.images} images another one is right where the best is"
        f" wrong. Between them, {found}.\nIf you know how the training loaded its images:\n{lines}\n"
        f"If you don't: {more} or choose the first, which is right most often on yours"
    )


def _same_as(resize: Resize, option: str) -> str:
    """The other loaders that resize in the same way."""
    others = [name for name, way in LOADERS.items() if way == resize and name not in option.split()]
    return f"; the same as {', '.join(others)}" if others else ""
