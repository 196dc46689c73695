"""Turns the command line into jobs: what to export, how to convert it to another precision, and how to go about it.

Argparse ends the process with exit status 2 for what it checks, as the package's own errors do.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.artefact import labels, repository
from export.cli import DEFAULT_ARCHITECTURE, parser
from export.errors import BadArgument
from export.images import folder
from export.images.resize import LOADERS
from export.job import Job, PrecisionJob, ResizeChoice
from export.precision import calibration_images
from export.sources import architectures, model_file
from export.sources.architectures import Architecture

MODELS = Path("models")

#: A word that ends so is a file and not the name of an architecture, whether the ending is spelled rightly or not.
_ENDING = re.compile(r"\.[A-Za-z]\w*")


@dataclass(frozen=True, slots=True)
class Arguments:
    """One of these is given: `job`; `source`, a finished artefact's file; or `present`, one that --if-missing finds and
    whose name is no architecture's. `precision` is given if another one is wanted.

    `next_version`: the job becomes the next version, whatever number it has.
    """

    job: Job | None
    source: Path | None
    present: Path | None
    precision: PrecisionJob | None
    fallback: Architecture | None
    if_missing: bool
    if_changed: bool
    force: bool
    next_version: bool


def parse(argv: Sequence[str] | None = None) -> Arguments:
    """Raises BadArgument, UnreadableFile, ImagesUnusable; argparse's own SystemExit(2) for what it checks."""
    words = sys.argv[1:] if argv is None else list(argv)
    options = parser()
    given = options.parse_args(words)
    given.typed = given.typed or f"{options.prog} {shlex.join(words)}"
    _check_one_model(given)
    _check_precision(given)
    source = None if given.source is None else repository.find(given.source)
    output = given.output or (source and repository.around(source)) or MODELS
    present = _present(given, output)
    return Arguments(
        job=None if source is not None or present is not None else _job(given, output),
        source=source,
        present=present,
        precision=_precision(given, output),
        fallback=None if given.fallback is None else architectures.find(given.fallback),
        if_missing=given.if_missing,
        if_changed=given.if_changed,
        force=given.force,
        next_version=given.version is None and not (given.if_missing or given.force),
    )


def _check_one_model(given: argparse.Namespace) -> None:
    for option, file in (("--keras PATH", given.keras), ("--onnx FILE", given.onnx), ("--from PATH", given.source)):
        if file is None:
            continue
        others = [other for other in (given.keras, given.onnx, given.source) if other not in (None, file)]
        if given.model is not None or given.fallback is not None or others:
            raise BadArgument(f"{option} is a model of its own: leave out the architecture, --fallback and other files")
    described = (
        given.labels, given.classes, given.preprocess, given.size, given.resize, given.shorter_side, given.like,
        given.images, given.output_kind, given.layout,
    )  # fmt: skip
    if given.source is not None and set(described) != {None}:
        raise BadArgument(
            "--from PATH names an artefact, which has its labels, size, normalisation, output kind and resize: leave"
            " these options out"
        )


def _check_precision(given: argparse.Namespace) -> None:
    if given.precision == "fp32" and (given.source is not None or given.calibrate is not None):
        option = "--from PATH" if given.source is not None else "--calibrate FOLDER"
        raise BadArgument(f"{option} is for another precision: pass --precision int8 or --precision fp16")
    if given.precision == "int8" and given.calibrate is None:
        raise BadArgument(
            f"--precision int8 needs --calibrate FOLDER with {calibration_images.MIN_IMAGES} images or more, like those"
            " that will be classified"
        )
    if given.precision != "fp32" and given.if_changed:
        raise BadArgument("--if-changed is for fp32: leave it out, or leave out --precision")
    if given.precision != "fp32" and given.if_missing and given.version is None:
        raise BadArgument(f"--if-missing with --precision {given.precision} needs --version: the next is always free")


def _file(given: argparse.Namespace) -> Path | None:
    """The model's file or folder, if it is not an architecture that is named."""
    if given.keras is not None or given.onnx is not None:
        path: Path = given.keras or given.onnx
        return path
    if given.model is None or architectures.known(given.model):
        return None
    path = Path(given.model)
    if path.exists() or len(path.parts) > 1 or _ENDING.fullmatch(path.suffix):
        return path
    files = (f"{given.model}{suffix}" for suffix in model_file.SUFFIXES)
    if there := next((file for file in files if Path(file).exists()), None):
        raise BadArgument(f"there is no architecture {given.model!r}; for the file {there}, write its whole name")
    return None


def _present(given: argparse.Namespace, output: Path) -> Path | None:
    """An artefact that was copied there: nothing else is known of it, so it could not be exported."""
    nameable = given.if_missing and given.model is not None and not architectures.known(given.model)
    return repository.newest(output, name=given.model) if nameable and _file(given) is None else None


def _job(given: argparse.Namespace, output: Path) -> Job:
    file = _file(given)
    if given.fallback is not None and (file is not None or given.weights != "imagenet"):
        raise BadArgument("--fallback is for an architecture whose weights are downloaded: leave it out")
    return Job(
        architecture=None if file is not None else architectures.find(given.model or DEFAULT_ARCHITECTURE),
        file=file,
        weights=given.weights if given.weights in ("imagenet", "none") else Path(given.weights),
        classes=given.classes,
        labels=_labels(given.labels),
        layout=given.layout,
        size=given.size,
        preprocess=given.preprocess,
        output_kind=given.output_kind,
        images=None if given.images is None else folder.labelled(given.images),
        resize=ResizeChoice(
            loader=given.like,
            like=None if given.like is None else LOADERS[given.like],
            mode=given.resize,
            shorter_side=given.shorter_side,
            interpolation=given.interpolation,
        ),
        name=given.name,
        version=given.version or 1,
        output=output,
        opset=given.opset,
        tolerance=given.tolerance,
        replaces=given.force,
        command=given.typed,
    )


def _labels(given: str | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    return labels.imagenet() if given == labels.IMAGENET else labels.read(Path(given))


def _precision(given: argparse.Namespace, output: Path) -> PrecisionJob | None:
    if given.precision == "fp32":
        return None
    if given.calibrate is not None:
        calibration_images.find(given.calibrate)
    return PrecisionJob(
        precision=given.precision,
        calibration_folder=given.calibrate,
        min_agreement=given.min_agreement,
        name=given.name,
        version=given.version,
        output=output,
    )
