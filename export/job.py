"""What one export is asked to do, checked as far as that goes without TensorFlow."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from export.artefact import labels, repository
from export.artefact.description import NAME, Assumption, Interpolation, OutputKind, Resize, ResizeMode
from export.errors import BadArgument
from export.images.folder import LabelledImages
from export.images.resize import CROP_RATIO
from export.sources import model_file
from export.sources.architectures import Architecture

IMAGENET_CLASSES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeChoice:
    """What the user said about resizing. `like` is the loader's own way, the others change one part of it."""

    loader: str | None = None
    like: Resize | None = None
    mode: ResizeMode | None = None
    shorter_side: int | None = None
    interpolation: Interpolation | None = None

    @property
    def stated(self) -> bool:
        return any(part is not None for part in (self.like, self.mode, self.shorter_side, self.interpolation))

    def resolved(self, height: int, width: int, default: Resize) -> Resize:
        """The complete description, for images of height x width; raises BadArgument."""
        base = self.like or default
        mode, interpolation = self.mode or base.mode, self.interpolation or base.interpolation
        antialias = base.antialias or interpolation != base.interpolation
        if not (base.antialias and base.rounded) and interpolation in ("bicubic", "lanczos"):
            raise BadArgument(
                f"--interpolation {interpolation} is not available with --like {self.loader}, which keeps fractions or"
                " takes single pixels: its interpolation is bilinear or nearest"
            )
        kept = (antialias, base.rounded or interpolation != "bilinear", base.fast_dct)
        if mode != "crop":
            if self.shorter_side is not None:
                raise BadArgument("--shorter-side needs --resize crop")
            return Resize(mode, None, interpolation, *kept)
        longest = max(height, width)
        side = self.shorter_side or base.shorter_side or round(longest * CROP_RATIO)
        if side < longest:
            raise BadArgument(f"--shorter-side {side} is less than the {longest} pixels to be cut out")
        return Resize("crop", side, interpolation, *kept)

    def assumption(self, resize: Resize) -> Assumption:
        if self.loader is not None:
            return Assumption(str(resize), "stated", f"--like {self.loader}")
        return Assumption(str(resize), "stated", "--resize, --interpolation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """None stands for what the model itself decides; one of `architecture` and `file` is given.

    `file` may be a folder. `size` is (height, width) in pixels; `labels` are the user's own. `command` is what the user
    typed, which advice repeats.
    """

    architecture: Architecture | None
    file: Path | None
    weights: Literal["imagenet", "none"] | Path = "imagenet"
    classes: int | None = None
    labels: tuple[str, ...] | None = None
    layout: Literal["nchw", "nhwc"] | None = None
    size: tuple[int, int] | None = None
    preprocess: str | None = None
    output_kind: OutputKind | None = None
    images: LabelledImages | None = None
    resize: ResizeChoice = ResizeChoice()
    name: str | None = None
    version: int = 1
    output: Path = Path("models")
    opset: int = 17
    tolerance: float = 1e-4
    replaces: bool = False
    command: str = ""

    @property
    def model_name(self) -> str:
        """The user's choice, or the architecture's or file's own name in a form that fits."""
        if self.name is not None:
            return self.name
        if self.file is None:
            assert self.architecture is not None
            return self.architecture.name
        return model_file.name_of(self.file)

    @property
    def is_own_training(self) -> bool:
        """Whether the user trained the weights: what goes with an architecture's ImageNet weights says nothing then."""
        return self.file is not None or isinstance(self.weights, Path)

    @property
    def target(self) -> Path:
        return repository.path(self.output, name=self.model_name, version=self.version)

    def default_resize(self) -> Resize:
        """Published with an architecture's ImageNet weights; for a user's own training, Pillow's default."""
        if self.architecture is None or self.is_own_training:
            return Resize()
        return Resize(self.architecture.resize, self.architecture.shorter_side)

    def digest(self) -> str:
        """SHA-256 of the model's file and of everything that changes the artefact."""
        choices = {
            "architecture": None if self.architecture is None else self.architecture.name,
            "file": None if self.file is None else model_file.digest(self.file),
            "weights": model_file.digest(self.weights) if isinstance(self.weights, Path) else self.weights,
            "images": [(str(file), file.stat().st_size) for file, _ in self.images.files] if self.images else None,
            "options": [
                self.classes, self.labels, self.layout, self.size, self.preprocess, self.output_kind, self.opset,
                str(self.resize),
            ],
        }  # fmt: skip
        return hashlib.sha256(json.dumps(choices, sort_keys=True).encode()).hexdigest()


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


def check(job: Job) -> None:
    """Raises BadArgument, UnreadableFile: everything that shows before TensorFlow starts."""
    if not NAME.fullmatch(job.model_name):
        raise BadArgument(
            f"{job.model_name!r} can't be a model's name: letters, digits, dot, hyphen and underscore only,"
            " a letter or digit first (--name)"
        )
    for file in (job.file, job.weights):
        if isinstance(file, Path):
            model_file.check_readable(file)
    if job.architecture is not None:
        _check_application(job, job.architecture)
    elif (job.weights, job.classes) != ("imagenet", None):
        raise BadArgument("a model's file brings its own weights and classes: leave out --weights and --classes")


def _check_application(job: Job, architecture: Architecture) -> None:
    size = job.size or (architecture.size, architecture.size)
    if job.weights == "imagenet" and size != (architecture.size, architecture.size):
        raise BadArgument(
            f"the ImageNet weights of {architecture.name} are for {architecture.size}x{architecture.size}"
            " pixels: leave out --size, or pass --weights FILE"
        )
    if job.weights == "imagenet" and job.classes not in (None, IMAGENET_CLASSES):
        raise BadArgument("the ImageNet weights have 1000 classes: leave out --classes, or pass --weights FILE")
    if job.layout is not None:
        raise BadArgument("--layout is for a model's own file: leave it out")
    job.resize.resolved(*size, job.default_resize())
    if job.labels is not None:
        labels.check(job.labels, classes=classes(job), origin="the labels file")
    elif job.weights == "none" and classes(job) != IMAGENET_CLASSES and job.images is None:
        labels.check(labels.imagenet(), classes=classes(job), origin="the ImageNet list (used without --labels)")


def classes(job: Job) -> int:
    """The outputs that a named architecture gets."""
    if job.classes is not None:
        return job.classes
    if job.weights == "imagenet":
        return IMAGENET_CLASSES
    names = job.labels or (job.images.classes if job.images is not None else ())
    return len(names) or IMAGENET_CLASSES


def with_fallback(job: Job, fallback: Architecture) -> Job:
    """The same export of another architecture, whose own size and resizing apply."""
    resize = replace(job.resize, mode=None, shorter_side=None)
    return replace(job, architecture=fallback, preprocess=None, size=None, resize=resize)
