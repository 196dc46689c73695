"""How far a network of lower precision says what its fp32 form says."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from export.artefact.description import OutputKind
from export.errors import TooFarFromFp32

#: Share of images with the same first class, below which an artefact is refused.
MIN_AGREEMENT = 0.9

#: Where the first class leads the second by this probability, fp32 is taken to be decided: a change of
#: the first class is a mistake there, and a matter of taste elsewhere.
DECISIVE_MARGIN = 0.1

#: A label is right or wrong at this probability.
THRESHOLD = 0.5

#: Of the range that a value has over the images.
VALUE_SHARE = 0.05

_AGREES = {
    "classes": "same top-1 as fp32",
    "binary": "same top-1 as fp32",
    "labels": "same labels as fp32",
    "values": f"within {VALUE_SHARE:.0%} of fp32's range",
}

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Agreement:
    """With fp32; `decided` are the images where fp32 leads by 0.1, None stands for no such image."""

    kind: Literal["held-out", "synthetic"]
    images: int
    top1_agreement: float
    decided_images: int
    decided_top1_agreement: float | None
    max_abs_difference: float
    output_kind: OutputKind = "classes"

    def __str__(self) -> str:
        share = self.decided_top1_agreement
        decided = "" if share is None else f" ({round(share * self.decided_images)} of the {self.decided_images} where"
        agrees = _AGREES[self.output_kind]
        return (
            f"{agrees} on {round(self.top1_agreement * self.images)} of {self.images} {self.kind} images"
            f"{decided and f'{decided} fp32 leads by {DECISIVE_MARGIN:g})'},"
            f" largest difference {self.max_abs_difference:.1e}"
        )


def measure(
    fp32: Floats, reduced: Floats, *, kind: Literal["held-out", "synthetic"], output_kind: OutputKind = "classes"
) -> Agreement:
    """Both [images,outputs]. Agreement is on the first class, on all labels, or on all values within 5 %."""
    same, decided = _compared(fp32, reduced, output_kind)
    return Agreement(
        kind=kind,
        images=len(fp32),
        top1_agreement=float(same.mean()),
        decided_images=int(decided.sum()),
        decided_top1_agreement=float(same[decided].mean()) if decided.any() else None,
        max_abs_difference=float(np.abs(fp32 - reduced).max()),
        output_kind=output_kind,
    )


def _compared(fp32: Floats, reduced: Floats, output_kind: OutputKind) -> tuple[Flags, Flags]:
    """For each image whether the two agree, and whether fp32 is decided."""
    if output_kind == "values":
        allowed = VALUE_SHARE * np.ptp(fp32, axis=0)
        return (np.abs(fp32 - reduced) <= allowed).all(axis=1), np.zeros(len(fp32), bool)
    if output_kind == "labels":
        same = ((fp32 >= THRESHOLD) == (reduced >= THRESHOLD)).all(axis=1)
        return same, (np.abs(fp32 - THRESHOLD) >= DECISIVE_MARGIN).all(axis=1)
    best = np.sort(fp32, axis=1)[:, -2:]
    return fp32.argmax(axis=1) == reduced.argmax(axis=1), best[:, 1] - best[:, 0] >= DECISIVE_MARGIN


def check(found: Agreement, *, least: float) -> None:
    """Raises TooFarFromFp32 where it is below `least`, over all images or over those that fp32 is sure of."""
    shares = [share for share in (found.top1_agreement, found.decided_top1_agreement) if share is not None]
    if found.kind == "synthetic" and found.decided_top1_agreement is not None:
        # Where fp32 itself is undecided about an image of nothing, a change of the first class says nothing.
        shares = [found.decided_top1_agreement]
    largest = math.inf if found.output_kind == "values" else 1.0
    # Written so that a difference which is not a number fails as well.
    if min(shares) >= least and found.max_abs_difference <= largest:
        return
    raise TooFarFromFp32(
        f"{found}; {least:.0%} is wanted, nothing was written: calibrate with more images of the kind that"
        " will be classified, or accept it with --min-agreement"
    )
