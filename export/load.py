"""Gets the model that a job names, from whatever it is stored in."""

from export import job as jobs
from export import questions
from export.convert.original import Original
from export.errors import OwnCode, SizeUnclear
from export.job import Job
from export.sources import model_file


def load(job: Job) -> Original:
    """Raises ExportError. TensorFlow is imported only for what needs it."""
    if job.file is None:
        return _application(job)
    kind = model_file.kind_of(job.file)
    try:
        if kind == "onnx":
            from export.sources import onnx_file

            return onnx_file.load(job.file, layout=job.layout, size=job.size)
        return _tensorflow_file(job, kind)
    except SizeUnclear as error:
        raise questions.with_size(job, str(error)) from error
    except OwnCode as error:
        raise questions.with_saved_model(job, str(error)) from error


def _application(job: Job) -> Original:
    from export.sources import keras_application

    assert job.architecture is not None
    return keras_application.load(job.architecture, weights=job.weights, classes=jobs.classes(job), size=job.size)


def _tensorflow_file(job: Job, kind: model_file.Kind) -> Original:
    from export.sources import keras_file, saved_model, teachable_machine

    assert job.file is not None
    if kind == "keras":
        return keras_file.load(job.file, layout=job.layout, size=job.size)
    if kind == "saved_model":
        return saved_model.load(job.file, layout=job.layout, size=job.size)
    return teachable_machine.load(job.file, layout=job.layout, size=job.size)
