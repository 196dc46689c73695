"""The export of one model, step by step: model, graph, what it takes and gives, artefact, comparison."""

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import onnx

from export import changes
from export import plan as plans
from export.artefact import file as artefact
from export.artefact import labels
from export.artefact.description import Description
from export.convert import measure, output_kind, parity, runtime, wrap
from export.convert.measure import Truth
from export.convert.normalisation import by_name
from export.convert.original import EXPORT_AGAIN, BareGraph, Original
from export.convert.parity import Floats, Parity
from export.errors import ConversionFailed, ExportError, NotAClassifier
from export.job import Job
from export.plan import STATED, Plan
from export.progress import Progress
from export.report import BY_ORDER, CONSTANT, CONTRADICTED, OTHER_KIND, TWICE, UNNAMED_LOADER, ExportReport

STEPS = 4


def run(job: Job, load: Callable[[], Original], progress: Progress) -> ExportReport:
    """Exports what the job names; raises ExportError, and then nothing was written."""
    with progress.step(f"{job.model_name}: the model", silent=job.architecture is not None):
        original = load()
    with progress.step("conversion to ONNX"):
        bare = original.to_onnx(job.opset)
    with progress.counted("what the model takes and gives") as on_progress:
        plan = plans.make(job, original, bare, on_progress)
    with progress.step("comparison, and the file"):
        proto = _graph(bare, original, plan)
        found = _parity(job, proto, original, plan)
        accuracy = _accuracy(proto, original, plan)
        description = _description(job, original, plan, found, accuracy)
        size_bytes = artefact.write(proto, description, job.target, replaces=job.replaces)
    return ExportReport(
        job.target,
        size_bytes,
        found,
        original.reference,
        plan.assumptions,
        _lines(plan, accuracy),
        (*_warnings(job, original, plan, found), *_of_change(job, description)),
    )


def _of_change(job: Job, description: Description) -> Iterator[str]:
    if old := changes.predecessor(job.output, description):
        yield from changes.warnings(description, old)


def _graph(bare: BareGraph, original: Original, plan: Plan) -> onnx.ModelProto:
    proto = wrap.wrapped(
        bare,
        original.input,
        preprocess=plan.preprocess,
        head=plan.head,
        outputs=plan.expected.shape[1],
        rounded=plan.resize.rounded,
    )
    try:
        onnx.checker.check_model(proto)
    # The checker has one exception for all that can be wrong, protobuf its own for a graph too large.
    except Exception as error:
        raise ConversionFailed(f"the network can't be put into a larger graph: {error}") from error
    return proto


def _parity(job: Job, proto: onnx.ModelProto, original: Original, plan: Plan) -> Parity:
    tolerance = plans.tolerance_of(job, original)
    ranked = plan.head.kind != "values"
    try:
        answer = runtime.answering(proto.SerializeToString())
        actual = parity.answers(answer, plan.images)
        alone = parity.answers_alone(answer, plan.images)
        parity.compare(plan.expected[parity.ALONE], alone, tolerance=tolerance, ranked=ranked)
        return parity.compare(plan.expected, actual, tolerance=tolerance, ranked=ranked)
    except ExportError as error:
        if not original.single:
            raise
        raise NotAClassifier(
            f"{job.model_name} takes one image at a time and can't be made to take several: {EXPORT_AGAIN}"
        ) from error


def _accuracy(proto: onnx.ModelProto, original: Original, plan: Plan) -> dict[str, float | int] | None:
    """On the user's labelled images: the artefact by Sluice's way, and the owner's model by its own loader."""
    if plan.truth is None:
        return None
    images = measure.pixels(plan.truth, original.input, plan.resize)
    served = runtime.in_batches(runtime.answering(proto.SerializeToString()), images)
    found: dict[str, float | int] = {
        "images": len(images),
        "skipped": plan.truth.skipped,
        "artefact": measure.judged(served, plan.truth, plan.preprocess, plan.resize).accuracy,
    }
    if original.load_image is not None:
        own = _owners(original, plan, plan.truth)
        found["original"] = measure.judged(own, plan.truth, plan.preprocess, plan.resize).accuracy
        found["max_abs_difference"] = float(np.abs(own - served).max())
    return found


def _owners(original: Original, plan: Plan, truth: Truth) -> Floats:
    """The owner's model on images that its framework's own loader has read and resized."""
    assert original.load_image is not None
    answers = []
    for file in truth.files:
        loaded = original.load_image(file, plan.resize)[np.newaxis]
        pixels = original.input.element == "uint8"
        given = by_name(plan.preprocess).applied(np.rint(loaded) if pixels else loaded)
        answers.append(plan.head.applied(output_kind.check(original.predict(original.input.arranged(given)), 1)))
    return np.concatenate(answers)


def _description(
    job: Job, original: Original, plan: Plan, found: Parity, accuracy: dict[str, float | int] | None
) -> Description:
    return Description(
        name=job.model_name,
        version=job.version,
        labels=plan.labels,
        height=original.input.height,
        width=original.input.width,
        channels=original.input.channels,
        output_kind=plan.head.kind,
        resize=plan.resize,
        precision=original.precision,
        preprocess=plan.preprocess,
        source={**original.source, "options_sha256": job.digest()},
        parity=found.as_json(),
        golden_input=plan.images[0],
        golden_output=plan.expected[0],
        assumptions=plan.assumptions,
        accuracy=accuracy,
    )


def _warnings(job: Job, original: Original, plan: Plan, found: Parity) -> tuple[str, ...]:
    unnamed = job.is_own_training and original.loader is None and plan.truth is None
    guessed = unnamed and plan.assumptions["resize"].basis == "assumed"
    normalisation = plan.assumptions["normalisation"]
    contradicted = normalisation.basis == "stated" and normalisation.why != STATED
    own = plan.labels != labels.imagenet()  # It has two cranes.
    twice = [name for name, count in Counter(plan.labels).items() if own and count > 1]
    subfolders = ", ".join(plan.truth.unnamed) if plan.truth else ""
    return (
        *([CONTRADICTED.format(f"{normalisation.value} by {normalisation.why}")] if contradicted else []),
        *([OTHER_KIND.format(plan.head.kind, plan.head.contradicted)] if plan.head.contradicted else []),
        *([plan.doubt] if plan.doubt else []),
        *([UNNAMED_LOADER] if guessed else []),
        *([BY_ORDER.format(subfolders)] if subfolders else []),
        *(TWICE.format(name) for name in twice),
        *([CONSTANT] if found.constant else []),
    )


def _lines(plan: Plan, accuracy: dict[str, float | int] | None) -> tuple[str, ...]:
    """What there is to say about the user's images."""
    if accuracy is None:
        return ()
    lines = [measure.table(plan.trials)]
    own = f", Keras's own loader and predict {accuracy['original']:.1%}" if "original" in accuracy else ""
    lines.append(f"accuracy on {accuracy['images']} images: the artefact {accuracy['artefact']:.1%}{own}")
    if accuracy["skipped"]:
        lines.append(f"{accuracy['skipped']} images could not be read and were left out")
    return tuple(lines)
