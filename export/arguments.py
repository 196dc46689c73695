"""The command line as tasks: what to export, how to reduce it, and how to go about it.

Argparse ends with exit status 2 by itself, as the package's own errors do.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.artefact import labels, repository
from export.cli import DEFAULT_ARCHITECTURE, parser
from export.errors import BadArgument
from export.job import Job, PrecisionJob
from export.precision import calibration_images
from export.sources import architectures
from export.sources.architectures import Architecture

MODELS = Path("models")


@dataclass(frozen=True, slots=True)
class Arguments:
    """Either `job` or `source`, a finished artefact's file, is given; `reduction` if another precision is wanted."""

    job: Job | None
    source: Path | None
    reduction: PrecisionJob | None
    fallback: Architecture | None
    if_missing: bool
    force: bool


def parse(argv: Sequence[str] | None = None) -> Arguments:
    """Raises BadArgument, UnreadableFile, ImagesUnusable; argparse's own SystemExit(2) for what it checks."""
    given = parser().parse_args(argv)
    _check_one_model(given)
    _check_precision(given)
    source = None if given.source is None else repository.find(given.source)
    output = given.output or (source and repository.around(source)) or MODELS
    return Arguments(
        job=None if source is not None else _job(given, output),
        source=source,
        reduction=_reduction(given, output),
        fallback=None if given.fallback is None else architectures.find(given.fallback),
        if_missing=given.if_missing,
        force=given.force,
    )


def _check_one_model(given: argparse.Namespace) -> None:
    for option, file in (("--keras FILE", given.keras), ("--onnx FILE", given.onnx), ("--from PATH", given.source)):
        if file is None:
            continue
        others = [other for other in (given.keras, given.onnx, given.source) if other not in (None, file)]
        if given.architecture is not None or given.fallback is not None or others:
            raise BadArgument(f"{option} is a model of its own: leave out the architecture, --fallback and other files")
    if given.onnx is None and (given.layout is not None or given.softmax != "auto"):
        raise BadArgument("--layout and --softmax are for --onnx FILE: leave them out")
    described = (given.labels, given.classes, given.preprocess, given.size, given.resize, given.shorter_side)
    if given.source is not None and set(described) != {None}:
        raise BadArgument(
            "--from PATH says itself which labels, size, --preprocess and --resize it has: leave these options out"
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
    if given.precision != "fp32" and given.if_missing and given.version is None:
        raise BadArgument(f"--if-missing with --precision {given.precision} needs --version: the next is always free")


def _job(given: argparse.Namespace, output: Path) -> Job:
    own = given.keras is not None or given.onnx is not None
    return Job(
        architecture=None if own else architectures.find(given.architecture or DEFAULT_ARCHITECTURE),
        keras_file=given.keras,
        onnx_file=given.onnx,
        layout=given.layout,
        softmax=given.softmax,
        weights=given.weights if given.weights in ("imagenet", "none") else Path(given.weights),
        classes=given.classes,
        labels=None if given.labels is None else labels.read(given.labels),
        preprocess=given.preprocess,
        size=given.size,
        resize=given.resize,
        shorter_side=given.shorter_side,
        interpolation=given.interpolation,
        name=given.name,
        version=given.version or 1,
        output=output,
        opset=given.opset,
        tolerance=given.tolerance,
    )


def _reduction(given: argparse.Namespace, output: Path) -> PrecisionJob | None:
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
