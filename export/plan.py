"""Decides how a model is to be used: what comes in front of it, what behind it, and how images become its input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from export import decisions, questions
from export.artefact.description import Assumption, Resize
from export.convert import doubts, input_range, measure, output_kind, output_path, parity, tied_resizes
from export.convert.measure import Trial, Truth
from export.convert.normalisation import BGR, OWN_NUMBERS, by_name, choices_for
from export.convert.original import BareGraph, Original
from export.convert.output_kind import Head
from export.convert.parity import Floats, Pixels
from export.errors import BadArgument, LabelsMismatch, NormalisationUnclear, OutputUnclear
from export.images.resize import LOADERS
from export.job import Job

#: Largest difference of a probability if a file computes in fp16 or int8: within the larger graph ONNX Runtime
#: may round at other places. What goes by mistake is off by a tenth and more.
LOWER_PRECISION_TOLERANCE = 5e-3

#: The reason for a normalisation that the user stated, and the file does not contradict.
STATED = "--preprocess"


@dataclass(frozen=True, slots=True)
class Plan:
    """How the model is used. `expected`: the artefact's outputs for `images`, by the owner's model.

    `doubt`: what the labelled images say against it.
    """

    preprocess: str
    resize: Resize
    head: Head
    labels: tuple[str, ...]
    assumptions: dict[str, Assumption]
    images: Pixels = field(repr=False)
    expected: Floats = field(repr=False)
    truth: Truth | None = field(repr=False, default=None)
    trials: tuple[Trial, ...] = field(repr=False, default=())
    doubt: str | None = None


def make(job: Job, original: Original, bare: BareGraph, on_progress: Callable[[int, int], None]) -> Plan:
    given = original.input
    images = parity.sample_images(given.height, given.width, given.channels)
    normalisation = _normalisation(job, original, bare)
    mode = normalisation.value if normalisation else choices_for(given.channels)[0]
    scores = _scores(original, mode, images, tolerance=tolerance_of(job, original))
    head = _head(job, original, bare, scores, normalisation)
    outputs = 2 if head.gives_two_of_one else scores.shape[1]
    labels, named = _labels(job, original, head, outputs, normalisation)
    resize, resized = _resize(job, original)
    truth: Truth | None = None
    trials: list[Trial] = []
    doubt: str | None = None
    if job.images is not None and head.kind in ("classes", "binary"):
        settled = resized.basis != "assumed"
        resizes = (resize,) if settled else tuple(measure.RESIZES.values())
        truth = measure.truth(job.images, labels)
        trials, others = _trials(job, original, head, truth, normalisation, resizes, on_progress)
        doubts.check(trials, others, truth, labels, normalisation)
        best, measured = measure.choose(trials)
        doubt = doubts.better(trials, others)
        if not settled:
            resize, resized = best.resize, tied_resizes.assumption(best, trials)
            tied_resizes.check(best, trials, questions.command(job))
        if normalisation is None or normalisation.value != best.preprocess:
            normalisation = measured
        trials += others
    if given.element == "uint8":
        resize = replace(resize, rounded=True)
    if normalisation is None:
        only = ". --images measures it for classes and binary models only" if job.images is not None else ""
        raise NormalisationUnclear(questions.normalisation(job, given.channels) + only)
    if normalisation.value != mode:
        scores = _scores(original, normalisation.value, images, tolerance=tolerance_of(job, original))
    return Plan(
        preprocess=normalisation.value,
        resize=resize,
        head=head,
        labels=labels,
        assumptions={"normalisation": normalisation, "output": head.assumption, "resize": resized, "labels": named},
        images=images,
        expected=head.applied(scores),
        truth=truth,
        trials=tuple(trials),
        doubt=doubt,
    )


def _normalisation(job: Job, original: Original, bare: BareGraph) -> Assumption | None:
    """Known or stated; None if it has to be measured. Raises BadArgument."""
    given = original.input
    if job.preprocess is not None and not by_name(job.preprocess).fits(given.channels):
        raise BadArgument(
            f"--preprocess {job.preprocess} does not fit the model, which takes {given.channels} channel(s): choose one"
            f" of {', '.join(choices_for(given.channels))} or {OWN_NUMBERS}"
        )
    if given.element == "uint8" and job.preprocess not in (None, "none", "none" + BGR):
        raise BadArgument(
            f"the model takes uint8 pixels and normalises them itself: leave out --preprocess {job.preprocess}"
        )
    found = original.preprocess
    if found is None:
        arithmetic = input_range.find(
            bare.proto, bare.input_name, channel_axis=given.channel_axis, channels=given.channels
        )
        found = input_range.verdict(arithmetic)
        if given.element == "uint8":
            found = Assumption("none", "known", "the model takes uint8 pixels and normalises them itself")
    if job.preprocess is None or (found is not None and found.value == job.preprocess):
        return found or _of_random_weights(job)
    although = f", although {found.why}" if found is not None else ""
    return Assumption(job.preprocess, "stated", f"{STATED}{although}")


def _of_random_weights(job: Job) -> Assumption | None:
    """That of the ImageNet weights, since nothing was trained."""
    if job.weights != "none" or job.architecture is None:
        return None
    mode = job.architecture.preprocess
    return Assumption(mode, "assumed", f"that of {job.architecture.name}'s ImageNet weights; these are random")


def _scores(original: Original, mode: str, images: Pixels, *, tolerance: float) -> Floats:
    """The owner's own answers, [images,outputs]; raises NotAClassifier if they depend on the rest of the batch."""

    def answer(batch: Pixels) -> Floats:
        return original.predict(prepared(original, mode, batch))

    scores = output_kind.check(parity.answers(answer, images), len(images))
    if not original.single:

        def alone() -> Floats:
            given = parity.answers_alone(answer, images)
            return given.reshape(len(given), -1)

        parity.check_independent(scores, alone(), alone, tolerance=tolerance)
    return scores


