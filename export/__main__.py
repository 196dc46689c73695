"""`python -m export`: reads the command line, wires the parts, says what was written."""

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from export import arguments, job, stderr
from export.arguments import Arguments
from export.artefact import repository
from export.errors import ExportError, WeightsUnavailable
from export.job import ExportReport, Job, PrecisionJob
from export.progress import Progress


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 with one sentence on stderr."""
    try:
        return _main(arguments.parse(argv))
    except ExportError as error:
        print(f"export: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("\nexport: interrupted, nothing was written", file=sys.stderr)
        return 130


def _main(given: Arguments) -> int:
    jobs = _jobs(given)
    if given.if_missing:
        for present in (target for target in _targets(given, jobs) if target.is_file()):
            print(f"{present} is there already")
            return 0
    for task in jobs:
        job.check(task)
    for target in _targets(given, jobs):
        repository.check_free(target, force=given.force)
    start = time.monotonic()
    if given.reduction is None:
        _tell(_export(jobs), time.monotonic() - start)
    elif given.source is not None:
        _reduce(given.reduction, given.source, force=given.force)
    else:
        # The fp32 form is needed on the way only; who wants both exports it first and reduces it with --from.
        with TemporaryDirectory(prefix="sluice-fp32-") as folder:
            written = _export([replace(task, output=Path(folder), version=1) for task in jobs])
            _reduce(given.reduction, written.path, force=given.force)
    return 0


def _jobs(given: Arguments) -> list[Job]:
    if given.job is None:
        return []
    return [given.job] if given.fallback is None else [given.job, job.instead(given.job, given.fallback)]


def _targets(given: Arguments, jobs: list[Job]) -> list[Path]:
    """Where the result will be, as far as that is known before the work."""
    if given.reduction is None:
        return [task.target for task in jobs]
    if given.source is not None:
        name = given.reduction.name or repository.name_around(given.source)
        return [] if name is None else [given.reduction.target(name)]
    return [given.reduction.target(task.model_name) for task in jobs]


def _export(jobs: list[Job]) -> ExportReport:
    try:
        return _export_one(jobs[0])
    except WeightsUnavailable as error:
        if len(jobs) == 1:
            raise
        print(f"export: {error.summary}; exporting {jobs[1].model_name} instead", file=sys.stderr)
        return _export_one(jobs[1])


def _export_one(task: Job) -> ExportReport:
    # These packages take up to seconds to import; help, errors in the arguments and --if-missing must not
    # wait for them, and a foreign file needs no TensorFlow.
    if task.onnx_file is not None:
        from export.convert import onnx as foreign_conversion

        return foreign_conversion.run(task, Progress(sys.stderr, steps=foreign_conversion.STEPS))
    # TensorFlow reads its environment while it is imported.
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"})
    with stderr.native_stderr():
        from export.convert import keras as conversion
    # stdout gets one line; Keras prints the progress of its downloads there.
    with contextlib.redirect_stdout(sys.stderr):
        return conversion.run(task, Progress(sys.stderr, steps=conversion.STEPS))


def _reduce(task: PrecisionJob, source: Path, *, force: bool) -> None:
    from export.precision import convert as precision_conversion

    start = time.monotonic()
    progress = Progress(sys.stderr, steps=precision_conversion.STEPS)
    with contextlib.redirect_stdout(sys.stderr):
        reduced = precision_conversion.run(task, source, progress, force=force)
    if reduced.skipped:
        print(f"export: {reduced.skipped} images could not be read and were left out", file=sys.stderr)
    print(
        f"wrote {reduced.path}: {task.precision}, {reduced.size_bytes / 1e6:.1f} MB in"
        f" {time.monotonic() - start:.1f} s, {reduced.agreement}"
    )


def _tell(written: ExportReport, seconds: float) -> None:
    parity = written.parity
    print(
        f"wrote {written.path}: {written.size_bytes / 1e6:.1f} MB in {seconds:.1f} s,"
        f" largest difference to {written.reference} {parity.max_abs_difference:.1e},"
        f" same top-1 on {round(parity.top1_agreement * parity.images)} of {parity.images} images"
    )


if __name__ == "__main__":
    sys.exit(main())
