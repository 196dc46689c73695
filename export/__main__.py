"""`python -m export`: reads the command line, wires the parts, says what was written."""

import contextlib
import os
import sys
import time
from collections.abc import Sequence

from export import arguments, job, quiet
from export.arguments import Arguments
from export.errors import ExportError, WeightsUnavailable
from export.job import Job
from export.progress import Progress


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 with one sentence on stderr."""
    try:
        return _main(arguments.parse(argv))
    except ExportError as e:
        print(f"export: {e}", file=sys.stderr)
        return e.exit_status
    except KeyboardInterrupt:
        print("\nexport: interrupted, nothing was written", file=sys.stderr)
        return 130


def _main(given: Arguments) -> int:
    jobs = [given.job] if given.fallback is None else [given.job, job.instead(given.job, given.fallback)]
    if given.if_missing:
        for present in (task.target for task in jobs if task.target.is_file()):
            print(f"{present} is there already")
            return 0
    for task in jobs:
        job.check(task)
        job.check_target(task, force=given.force)
    try:
        _export(jobs[0])
    except WeightsUnavailable as e:
        if len(jobs) == 1:
            raise
        print(f"export: {e.summary}; exporting {jobs[1].model_name} instead", file=sys.stderr)
        _export(jobs[1])
    return 0


def _export(task: Job) -> None:
    # TensorFlow takes seconds to import and reads its environment while it is imported; help, errors
    # in the arguments and --if-missing must not wait for it.
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"})
    start = time.monotonic()
    with quiet.native_stderr():
        from export import conversion
    # stdout gets one line; Keras prints the progress of its downloads there.
    progress = Progress(sys.stderr, steps=conversion.STEPS)
    with contextlib.redirect_stdout(sys.stderr):
        written = conversion.run(task, progress)
    parity = written.parity
    print(
        f"wrote {written.path}: {written.size_bytes / 1e6:.1f} MB in {time.monotonic() - start:.1f} s,"
        f" largest difference to Keras {parity.max_abs_difference:.1e},"
        f" same top-1 on {round(parity.top1_agreement * parity.images)} of {parity.images} images"
    )


if __name__ == "__main__":
    sys.exit(main())
