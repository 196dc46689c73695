"""Decides how a model is to be used: its labels and its resize. Each decision comes with its reason."""

from export.artefact import labels
from export.artefact.description import Assumption, OutputKind
from export.convert.original import Original
from export.errors import LabelsMismatch
from export.job import IMAGENET_CLASSES, Job

Names = tuple[str, ...]


def labels_for(job: Job, original: Original, kind: OutputKind, outputs: int) -> tuple[Names, Assumption]:
    """One name per output of the artefact; raises LabelsMismatch."""
    names, assumption = _chosen(job, original, kind, outputs)
    if kind == "binary" and len(names) == 1:
        names = (f"not {names[0]}", names[0])
    labels.check(names, classes=outputs, order=_order(kind), origin=f"the list of names ({assumption.why})")
    return names, assumption


def _chosen(job: Job, original: Original, kind: OutputKind, outputs: int) -> tuple[Names, Assumption]:
    if job.labels is not None:
        return job.labels, _named("stated", "--labels")
    if original.labels is not None:
        return original.labels, _named("known", "the model's file brings them along")
    if job.architecture is not None and job.weights == "imagenet":
        return labels.imagenet(), _named("known", "ImageNet's, for which the weights were made")
    if kind == "values":
        return tuple(map(str, range(outputs))), _named("assumed", "numbers, since no --labels were given")
    if job.images is not None and len(job.images.classes) == outputs:
        return job.images.classes, _named(
            "stated", "the subfolders of --images, in alphabetical order as Keras has them"
        )
    if job.weights == "none":
        return _of_random_weights(outputs)
    imagenet = " (--labels imagenet: ImageNet's names, in Keras's order)" if outputs == IMAGENET_CLASSES else ""
    raise LabelsMismatch(
        f"nothing names the model's {outputs} classes: pass --labels FILE with {outputs} names,"
        f" {_order(kind)}{imagenet}, or --images FOLDER with a subfolder for each. If they have no names, number them:"
        f" seq 0 {outputs - 1} > labels.txt"
    )


def _order(kind: OutputKind) -> str:
    if kind == "binary":
        return "first that of outputs near 0, as in Keras's class_indices, or with the one name of outputs near 1"
    return labels.OUTPUT_ORDER


def _of_random_weights(outputs: int) -> tuple[Names, Assumption]:
    if outputs == IMAGENET_CLASSES:
        return labels.imagenet(), _named("assumed", "ImageNet's, for a network with random weights")
    raise LabelsMismatch(
        f"the ImageNet list has {IMAGENET_CLASSES} labels, but the model has {outputs} classes: pass --labels FILE with"
        f" {outputs} names"
    )


def _named(basis: str, why: str) -> Assumption:
    return Assumption("names", basis, why)  # type: ignore[arg-type]  # one of the literals above
