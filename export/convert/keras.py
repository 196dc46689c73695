"""The export itself, step by step: network, graph, ONNX, comparison, file."""

from dataclasses import asdict

import numpy as np
from tensorflow.types.experimental import GenericFunction

from export import job
from export.artefact import file as artefact
from export.artefact.description import OUTPUT_NAME, Description
from export.convert import graph, head, parity, runtime
from export.convert.graph import Classify
from export.convert.parity import Answer, Floats, Pixels
from export.job import ExportReport, Job
from export.progress import Progress
from export.sources import keras_application, keras_file, tensorflow_setup
from export.sources.network import Network

STEPS = 4


def run(task: Job, progress: Progress) -> ExportReport:
    """Exports what the job names; raises ExportError, and then nothing was written."""
    tensorflow_setup.prepare()
    with progress.step(f"{task.model_name}: network and weights", silent=task.weights == "imagenet"):
        network = _network(task)
    resize = task.resize_to(network.height, network.width)
    with progress.step("answers of the framework"):
        images = parity.sample_images(network.height, network.width)
        classify, expected = _reference(network, images)
        labels = job.labels_for(task, outputs=expected.shape[1])
    with progress.step("conversion to ONNX"):
        proto = graph.to_onnx(classify, network, opset=task.opset)
    with progress.step("answers of ONNX Runtime, and the file"):
        actual = parity.answers(runtime.answering(proto.SerializeToString()), images)
        agreement = parity.compare(expected, actual, tolerance=task.tolerance)
        description = Description(
            name=task.model_name,
            version=task.version,
            labels=labels,
            height=network.height,
            width=network.width,
            resize=resize,
            precision="fp32",
            preprocess=network.preprocess,
            source={**network.source, **tensorflow_setup.versions()},
            parity=asdict(agreement),
            golden_input=images[0],
            golden_output=expected[0],
        )
        size_bytes = artefact.write(proto, description, task.target)
    return ExportReport(task.target, size_bytes, agreement, "Keras")


def _network(task: Job) -> Network:
    if task.keras_file is not None:
        return keras_file.load(task.keras_file, preprocess=task.preprocess, size=task.size)
    assert task.architecture is not None
    return keras_application.load(
        task.architecture,
        weights=task.weights,
        classes=job.classes(task),
        size=task.size,
        preprocess=task.preprocess,
    )


def _reference(network: Network, images: Pixels) -> tuple[Classify, Floats]:
    """The whole classifier, and its probabilities for the images.

    The model runs once, without a head, so that its own numbers can tell which head it needs.
    """
    scores = parity.answers(_eager(graph.traced(graph.raw(network), network)), images)
    kind = head.decide(scores, keras_file.last_activation(network.model))
    classify = graph.classify(network, kind)
    if kind == "as-is":
        return classify, scores
    return classify, parity.answers(_eager(graph.traced(classify, network)), images)


def _eager(traced: GenericFunction) -> Answer:
    def answer(images: Pixels) -> Floats:
        return np.asarray(traced(images)[OUTPUT_NAME])

    return answer
