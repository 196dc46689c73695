"""The export of a foreign ONNX file, step by step.

What the graph is held against is the file itself, run by ONNX Runtime on pixels that NumPy normalised.
"""

from dataclasses import asdict

import onnx

from export import job
from export.artefact import file as artefact
from export.artefact.description import Description
from export.convert import head, parity, runtime, wrap
from export.convert.head import Head
from export.convert.normalisation import CHOICES, NORMALISATIONS
from export.convert.parity import Floats, Parity, Pixels
from export.errors import BadArgument, BeyondTolerance, ConversionFailed, NotAClassifier
from export.job import ExportReport, Job
from export.progress import Progress
from export.sources import onnx_file
from export.sources.onnx_file import Foreign

STEPS = 3

#: Largest difference of a probability where a file computes in fp16 or int8: within the larger graph ONNX Runtime
#: may round at other places. What goes by mistake is off by a tenth and more.
LOWER_PRECISION_TOLERANCE = 5e-3


def run(task: Job, progress: Progress) -> ExportReport:
    """Exports the file that the job names; raises ExportError, and then nothing was written."""
    assert task.onnx_file is not None
    with progress.step(f"{task.model_name}: the file"):
        model = onnx_file.read(task.onnx_file, layout=task.layout, size=task.size)
        preprocess = _preprocess(task, model)
        resize = task.resize_to(model.height, model.width)
    with progress.step("answers of the file"):
        images = parity.sample_images(model.height, model.width)
        scores, kind = _reference(task, model, preprocess, images)
        expected = head.applied(kind, scores)
        labels = job.labels_for(task, outputs=expected.shape[1])
    with progress.step("the graph around it, its answers, and the file"):
        proto = _graph(model, preprocess, kind, expected.shape[1])
        agreement = _parity(proto, model, expected, images, tolerance=_tolerance(task, model))
        description = Description(
            name=task.model_name,
            version=task.version,
            labels=labels,
            height=model.height,
            width=model.width,
            resize=resize,
            precision=model.precision,
            preprocess=preprocess,
            source=model.source,
            parity=asdict(agreement),
            golden_input=images[0],
            golden_output=expected[0],
        )
        size_bytes = artefact.write(proto, description, task.target)
    return ExportReport(task.target, size_bytes, agreement, task.onnx_file.name)


def _tolerance(task: Job, model: Foreign) -> float:
    return task.tolerance if model.precision == "fp32" else max(task.tolerance, LOWER_PRECISION_TOLERANCE)


def _preprocess(task: Job, model: Foreign) -> str:
    pixels = model.element == onnx.TensorProto.UINT8
    if task.preprocess is None and not pixels:
        raise BadArgument(
            "nothing in the file tells how its pixels were normalised when it was trained, and a wrong guess gives"
            f" wrong answers: pass --preprocess {'|'.join(CHOICES)} (torch: as in torchvision; unit: 0..1;"
            " tf: -1..1; none: 0..255; caffe: BGR less its mean)"
        )
    chosen = task.preprocess or "none"
    if pixels and chosen != "none":
        raise BadArgument(f"the model takes uint8 pixels and normalises them itself: leave out --preprocess {chosen}")
    return chosen


def _reference(task: Job, model: Foreign, preprocess: str, images: Pixels) -> tuple[Floats, Head]:
    """The file's own scores for the images, and what makes probabilities of them."""
    answer, normalisation = model.answering(), NORMALISATIONS[preprocess]
    scores = parity.answers(lambda images: answer(normalisation.applied(images)), images)
    head.check(scores)
    match task.softmax:
        case "auto":
            return scores, head.decide(scores, model.activation)
        case "yes":
            return scores, "softmax"
        case "no":
            return scores, "as-is"


def _graph(model: Foreign, preprocess: str, kind: Head, classes: int) -> onnx.ModelProto:
    output = model.proto.graph.output[0].type.tensor_type
    rank = len(output.shape.dim) if output.HasField("shape") else 2
    proto = wrap.wrapped(model, preprocess=preprocess, head=kind, rank=rank, classes=classes)
    try:
        onnx.checker.check_model(proto)
    # The checker has one exception for all that can be wrong, protobuf its own for a graph too large.
    except Exception as error:
        raise ConversionFailed(f"{model.path} can't be put into a larger graph: {error}") from error
    return proto


def _parity(proto: onnx.ModelProto, model: Foreign, expected: Floats, images: Pixels, *, tolerance: float) -> Parity:
    try:
        return parity.compare(
            expected, parity.answers(runtime.answering(proto.SerializeToString()), images), tolerance=tolerance
        )
    # Either ONNX Runtime stumbles over a shape, in a class of its own, or the answers of a batch are mixed up.
    except Exception as error:
        if not model.single:
            raise error if isinstance(error, BeyondTolerance) else ConversionFailed(str(error)) from error
        raise NotAClassifier(
            f"{model.path} takes one image at a time and can't be made to take several: export it again with a dynamic"
            ' batch (PyTorch: torch.onnx.export(..., dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}}))'
        ) from error
