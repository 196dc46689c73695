"""An fp32 artefact in int8 or fp16: a version of its own beside it.  Knows neither options nor TensorFlow."""

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
from export.precision import agreement
from export.precision import calibration_images as photographs
from export.precision import fp16 as half_precision
from export.precision import int8 as quantisation
from export.precision.agreement import Agreement
from export.precision.calibration_images import Photographs
from export.progress import Progress
from export.reduction import Reduction

STEPS = 4

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Reduced:
    path: Path
    size_bytes: int
    agreement: Agreement
    skipped: int


def run(task: Reduction, source: Path, progress: Progress, *, force: bool) -> Reduced:
    """Raises ExportError, and then nothing was written."""
    proto, description = artefact.read(source)
    if description.precision != "fp32":
        raise BadArgument(f"{source} is {description.precision} already: only an fp32 artefact can be reduced")
    target = task.target(description.name)
    repository.check_free(target, force=force)
    with progress.counted("photographs") as seen:
        pictures = _pictures(task, description, seen)
    reduced = _reduced(task, proto, pictures, progress)
    with progress.step("comparison with fp32"):
        found = _agreement(proto, reduced, pictures)
        agreement.check(found, least=task.min_agreement)
    with progress.step("the file"):
        described = _described(description, task, target, found, source, reduced)
        size_bytes = artefact.write(reduced, described, target)
    return Reduced(target, size_bytes, found, 0 if pictures is None else pictures.skipped)


def _pictures(task: Reduction, source: Description, seen: Callable[[int, int], None]) -> Photographs | None:
    if task.pictures is None:
        return None
    return photographs.read(task.pictures, height=source.height, width=source.width, resize=source.resize, seen=seen)


def _reduced(
    task: Reduction, proto: onnx.ModelProto, pictures: Photographs | None, progress: Progress
) -> onnx.ModelProto:
    if task.precision == "fp16":
        with progress.step("conversion to fp16"):
            return half_precision.halved(proto)
    assert pictures is not None
    with progress.counted("calibration and quantisation") as seen:
        return quantisation.quantised(proto, pictures.calibration, seen)


def _agreement(proto: onnx.ModelProto, reduced: onnx.ModelProto, pictures: Photographs | None) -> Agreement:
    shape = proto.graph.input[0].type.tensor_type.shape
    images = parity.pictures(shape.dim[1].dim_value, shape.dim[2].dim_value) if pictures is None else pictures.held_out
    fp32, other = (
        runtime.in_batches(runtime.answering(graph.SerializeToString()), images) for graph in (proto, reduced)
    )
    return agreement.measure(fp32, other, pictures="synthetic" if pictures is None else "photographs")


def _described(
    source: Description, task: Reduction, target: Path, found: Agreement, file: Path, reduced: onnx.ModelProto
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
    """Of the synthetic pictures the one of which the network is surest: a flat answer would tell little."""
    images = parity.pictures(source.height, source.width)
    answers = runtime.in_batches(runtime.answering(reduced.SerializeToString()), images)
    surest = int(answers.max(axis=1).argmax())
    # Alone, as a consumer will run it: the last digits may differ with the size of the batch.
    return images[surest], runtime.answering(reduced.SerializeToString())(images[surest : surest + 1])[0]
