"""One run of the folder client: finds the images, sends them from several threads, writes their rows."""

import importlib.util
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from ingest.client.annotation import Annotator
from ingest.client.client import Client
from ingest.client.command import TOP, Options
from ingest.client.input_files import InputFile, find, ignored_by_suffix
from ingest.client.interrupts import Interrupts
from ingest.client.item import STDIN, Item, image, key, unreadable
from ingest.client.output import Output, to_file, to_stream
from ingest.client.pool import Pool
from ingest.client.progress import Progress, RunSummary, progress
from ingest.client.row import Csv, JsonLines, RowFormat
from ingest.client.sender import Sender

#: Seconds between two messages about the same outage.
_REPORT_EVERY_S = 10.0

#: The longest header that an output is searched for, in bytes: that of 10,000 labels.
_MAX_HEADER = 2**19


class PackageMissingError(Exception):
    """A package that this run needs is not installed."""


def run(options: Options) -> int:
    """The exit status. Raises NothingFoundError, OutputError, PackageMissingError, ServiceError, BrokenPipeError."""
    ignored: set[str] = set()
    found = find(options.paths, videos=options.videos, without=str(options.annotate or ""), ignored=ignored)
    videos = [each for each in found if each.is_video]
    if videos and not importlib.util.find_spec("av"):
        raise PackageMissingError("videos need PyAV: pip install av")
    summary = RunSummary()
    client = _client(options, summary)
    output = _output(options, client, videos=options.videos or bool(videos))
    left = 0  # How many were to be classified, if the run is stopped before it has all of them.
    images = list(_new([each for each in found if not each.is_video], output, summary))
    shown = progress(len(images), quiet=options.output is None and sys.stdout.isatty())
    try:
        items = itertools.chain(map(_item, images), _frames(videos, options, output, summary))
        total = len(images) + _frames_expected(videos, options)
        if ignored:
            shown.say(ignored_by_suffix(ignored))
        before = f"{summary.skipped:,} already in the output{_made_by(output)}"
        shown.say(f"{total:,} image{'' if total == 1 else 's'} to classify at {options.target.shown}, {before}")
        if options.model:
            output.check_model(options.model)
        left = total
        status = _classify(items, options, _sender(client, options), output, summary, shown, total)
        left = left if status else 0
        return status or summary.status
    finally:
        shown.close()
        output.close()
        not_sent = max(0, left - summary.answered)
        print(summary.text(not_sent=not_sent), file=sys.stderr, flush=True)  # noqa: T201 (output of the command line)


def _made_by(output: Output) -> str:
    """The models of the earlier rows, since a service of another model may be asked now."""
    models = ", ".join(f"{model} version {version}" for model, version in sorted(output.made_by))
    return f", by {models}" if models else ""


def _classify(
    items: Iterator[Item],
    options: Options,
    sender: Sender,
    output: Output,
    summary: RunSummary,
    shown: Progress,
    total: int,
) -> int:
    """Writes all rows. The exit status if a signal ended the run, else 0."""
    pool = Pool(items, sender, threads=options.jobs)
    reported_s = -_REPORT_EVERY_S
    with closing(pool), Interrupts(pool.abort) as interrupts:
        pool.start()
        for row in pool.rows():
            interrupts.check()
            if row is not None:
                output.write(row)
                summary.add(row)
            shown.show(summary.answered, total)
            if summary.last_reason and time.monotonic() - reported_s > _REPORT_EVERY_S:
                reported_s = time.monotonic()
                shown.say(f"{options.target.shown}: {summary.last_reason}; trying again")
                summary.last_reason = ""
    return interrupts.status


def _client(options: Options, summary: RunSummary) -> Client:
    return Client(
        options.target.shown,
        model=options.model,
        api_key=options.api_key,
        give_up_after_s=options.give_up_after_s,
        on_retry=summary.retry,
    )


def _sender(client: Client, options: Options) -> Sender:
    annotator = Annotator(options.annotate) if options.annotate else None
    return Sender(client, top=options.top, annotator=annotator, values=_is_json(options))


def _is_json(options: Options) -> bool:
    return options.output is not None and options.output.suffix.lower() == ".jsonl"


def _output(options: Options, client: Client, *, videos: bool) -> Output:
    row_format: RowFormat = JsonLines(videos=videos) if _is_json(options) else _csv(options, client, videos=videos)
    if options.output is None:
        return to_stream(sys.stdout.buffer, row_format)
    return to_file(options.output, row_format, retry_errors=options.retry_errors)


def _csv(options: Options, client: Client, *, videos: bool) -> Csv:
    """As many columns as `--top` says, else as the output has, else as the service fills by default."""
    top = options.top or (_columns(options.output) if options.output else 0)
    return Csv(top=top or min(TOP, client.label_count() or TOP), videos=videos)


def _columns(output: Path) -> int:
    try:
        with output.open("rb") as file:
            return Csv.labels_in(file.readline(_MAX_HEADER))
    except OSError:
        return 0


def _new(found: list[InputFile], output: Output, summary: RunSummary) -> Iterator[InputFile]:
    """The files that are not in the output yet. Standard input is a new image each time."""
    for each in found:
        failed = output.done.get(key(each.path)) if each.path != STDIN else None
        if failed is None:
            yield each
        else:
            summary.skip(failed=failed)


def _item(found: InputFile) -> Item:
    return unreadable(found.path, found.error) if found.error else image(found.path)


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
