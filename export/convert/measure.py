"""Finds the normalisation and the resize of a training by trying them all on the user's labelled images.

Every combination runs through the owner's model. A normalisation is *clearly best* when, with each normalisation at its
best resize and on the same images,

1. no other is right more often, and
2. against each other one it is better by more than chance: of the images that only one of the two gets right, a sign
   test gives its lead less than 5 %, or the mean logarithm of the right class's probability is higher by three standard
   errors of the difference. If both are right equally often, the latter does not count for the one with larger inputs,
   since larger inputs make a network more certain, whatever it was trained on, and
3. it is right more often than guessing, by three standard deviations. doubts.py refuses the others.

The resize is the one that is right most often with that normalisation; among equals, the one that gives the right class
the highest mean log probability. tied_resizes.py says how sure that is.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.artefact.description import Assumption, Resize
from export.convert.normalisation import BGR, OWN_NUMBERS, by_name
from export.convert.original import ImageInput
from export.errors import ExportError, ImagesUnusable, NormalisationUnclear
from export.images import folder
from export.images.folder import LabelledImages
from export.images.resize import TENSORFLOW, Floats, Images, resized

#: More images make the verdict no clearer in most cases, and each runs once per combination.
MAX_IMAGES = 120

#: Fewer say nothing.
MIN_IMAGES = 8

#: Of the sign test.
_CHANCE = 0.05
SMALL_CHANCE = 0.01

_STANDARD_ERRORS = 3.0

#: Resizes that are tried when the user states none, by the options that state them.
RESIZES = {
    "--like image_dataset_from_directory": TENSORFLOW,
    "--like load_img": Resize("squash", None, "nearest"),
    "--like pillow": Resize("squash", None, "bicubic"),
    "--like image_dataset_from_directory --resize crop_to_aspect_ratio": replace(
        TENSORFLOW, mode="crop_to_aspect_ratio"
    ),
    "--like image_dataset_from_directory --resize pad_to_aspect_ratio": replace(TENSORFLOW, mode="pad_to_aspect_ratio"),
}

BATCH = 16

#: Probabilities [N,classes] of normalised images [N,H,W,C].
Classify = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class Trial:
    """One combination on all images: its answers [N,classes], which were right, and the log probability of the right
    class of each.
    """

    preprocess: str
    resize: Resize
    right: npt.NDArray[np.bool_] = field(repr=False)
    log_probability: npt.NDArray[np.float64] = field(repr=False)
    answers: npt.NDArray[np.float64] = field(repr=False)

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def rank(self) -> tuple[float, float]:
        return (self.accuracy, float(self.log_probability.mean()))


@dataclass(frozen=True, slots=True)
class Truth:
    """Images that could be decoded, with the output that is right for each.

    `unnamed` are the subfolders if none is named as a label: they count as the classes in their order.
    """

    files: tuple[Path, ...]
    classes: npt.NDArray[np.intp]
    skipped: int
    unnamed: tuple[str, ...] = ()


def truth(images: LabelledImages, labels: Sequence[str], *, limit: int = MAX_IMAGES) -> Truth:
    """Subfolders matched to outputs by name; by their order if none is a name. Raises ImagesUnusable."""
    names, by_order = list(labels), False
    if set(images.classes) <= set(names) and len(set(names)) == len(names):
        output_of = [names.index(name) for name in images.classes]
    elif by_order := len(images.classes) == len(names) and not set(images.classes) & set(names):
        output_of = list(range(len(names)))
    else:
        unknown = next(name for name in images.classes if name not in names)
        raise ImagesUnusable(
            f"{images.folder} has {len(images.classes)} subfolders and the model {len(names)} classes, and there is no"
            f" class {unknown!r}: name each subfolder as its class is named in --labels"
        )
    chosen = [(file, output_of[index]) for file, index in folder.spread(images.files, limit) if _decodes(file)]
    skipped = min(limit, len(images.files)) - len(chosen)
    if len(chosen) < MIN_IMAGES:
        raise ImagesUnusable(f"{images.folder} has {len(chosen)} images that can be read, and {MIN_IMAGES} are needed")
    return Truth(
        tuple(file for file, _ in chosen),
        np.array([index for _, index in chosen]),
        skipped,
        tuple(images.classes if by_order else ()),
    )


def _decodes(file: Path) -> bool:
    try:
        folder.read(file).load()
    # Damaged files raise what the decoder of their format likes.
    except Exception:  # noqa: BLE001
        return False
    return True


def pixels(found: Truth, given: ImageInput, resize: Resize) -> Images:
    """[N,H,W,C] of 0..255 as the service will hand them to the artefact."""
    images = (folder.read(file, given.channels, fast_dct=resize.fast_dct) for file in found.files)
    return np.stack([resized(image, given.height, given.width, resize) for image in images])


def tried(
    classify: Classify,
    found: Truth,
    given: ImageInput,
    *,
    modes: Sequence[str],
    resizes: Sequence[Resize],
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> list[Trial]:
    """Every combination, on the owner's model."""
    trials: list[Trial] = []
    for resize in resizes:
        images = pixels(found, given, resize)
        for mode in modes:
            trials.append(_trial(classify, found, images, mode, resize))
            on_progress(len(trials), len(modes) * len(resizes))
    return trials


