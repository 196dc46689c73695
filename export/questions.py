"""What export asks for if neither the model nor the user tells it. One message asks for all that is missing."""

import shlex
from pathlib import Path

from export.convert.normalisation import (
    BGR,
    BGR_MEANING,
    LITE_MEANING,
    MEANINGS,
    OWN_NUMBERS,
    OWN_NUMBERS_MEANING,
    choices_for,
)
from export.errors import OwnCode, SizeUnclear
from export.images.resize import LOADERS
from export.job import Job
from export.sources.architectures import LITE0

_HOW = "tell how the pixels were scaled before training, and a wrong guess gives wrong answers."


def check_size(job: Job) -> None:
    """Raises SizeUnclear for weights of a user's own, which fit a network of any size."""
    architecture = job.architecture
    if architecture is None or architecture is LITE0 or not isinstance(job.weights, Path) or job.size is not None:
        return
    raise with_size(
        job,
        f"{job.weights} does not tell the size of its training's images, and another one gives wrong answers: pass"
        f" --size HxW, such as --size {architecture.size}, which {architecture.name}'s ImageNet weights take",
    )


def with_size(job: Job, why: str) -> SizeUnclear:
    """The question about the size, with those that would come after it."""
    scales_itself = job.architecture is not None and job.architecture.preprocess == "none"
    return SizeUnclear(f"{why}{others(job, channels=3, scaled=scales_itself, size=' --size HxW')}")


def with_saved_model(job: Job, why: str) -> OwnCode:
    """The way out for a model with code of its owner's: a SavedModel holds the operations instead of the code."""
    assert job.file is not None
    folder = job.file.with_name(f"{job.file.stem}_savedmodel")
    words = ((word, word.removeprefix("--keras=")) for word in shlex.split(command(job)))
    typed = shlex.join(word.replace(path, str(folder)) if Path(path) == job.file else word for word, path in words)
    return OwnCode(
        f"{why}. Load it where your own code is, and export it from there:\n"
        f'    model.export("{folder}")          # in Python; in Keras 2: model.save("{folder}", save_format="tf")\n'
        f"    {typed}  # in a shell"
    )


def others(job: Job, channels: int, *, scaled: bool, size: str = "") -> str:
    """What else is missing: the labels, and the normalisation unless that is known; empty if --images is given."""
    if job.images is not None:
        return ""
    unnamed = job.labels is None
    asked = ".\nAnd nothing names the classes: pass --labels FILE with one name per class, in the order of the outputs"
    if scaled or job.preprocess is not None:
        return asked if unnamed else ""
    # The graph of a file may prove it, but is not made without a size.
    source = "the file may" if size and job.file is not None else _source(job)
    commands = _commands(job, channels, size=size, names=" --labels FILE" if unnamed else "")
    return f"{asked if unnamed else ''}.\nAnd {source} not {_HOW}\n{commands}"


def normalisation(job: Job, channels: int, *, names: str = "") -> str:
    """What a beginner can answer, and the two commands that help. `names` states the labels, as --images does."""
    return f"{_source(job)} not {_HOW}\n{_commands(job, channels, names=names)}"


def _source(job: Job) -> str:
    return "the weights do" if job.architecture is not None else "the file does"


def _commands(job: Job, channels: int, *, size: str = "", names: str = "") -> str:
    meanings = {name: MEANINGS.get(name, LITE_MEANING) for name in choices(job, channels)}
    meanings[OWN_NUMBERS] = OWN_NUMBERS_MEANING
    added = f"; {BGR}: {BGR_MEANING}" if channels == 3 else ""
    typed = f"{command(job)}{size}"
    imagenet = ""
    if job.architecture is not None:
        imagenet = f"\n{job.architecture.name}'s ImageNet weights were trained with {job.architecture.preprocess}"
    like = "" if job.resize.stated else " --like LOADER"
    loaders = "" if job.resize.stated else f"\nLOADER loaded the images of the training: {', '.join(LOADERS)}"
    return (
        f"If you know it:  {typed}{names} --preprocess {'|'.join(meanings)}{like}\n"
        f"If you don't:    {typed} --images FOLDER   (one subfolder of images per class;"
        " it is measured)\n"
        f"({'; '.join(f'{name}: {meaning}' for name, meaning in meanings.items())}{added}){loaders}{imagenet}"
    )


def choices(job: Job, channels: int) -> tuple[str, ...]:
    """The names of the normalisations that the training may have had."""
    own = () if job.architecture is None else (job.architecture.preprocess,)
    return tuple(dict.fromkeys((*choices_for(channels), *own)))


def command(job: Job) -> str:
    """What the user typed."""
    return job.command or f"python -m export {job.file.name if job.file is not None else job.model_name}"
