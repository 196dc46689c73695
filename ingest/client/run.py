"""One run of the client: finds the pictures, starts the jobs, writes their rows. Reads no environment."""

import importlib.util
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator

from ingest.client.annotation import Annotator
from ingest.client.command import Options
from ingest.client.connection import HttpConnection
from ingest.client.input_files import InputFile, find
from ingest.client.interrupts import Interrupts
from ingest.client.item import STDIN, Item, key, picture, unreadable
from ingest.client.output import Output, to_file, to_stream
from ingest.client.pool import Pool
from ingest.client.progress import Progress, progress
from ingest.client.retry import RetryPolicy
from ingest.client.row import Csv, JsonLines, RowFormat
from ingest.client.sender import Sender
from ingest.client.summary import RunSummary

#: Between two reasons about the same outage.
_REPORT_EVERY_S = 10.0


class MissingError(Exception):
    """A package that this run needs is not installed."""


def run(options: Options) -> int:
    """The exit status. Raises NothingFoundError, OutputError, MissingError, GaveUpError, BrokenPipeError."""
    found = find(options.paths, videos=options.videos, without=str(options.annotate or ""))
    videos = [each for each in found if each.is_video]
    if videos and not importlib.util.find_spec("av"):
        raise MissingError("videos need PyAV: pip install -e '.[video]'")
    output = _output(options, videos=options.videos or bool(videos))
    summary = RunSummary()
    pictures = list(_new([each for each in found if not each.is_video], output, summary))
    shown = progress(len(pictures), quiet=options.output is None and sys.stdout.isatty())
    try:
        items = itertools.chain(map(_item, pictures), _frames(videos, options, output, summary))
        total = len(pictures) + _frames_expected(videos, options)
        shown.note(f"{total:,} to classify at {options.target.shown}, {summary.skipped:,} in the output already")
        return _classify(items, options, output, summary, shown, total) or summary.status
    finally:
        shown.close()
        output.close()
        print(summary.summary(), file=sys.stderr, flush=True)  # noqa: T201 (the command line's own voice)


def _classify(
    items: Iterator[Item], options: Options, output: Output, summary: RunSummary, shown: Progress, total: int
) -> int:
    """Writes all rows; the exit status where a signal ended the run, else 0."""
    stop = threading.Event()
    pool = Pool(items, _senders(options, summary, stop), stop)
    reported_s = -_REPORT_EVERY_S
    with Interrupts(pool.abort) as interrupts:
        pool.start()
        for row in pool.rows():
            interrupts.check()
            if row is not None:
                output.write(row)
                summary.note(row)
            shown.show(summary.answered, total)
            if summary.last_reason and time.monotonic() - reported_s > _REPORT_EVERY_S:
                reported_s = time.monotonic()
                shown.note(f"{options.target.shown}: {summary.last_reason}; trying again")
                summary.last_reason = ""
    return interrupts.status


def _senders(options: Options, summary: RunSummary, stop: threading.Event) -> list[Sender]:
    retry_policy = RetryPolicy(options.give_up_after_s)
    annotate = Annotator(options.annotate).annotate if options.annotate else None
    return [
        Sender(
            HttpConnection(options.target),
            retry_policy=retry_policy,
            stop=stop,
            on_retry=summary.retry,
            annotate=annotate,
        )
        for _ in range(options.jobs)
    ]


def _output(options: Options, *, videos: bool) -> Output:
    as_json = options.output is not None and options.output.suffix.lower() == ".jsonl"
    row_format: RowFormat = JsonLines(videos=videos) if as_json else Csv(top=options.top, videos=videos)
    if options.output is None:
        return to_stream(sys.stdout.buffer, row_format)
    return to_file(options.output, row_format, retry_errors=options.retry_errors)


def _new(found: list[InputFile], output: Output, summary: RunSummary) -> Iterator[InputFile]:
    """What is not in the output yet. Standard input is another picture each time."""
    for each in found:
        failed = output.done.get(key(each.path)) if each.path != STDIN else None
        if failed is None:
            yield each
        else:
            summary.skip(failed=failed)


def _item(found: InputFile) -> Item:
    return unreadable(found.path, found.error) if found.error else picture(found.path)


def _frames(videos: list[InputFile], options: Options, output: Output, summary: RunSummary) -> Iterator[Item]:
    """The frames of all videos that are not in the output yet, one video after the other."""
    if not videos:
        return
    from ingest.client import video  # PyAV is an extra

    def skips(path: str) -> Callable[[int | None], bool]:
        def skip(frame: int | None) -> bool:
            failed = output.done.get(key(path, frame))
            if failed is not None:
                summary.skip(failed=failed)
            return failed is not None

        return skip

    for each in videos:
        yield from video.items(each.path, options.every, skip=skips(each.path))


def _frames_expected(videos: list[InputFile], options: Options) -> int:
    if not videos:
        return 0
    from ingest.client import video

    return sum(video.estimate(each.path, options.every) for each in videos)
