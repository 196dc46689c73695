"""What one export is asked to do, checked as far as that goes without TensorFlow."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from export.artefact import labels, repository
from export.artefact.description import Resize
from export.convert.parity import Parity
from export.errors import BadArgument, UnreadableFile
from export.sources.architectures import Architecture

IMAGENET_CLASSES = 1000

#: ImageNet is tested on the centre that remains of 256 pixels when 224 are cut out.
CROP_RATIO = 256 / 224

#: A name becomes a folder, part of an address and part of a Redis key's hash tag.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """None stands for what the model itself decides; one of `architecture`, `keras_file`, `onnx_file` is given.

    `size` is (height, width) in pixels; `labels` are the user's own.
    """

    architecture: Architecture | None
    keras_file: Path | None
    onnx_file: Path | None = None
    layout: Literal["nchw", "nhwc"] | None = None
    softmax: Literal["auto", "yes", "no"] = "auto"
    weights: Literal["imagenet", "none"] | Path
    classes: int | None
    labels: tuple[str, ...] | None
    preprocess: str | None
    size: tuple[int, int] | None
    resize: Literal["squash", "crop"] | None
    shorter_side: int | None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]
    name: str | None
    version: int
    output: Path
    opset: int
    tolerance: float

    @property
    def model_name(self) -> str:
        """The user's choice, or the architecture's or file's own name in a form that fits."""
        if self.name is not None:
            return self.name
        file = self.keras_file or self.onnx_file
        if file is None:
            assert self.architecture is not None
            return self.architecture.name
        return re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-._") or "model"

    @property
    def target(self) -> Path:
        return repository.path(self.output, name=self.model_name, version=self.version)

    def resize_to(self, height: int, width: int) -> Resize:
        """How images become height x width; raises BadArgument."""
        mode = self.resize or (self.architecture.resize if self.architecture else "squash")
        if mode == "squash":
            if self.shorter_side is not None:
                raise BadArgument("--shorter-side needs --resize crop")
            return Resize("squash", None, self.interpolation)
        published = self.architecture.shorter_side if self.architecture else None
        longest = max(height, width)
        shorter_side = self.shorter_side or published or round(longest * CROP_RATIO)
        if shorter_side < longest:
            raise BadArgument(f"--shorter-side {shorter_side} is less than the {longest} pixels to be cut out")
        return Resize("crop", shorter_side, self.interpolation)


def check(job: Job) -> None:
    """Raises BadArgument, LabelsMismatch, UnreadableFile: all that shows before TensorFlow starts."""
    if not NAME.fullmatch(job.model_name):
        raise BadArgument(
            f"{job.model_name!r} can't be a model's name: letters, digits, dot, hyphen and underscore only,"
            " a letter or digit first (--name)"
        )
    for file in (job.keras_file, job.onnx_file, job.weights):
        if isinstance(file, Path):
            _check_readable(file)
    if job.architecture is not None:
        _check_application(job, job.architecture)
    elif (job.weights, job.classes) != ("imagenet", None):
        option = "--keras" if job.keras_file is not None else "--onnx"
        raise BadArgument(f"{option} FILE brings its own weights and classes: leave out --weights and --classes")


def _check_readable(file: Path) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise UnreadableFile(f"can't read {file}: {error.strerror or error}") from error


def _check_application(job: Job, architecture: Architecture) -> None:
    size = job.size or (architecture.size, architecture.size)
    if job.weights == "imagenet" and size != (architecture.size, architecture.size):
        raise BadArgument(
            f"the ImageNet weights of {architecture.name} are for {architecture.size}x{architecture.size}"
            " pixels: leave out --size, or pass --weights FILE"
        )
    if job.weights == "imagenet" and job.classes not in (None, IMAGENET_CLASSES):
        raise BadArgument("the ImageNet weights have 1000 classes: leave out --classes, or pass --weights FILE")
    job.resize_to(*size)
    if job.labels is not None or classes(job) != IMAGENET_CLASSES:
        labels.check(job.labels or labels.imagenet(), classes=classes(job), origin=_origin(job))


def _origin(job: Job) -> str:
    return "the labels file" if job.labels is not None else "the ImageNet list (used without --labels)"


def classes(job: Job) -> int:
    """The outputs that a named architecture gets."""
    if job.classes is not None:
        return job.classes
    return len(job.labels) if job.labels and job.weights != "imagenet" else IMAGENET_CLASSES


def labels_for(job: Job, *, outputs: int) -> tuple[str, ...]:
    """The names of the model's outputs; raises LabelsMismatch."""
    chosen = job.labels if job.labels is not None else labels.imagenet()
    labels.check(chosen, classes=outputs, origin=_origin(job))
    return chosen


def instead(job: Job, fallback: Architecture) -> Job:
    """The same export of another architecture, whose own size and resizing hold."""
    return replace(job, architecture=fallback, preprocess=None, size=None, resize=None, shorter_side=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionJob:
    """The conversion of an fp32 artefact to another precision; `version` None stands for the next free number."""

    precision: Literal["fp16", "int8"]
    calibration_folder: Path | None
    min_agreement: float
    name: str | None
    version: int | None
    output: Path

    def target(self, source_name: str) -> Path:
        """Where the result belongs when the fp32 artefact has this name."""
        name = self.name or source_name
        number = self.version or repository.next_version(self.output, name=name)
        return repository.path(self.output, name=name, version=number)


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written. `reference` names the model that the parity was measured against."""

    path: Path
    size_bytes: int
    parity: Parity
    reference: str