def prepared(original: Original, mode: str, images: Pixels) -> npt.NDArray[np.generic]:
    """The images as the owner prepares them, in the model's own layout."""
    return original.input.arranged(by_name(mode).applied(images))


def tolerance_of(job: Job, original: Original) -> float:
    return job.tolerance if original.precision == "fp32" else max(job.tolerance, LOWER_PRECISION_TOLERANCE)


def _head(job: Job, original: Original, bare: BareGraph, scores: Floats, normalisation: Assumption | None) -> Head:
    ending = output_path.ending(bare.proto, bare.output_name)
    exact = original.precision == "fp32"
    tolerance = output_kind.SUM_TOLERANCE if exact else output_kind.ROUNDED_SUM_TOLERANCE
    try:
        return output_kind.decide(ending, scores, stated=job.output_kind, loss=original.loss, tolerance=tolerance)
    except OutputUnclear as error:
        # All questions at once, so that the next attempt succeeds.
        others = questions.others(job, original.input.channels, scaled=normalisation is not None)
        raise OutputUnclear(f"{error}{others}") from error


def _labels(
    job: Job, original: Original, head: Head, outputs: int, normalisation: Assumption | None
) -> tuple[decisions.Names, Assumption]:
    try:
        return decisions.labels_for(job, original, head.kind, outputs)
    except LabelsMismatch as error:
        if normalisation is None and job.images is None:
            asked = questions.normalisation(job, original.input.channels, names=" --labels FILE")
            raise LabelsMismatch(f"{error}.\nAnd {asked}") from error
        raise


def _resize(job: Job, original: Original) -> tuple[Resize, Assumption]:
    given = original.input
    default = job.default_resize() if original.loader is None else LOADERS[original.loader]
    resize = job.resize.resolved(given.height, given.width, default)
    if job.resize.stated:
        return resize, job.resize.assumption(resize)
    if original.loader is not None:
        basis = original.preprocess.basis if original.preprocess else "known"
        return resize, Assumption(str(resize), basis, f"as {original.loader}, which the file is from")
    if job.architecture is not None and not job.is_own_training:
        return resize, Assumption(str(resize), "assumed", "the default for this network")
    return resize, Assumption(str(resize), "assumed", "--like LOADER names the loader of the training")


def _trials(
    job: Job,
    original: Original,
    head: Head,
    truth: Truth,
    normalisation: Assumption | None,
    resizes: Sequence[Resize],
    on_progress: Callable[[int, int], None],
) -> tuple[list[Trial], list[Trial]]:
    """Those to choose from, and those with other normalisations than the stated one, which are only compared."""
    choices = questions.choices(job, original.input.channels)
    modes = choices if normalisation is None else (normalisation.value,)
    given = original.input

    def classify(images: Floats) -> Floats:
        raw = np.rint(images).astype(np.uint8) if given.element == "uint8" else images
        return head.applied(output_kind.check(original.predict(given.arranged(raw)), len(images)))

    trials = measure.tried(classify, truth, given, modes=modes, resizes=resizes, on_progress=on_progress)
    if job.preprocess is None and given.channels == 3:
        trials += measure.swapped(classify, truth, given, trials)
    others: list[Trial] = []
    if normalisation is not None and normalisation.basis == "stated" and given.element != "uint8":
        best = measure.best_of(trials)
        rivals = [mode for mode in choices if mode != normalisation.value]
        others = measure.tried(classify, truth, given, modes=rivals, resizes=(best.resize,))
    return trials, others
