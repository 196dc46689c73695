"""The command line of the folder client: its options, their defaults, and the messages for wrong values."""

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest.client.connection import Target, target

#: The largest batch of a consumer. With fewer requests in flight, a fast GPU waits for images.
_JOBS = 32
#: The most labels that the service returns by default, and so the number of columns.
TOP = 5
_GIVE_UP_AFTER_S = 60.0

_MODULE = "python -m ingest.client"

#: The header Priority (RFC 9218) for each class, which says so without a word to a service from before there were any.
_PRIORITIES = {"bulk": "u=6", "interactive": "u=3"}


@dataclass(frozen=True, slots=True)
class FrameStep:
    """Every so many frames of a video, or one frame in so many seconds; the other field is 0."""

    frames: int = 0
    seconds: float = 0.0


_DEFAULT_STEP = FrameStep(seconds=1.0)


@dataclass(frozen=True, slots=True)
class Options:
    """`top` None: as many labels as the service returns. `output` None: standard output. `videos`: also in folders."""

    paths: list[str]
    target: Target
    model: str
    api_key: str
    jobs: int
    top: int | None
    output: Path | None
    annotate: Path | None
    every: FrameStep
    videos: bool
    give_up_after_s: float
    retry_errors: bool


def program() -> str:
    """What the user has typed; `sluice` sets the variable."""
    return os.environ.get("SLUICE_PROGRAM", _MODULE)


def options(arguments: Sequence[str], *, api_key: str) -> Options:
    """Exits with status 2 and a message for a wrong value, and with 0 after `--help`."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        to = target(given.url, api_key=given.api_key or api_key)
    except ValueError as error:
        parser.error(str(error))
    to.headers["Priority"] = _PRIORITIES[given.priority]
    return Options(
        paths=given.paths,
        target=to,
        model=given.model,
        api_key=given.api_key or api_key,
        jobs=given.jobs,
        top=given.top,
        output=given.output,
        annotate=given.annotate,
        every=given.every or _DEFAULT_STEP,
        videos=given.every is not None,
        give_up_after_s=given.give_up_after,
        retry_errors=given.retry_errors,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program(),
        description="Classify images, folders and videos. Run the same command again to resume it, if it has --output.",
        epilog="Exit status: 0 all images are classified, 1 some rows have an error, 2 the run could not start or "
        "continue, 130 stopped by Ctrl-C.",
        allow_abbrev=False,  # sluice/classify.py looks for options by their names.
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="file, folder, glob, or - for one image from stdin")
    found = "that of this folder" if program() != _MODULE else "%(default)s"
    parser.add_argument("--url", default="http://127.0.0.1:5000", help=f"address of the service (default: {found})")
    parser.add_argument("--model", default="", metavar="NAME", help="model to use, if several are served")
    parser.add_argument("--api-key", default="", metavar="KEY", help="prefer SLUICE_API_KEY; options show in ps")
    parser.add_argument("--jobs", type=_up_to(256), default=_JOBS, help="images in flight (default: %(default)s)")
    parser.add_argument("--priority", choices=list(_PRIORITIES), default="bulk",
                        help="bulk: interactive images of others go first (default: %(default)s)")  # fmt: skip
    parser.add_argument("--top", type=_up_to(10_000), metavar="K", help=f"labels per image (default: {TOP})")
    parser.add_argument("--output", type=_output, metavar="FILE", help=".csv or .jsonl (default: CSV to stdout)")
    parser.add_argument("--retry-errors", action="store_true", help="remove rows with an error and send them again")
    parser.add_argument("--annotate", type=Path, metavar="DIR", help="folder for copies with their labels drawn in")
    parser.add_argument("--every", type=frame_step, metavar="N|Xs",
                        help="for videos: every Nth frame, or one in X seconds; also searches folders for videos "
                        "(default, for videos that are named: 1s)")  # fmt: skip
    parser.add_argument("--give-up-after", type=_seconds, default=_GIVE_UP_AFTER_S, metavar="SECONDS",
                        help="stop if the service is unavailable for this long (default: %(default)g)")  # fmt: skip
    return parser


class _up_to:  # noqa: N801 (argparse shows the name in messages)
    """Parses a whole number from 1 to a limit."""

    def __init__(self, highest: int) -> None:
        self._highest = highest

    def __call__(self, text: str) -> int:
        if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= self._highest):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {self._highest}")
        return int(text)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return seconds


def frame_step(text: str) -> FrameStep:
    """`10` is every tenth frame, `0.5s` one frame every half second."""
    if re.fullmatch(r"[1-9]\d{0,8}", text):
        return FrameStep(frames=int(text))
    if re.fullmatch(r"\d{1,8}(\.\d{1,6})?s", text) and float(text[:-1]) > 0:
        return FrameStep(seconds=float(text[:-1]))
    raise argparse.ArgumentTypeError(f"{text!r} is neither a number of frames (10) nor of seconds (0.5s)")


def _output(text: str) -> Path:
    if not text.lower().endswith((".csv", ".jsonl")):
        raise argparse.ArgumentTypeError(f"{text!r} must end in .csv or .jsonl")
    return Path(text)
