"""Runs what the command line asks for, and prints what was written."""

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from export import arguments, job, questions, stderr
from export.arguments import Arguments
from export.artefact import repository
from export.errors import ExportError, WeightsUnavailable, program
from export.job import Job, PrecisionJob
from export.progress import Progress
from export.report import ExportReport, size
from export.sources import model_file


def run(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 with a message on stderr."""
    try:
        return _run(arguments.parse(argv))
    except ExportError as error:
        _complain(str(error))
        return error.exit_status


def _run(given: Arguments) -> int:
    if given.present is not None:
        print(f"{given.present} is there already")
        return 0
    jobs = _jobs(given)
    if given.if_missing:
        for present in (target for target in _targets(given, jobs) if target.is_file()):
            print(f"{present} is there already")
            return 0
    for task in jobs:
        job.check(task)
        questions.check_size(task)
    if given.if_changed and (unchanged := _unchanged(jobs[0], any_version=given.next_version)):
        print(f"{unchanged} is up to date")
        return 0
    if given.next_version:
        jobs = [replace(task, version=repository.next_version(task.output, name=task.model_name)) for task in jobs]
    for target in _targets(given, jobs):
        repository.check_free(target, force=given.force)
    start = time.monotonic()
    if given.precision is None:
        _print_report(_export(jobs), time.monotonic() - start)
    elif given.source is not None:
        _convert_precision(given.precision, given.source, force=given.force)
    else:
        # The fp32 form is needed on the way only; --from converts one that is kept.
        with TemporaryDirectory(prefix="sluice-fp32-") as folder:
            written = _export([replace(task, output=Path(folder), version=1) for task in jobs])
            print(written.assumed)
            _warn(written)
            _convert_precision(given.precision, written.path, force=given.force)
    return 0


def _jobs(given: Arguments) -> list[Job]:
    if given.job is None:
        return []
    return [given.job] if given.fallback is None else [given.job, job.with_fallback(given.job, given.fallback)]


def _targets(given: Arguments, jobs: list[Job]) -> list[Path]:
    """Where the result will be, as far as that is known before the work."""
    if given.precision is None:
        return [task.target for task in jobs]
    if given.source is not None:
        name = given.precision.name or repository.name_around(given.source)
        return [] if name is None else [given.precision.target(name)]
    return [given.precision.target(task.model_name) for task in jobs]


def _unchanged(task: Job, *, any_version: bool) -> Path | None:
    """The newest artefact, or that of the job's version, if it was made from the same file with the same options.

    Versions that --precision reduced are passed over: their answers are others.
    """
    from export.artefact import file as artefact

    numbers = repository.versions(task.output, name=task.model_name) if any_version else [task.version]
    for number in sorted(numbers, reverse=True):
        path = repository.path(task.output, name=task.model_name, version=number)
        found = artefact.description(path) if path.is_file() else None
        if found is not None and found.agreement is None:
            return path if found.source.get("options_sha256") == task.digest() else None
    return None


def _export(jobs: list[Job]) -> ExportReport:
    try:
        return _export_one(jobs[0])
    except WeightsUnavailable as error:
        if len(jobs) == 1:
            raise
        _complain(f"{error.summary}; exporting {jobs[1].model_name} instead")
        return _export_one(jobs[1])


def _export_one(task: Job) -> ExportReport:
    # These packages take up to seconds to import; help, errors in the arguments and --if-missing must not
    # wait for them, and an ONNX file needs no TensorFlow.
    if task.file is None or model_file.kind_of(task.file) != "onnx":
        _import_tensorflow()
    from export import pipeline
    from export.load import load

    # stdout gets the report alone; Keras prints the progress of its downloads there.
    with contextlib.redirect_stdout(sys.stderr):
        return pipeline.run(task, lambda: load(task), Progress(sys.stderr, steps=pipeline.STEPS))


def _import_tensorflow() -> None:
    # TensorFlow and Keras read their environment while they are imported.
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"})
    with stderr.native_stderr():
        from export.sources import tensorflow_setup

        tensorflow_setup.prepare()


def _convert_precision(task: PrecisionJob, source: Path, *, force: bool) -> None:
    from export.precision import convert

    start = time.monotonic()
    progress = Progress(sys.stderr, steps=convert.STEPS)
    with contextlib.redirect_stdout(sys.stderr):
        converted = convert.run(task, source, progress, force=force)
    if converted.skipped:
        _complain(f"{converted.skipped} images could not be read and were left out")
    print(
        f"wrote {converted.path}: {task.precision}, {size(converted.size_bytes)} in"
        f" {time.monotonic() - start:.1f} s, {converted.agreement}"
    )
    _say_who_changes(converted.path, {"fp16": " on a GPU", "int8": " on a CPU"}[task.precision])


def _print_report(written: ExportReport, seconds: float) -> None:
    for line in written.text(seconds):
        print(line)
    _say_who_changes(written.path)
    _warn(written)


def _warn(written: ExportReport) -> None:
    for warning in written.warnings:
        _complain(warning)


def _say_who_changes(written: Path, where: str = "") -> None:
    from export import changes

    if line := changes.followers(written, where):
        print(line)


def _complain(message: str) -> None:
    print(f"{program()}: {message}", file=sys.stderr)
