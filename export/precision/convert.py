"""An fp32 artefact in int8 or fp16: a version of its own beside it."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from export.artefact import file as artefact
from export.artefact import repository
from export.artefact.description import Description
from export.convert import parity, runtime
from export.errors import BadArgument
from export.images.resize import as_input
from export.job import PrecisionJob
from export.precision import agreement, calibration_images, fp16, int8
from export.precision.agreement import Agreement
from export.precision.calibration_images import CalibrationImages
from export.precision.symmetric_padding import with_symmetric_padding
from export.progress import Progress

STEPS = 4

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Reduced:
    path: Path
    size_bytes: int
    agreement: Agreement
    skipped: int


def run(task: PrecisionJob, source: Path, progress: Progress, *, force: bool) -> Reduced:
    """Raises ExportError, and then nothing was written."""
    proto, description = artefact.read(source)
    if description.precision != "fp32":
        raise BadArgument(f"{source} is {description.precision} already: only an fp32 artefact can be reduced")
    target = task.target(description.name)
    repository.check_free(target, force=force)
    with progress.counted("images") as on_progress:
        images = _images(task, description, on_progress)
    reduced = _reduced(task, proto, images, progress, rounded=description.resize.rounded)
    with progress.step("comparison with fp32"):
        found = _agreement(proto, reduced, description, images)
        agreement.check(found, least=task.min_agreement)
    with progress.step("the file"):
        described = _described(description, task, target, found, source, reduced)
        size_bytes = artefact.write(reduced, described, target, replaces=force)
    return Reduced(target, size_bytes, found, 0 if images is None else images.skipped)


def _images(
    task: PrecisionJob, source: Description, on_progress: Callable[[int, int], None]
) -> CalibrationImages | None:
    if task.calibration_folder is None:
        return None
    return calibration_images.read(
        task.calibration_folder,
        height=source.height,
        width=source.width,
        channels=source.channels,
        resize=source.resize,
        on_progress=on_progress,
    )


def _reduced(
    task: PrecisionJob, proto: onnx.ModelProto, images: CalibrationImages | None, progress: Progress, *, rounded: bool
) -> onnx.ModelProto:
    if task.precision == "fp16":
        with progress.step("conversion to fp16"):
            return fp16.halved(with_symmetric_padding(proto))
    assert images is not None
    with progress.counted("calibration and quantisation") as on_progress:
        return int8.quantised(proto, as_input(images.calibration, rounded=rounded), on_progress)


def _agreement(
    proto: onnx.ModelProto, reduced: onnx.ModelProto, source: Description, images: CalibrationImages | None
) -> Agreement:
    synthetic = images is None
    sample = _sample(source) if images is None else images.held_out
    fp32, other = (
        runtime.in_batches(runtime.answering(graph.SerializeToString()), sample) for graph in (proto, reduced)
    )
    return agreement.measure(fp32, other, kind="synthetic" if synthetic else "held-out", output_kind=source.output_kind)


def _sample(source: Description) -> Pixels:
    return parity.sample_images(source.height, source.width, source.channels)


def _described(
    source: Description, task: PrecisionJob, target: Path, found: Agreement, file: Path, reduced: onnx.ModelProto
) -> Description:
    """The golden output becomes what this very graph answers on the CPU.

    A consumer checks by it whether its provider computes rightly; what rounding costs is another
    question, which the agreement answers.
    """
    golden_input, golden_output = _golden(source, reduced)
    return replace(
        source,
        name=task.name or source.name,
        version=int(target.parent.name),
        precision=task.precision,
        source={
            **source.source,
            "reduced_from": f"{source.name}/{source.version}",
            "reduced_from_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "onnxruntime": runtime.VERSION,
        },
        agreement=asdict(found),
        golden_input=golden_input,
        golden_output=golden_output,
    )


def _golden(source: Description, reduced: onnx.ModelProto) -> tuple[Pixels, Floats]:
    """Of the synthetic images the one of which the network is surest: a flat answer would tell little."""
    images = _sample(source)
    answers = runtime.in_batches(runtime.answering(reduced.SerializeToString()), images)
    surest = int(answers.max(axis=1).argmax())
    # Alone, as a consumer will run it: the last digits may differ with the size of the batch.
    return images[surest], runtime.answering(reduced.SerializeToString())(images[surest : surest + 1])[0]