def swapped(classify: Classify, found: Truth, given: ImageInput, trials: Sequence[Trial]) -> list[Trial]:
    """Trials with the channels as cv2.imread gives them, if such a one is clearly better than the best; else none.

    Hardly any loader gives BGR, so more than a small chance has to speak for it. Where the best is of BGR itself, all
    of them are its rivals.
    """
    best = best_of(trials)
    modes = [mode + BGR for mode in _modes(trials) if not by_name(mode).bgr]
    resizes = list(dict.fromkeys(trial.resize for trial in trials))

    def tried_with(modes: Sequence[str], resizes: Sequence[Resize]) -> list[Trial]:
        return tried(classify, found, given, modes=modes, resizes=resizes)

    others = tried_with(modes, (best.resize,))
    if by_name(best.preprocess).bgr:
        return others
    first = best_of(others)
    if first.rank <= best.rank or not clearly_better(first, best, chance=SMALL_CHANCE):
        return []
    return tried_with((first.preprocess,), resizes)


def _trial(classify: Classify, found: Truth, images: Images, mode: str, resize: Resize) -> Trial:
    normalised = by_name(mode).applied(images)
    try:
        answers = np.concatenate([classify(normalised[at : at + BATCH]) for at in range(0, len(images), BATCH)])
    except ExportError:
        answers = np.full((len(images), int(found.classes.max()) + 1), np.nan, np.float32)
    return judged(answers, found, mode, resize)


def judged(answers: Floats, found: Truth, mode: str, resize: Resize) -> Trial:
    """Probabilities [N,classes] held against the truth; an answer that is no number is wrong."""
    clean = np.nan_to_num(answers.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    own = clean[np.arange(len(clean)), found.classes]
    right = (clean.argmax(axis=1) == found.classes) & np.isfinite(answers).all(axis=1)
    return Trial(mode, resize, right, np.log(np.clip(own, 1e-12, 1)), clean)


def best_of(trials: Sequence[Trial]) -> Trial:
    return max(trials, key=lambda trial: trial.rank)


def choose(trials: Sequence[Trial]) -> tuple[Trial, Assumption]:
    """Of trials that beat guessing, the one to use, with the reason for its normalisation.

    Raises NormalisationUnclear.
    """
    best_with = [best_of([trial for trial in trials if trial.preprocess == mode]) for mode in _modes(trials)]
    first, *others = sorted(best_with, key=lambda trial: trial.rank, reverse=True)
    count = len(first.right)
    rivals = [other for other in others if not clearly_better(first, other)]
    if rivals:
        close, worse = (
            ", ".join(f"{trial.preprocess} {trial.accuracy:.0%}" for trial in trials)
            for trials in (rivals, [other for other in others if clearly_better(first, other)])
        )
        best = f"the best: {first.preprocess} {first.accuracy:.0%}; too close: {close}"
        more = "pass more images, or " if count < MAX_IMAGES else ""
        raise NormalisationUnclear(
            f"on {count} images no normalisation is clearly best ({best}{f'; worse: {worse}' if worse else ''}):"
            f" {more}say which it was with --preprocess\n{table(trials)}"
        )
    runner_up = f", the next best, {others[0].preprocess}, on {others[0].accuracy:.0%}" if others else ""
    # Numbers near to those that were tried can be as good as them on images, and give other probabilities.
    own = f"; if the training had other numbers, state them with --preprocess {OWN_NUMBERS}"
    why = f"right on {first.accuracy:.0%} of {count} labelled images{runner_up}{own}"
    return first, Assumption(first.preprocess, "measured", why)


def _modes(trials: Sequence[Trial]) -> list[str]:
    return list(dict.fromkeys(trial.preprocess for trial in trials))


def beats_guessing(trial: Trial, classes: int) -> bool:
    guess = 1 / classes
    deviation = math.sqrt(guess * (1 - guess) / len(trial.right))
    return trial.accuracy > min(guess + _STANDARD_ERRORS * deviation, 0.999)


def clearly_better(first: Trial, other: Trial, *, chance: float = _CHANCE) -> bool:
    """By the second condition."""
    if right_more_often(first, other, chance=chance):
        return True
    wins, losses = _differences(first, other)
    gain = first.log_probability - other.log_probability
    error = gain.std(ddof=1) / math.sqrt(len(gain))
    has_larger_inputs = by_name(first.preprocess).scale < by_name(other.preprocess).scale
    if wins < losses or (wins == losses and has_larger_inputs):
        return False
    return bool(gain.mean() > max(_STANDARD_ERRORS * error, 1e-6))


def right_more_often(first: Trial, other: Trial, *, chance: float) -> bool:
    """By a sign test."""
    return _sign_test(*_differences(first, other)) < chance


def _differences(first: Trial, other: Trial) -> tuple[int, int]:
    """How many images only the first gets right, and only the other. Both were tried on the same images."""
    return int((first.right & ~other.right).sum()), int((~first.right & other.right).sum())


def _sign_test(wins: int, losses: int) -> float:
    """The probability of so many wins or more if each difference went either way by chance."""
    total = wins + losses
    return float(sum(math.comb(total, k) for k in range(wins, total + 1)) / 2**total)


def table(trials: Sequence[Trial]) -> str:
    """Accuracies, one row per resize, one column per normalisation."""
    modes = _modes(trials)
    resizes = list(dict.fromkeys(trial.resize for trial in trials))
    accuracy = {(trial.resize, trial.preprocess): f"{trial.accuracy:.0%}" for trial in trials}
    width = max(len(str(resize)) for resize in resizes)
    head = " " * width + "".join(f"{mode:>10}" for mode in modes)
    rows = (
        f"{resize!s:<{width}}" + "".join(f"{accuracy.get((resize, mode), '-'):>10}" for mode in modes)
        for resize in resizes
    )
    return "\n".join((head, *rows))
