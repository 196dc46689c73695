"""The command line: options with their defaults and what is wrong with them. Starts nothing, reads no environment."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest.client.connection import Target, target
from ingest.client.frame_step import FrameStep, every

#: As many as the largest batch of a consumer: with fewer, a fast accelerator waits for pictures.
_JOBS = 32
#: How many labels the service gives where nothing else is asked for; columns are made for so many.
_TOP = 5
_GIVE_UP_AFTER_S = 60.0
_EVERY = FrameStep(seconds=1.0)


@dataclass(frozen=True, slots=True)
class Options:
    """What one run is to do. `output` None: to standard output; `videos`: also those in folders."""

    paths: list[str]
    target: Target
    jobs: int
    top: int
    output: Path | None
    annotate: Path | None
    every: FrameStep
    videos: bool
    give_up_after_s: float
    retry_errors: bool


def options(arguments: Sequence[str], *, api_key: str) -> Options:
    """Exits with status 2 and a line for a wrong value; with 0 after `--help`."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        to = target(given.url, model=given.model, top=given.top, api_key=given.api_key or api_key)
    except ValueError as error:
        parser.error(str(error))
    return Options(
        paths=given.paths,
        target=to,
        jobs=given.jobs,
        top=given.top or _TOP,
        output=given.output,
        annotate=given.annotate,
        every=given.every or _EVERY,
        videos=given.every is not None,
        give_up_after_s=given.give_up_after,
        retry_errors=given.retry_errors,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ingest.client",
        description="Classify pictures, folders of them, and videos. Run again with the same --output, it goes on.",
        epilog="Exit status: 0 all classified, 1 some have an error in their row, 2 the run could not go on, "
        "130 stopped by Ctrl-C.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="file, folder, glob, or - for one picture from stdin")
    parser.add_argument("--url", default="http://127.0.0.1:5000", help="where the service is (default: %(default)s)")
    parser.add_argument("--model", default="", metavar="NAME", help="model to ask, where several are served")
    parser.add_argument("--api-key", default="", metavar="KEY", help="better in SLUICE_API_KEY: options show in ps")
    parser.add_argument(
        "--jobs", type=_between(1, 256), default=_JOBS, help="pictures under way (default: %(default)s)"
    )
    parser.add_argument("--top", type=_between(1, 10_000), metavar="K", help=f"labels of each (default: {_TOP})")
    parser.add_argument("--output", type=_output, metavar="FILE", help=".csv or .jsonl; without, CSV to stdout")
    parser.add_argument("--retry-errors", action="store_true", help="drop the output's rows with an error, try again")
    parser.add_argument("--annotate", type=Path, metavar="DIR", help="write copies there with the labels drawn in")
    parser.add_argument("--every", type=_every, metavar="N|Xs", help="of videos: every Nth frame, or one in X seconds; "
                        "takes videos in folders as well (default, for videos named directly: 1s)")  # fmt: skip
    parser.add_argument("--give-up-after", type=_seconds, default=_GIVE_UP_AFTER_S, metavar="SECONDS",
                        help="give up when the service is away or busy for so long (default: %(default)g)")  # fmt: skip
    return parser


class _between:  # noqa: N801 (argparse names a type in its messages)
    """A whole number within limits."""

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most

    def __call__(self, text: str) -> int:
        if not (text.isascii() and text.isdecimal() and self._least <= int(text[:9]) <= self._most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {self._least} to {self._most}")
        return int(text)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return seconds


def _every(text: str) -> FrameStep:
    try:
        return every(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _output(text: str) -> Path:
    if not text.lower().endswith((".csv", ".jsonl")):
        raise argparse.ArgumentTypeError(f"{text!r} must end in .csv or .jsonl")
    return Path(text)
