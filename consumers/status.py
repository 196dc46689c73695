"""`python -m consumers status`: shows the consumers of a model, what they hold, and what waits for them.

It reads Redis only: it loads no model and changes nothing.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from redis.exceptions import RedisError

from stream import model_command as console
from stream import server_check
from stream.cli import (
    NOT_FOUND,
    OK,
    PROGRAM_VARIABLE,
    Column,
    counted,
    duration,
    program,
    sluice,
    start_consumer,
    table,
)
from stream.connection.clients import Connections
from stream.presence import partition_counts
from stream.settings import QueueSettings
from stream.status.reader import read_model
from stream.status.report import ConsumerStatus, Sending, Status

_EPILOG = """exit status: 0 healthy; 1 degraded: no consumer is alive, the backlog is too old, a dead consumer holds
entries, or something is wrong with the server; 2 for wrong usage, or if Redis is unavailable. All other settings
come from the environment (SLUICE_...)."""

_INTERVAL_S = 1.0

_COLUMNS = (
    Column("CONSUMER", cut=True),
    Column("STATE"),
    Column("VERSION", right=True),
    Column("PROVIDER", cut=True),
    Column("IMAGES/S", right=True),
    Column("IMAGES", right=True),
    Column("BATCH", right=True),
    Column("HELD", right=True),
    Column("OLDEST", right=True),
    Column("IDLE", right=True),
    Column("RECLAIMED", right=True),
)


#: Counters that begin so are of webhooks, all others of images.
_OF_WEBHOOKS = "webhook_"

#: ANSI (ECMA-48): cursor home; erase the rest of the line; erase the rest of the screen.
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def main(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    settings = console.settings(_program(), given, served=True)
    # Half of the deadline: late enough to be no coincidence, early enough to act before clients give up.
    max_age_s = settings.request_timeout_s / 2 if given.max_age_s is None else given.max_age_s

    async def work(connections: Connections) -> int:
        watch = Watch(connections, settings, max_age_s=max_age_s, as_json=given.json)
        return await (watch.run() if given.watch else watch.once())

    try:
        return console.run(_program(), settings, work)
    except KeyboardInterrupt:
        return OK


def _program() -> str:
    return program("consumers status")


def _results(command: str) -> str:
    """A command of the results, in the form in which this one was typed."""
    return f" ({sluice()} results {command})" if PROGRAM_VARIABLE in os.environ else f" (python -m results {command})"


def _parser() -> argparse.ArgumentParser:
    about = "The consumers of a model, what they hold, and what waits for them."
    parser = argparse.ArgumentParser(
        _program(),
        parents=[console.options("name of the model; needed only if there are several")],
        description=about,
        epilog=_EPILOG,
    )
    parser.add_argument("--watch", action="store_true", help="read again every second, until Ctrl-C")
    parser.add_argument(
        "--max-age-s",
        type=float,
        metavar="SECONDS",
        help="a backlog whose oldest entry is older counts as degraded. Default: half of request_timeout_s",
    )
    return parser


class Watch:
    """Prints the status of a model, once or every second."""

    def __init__(self, connections: Connections, settings: QueueSettings, *, max_age_s: float, as_json: bool) -> None:
        self._connections = connections
        self._settings = settings
        self._max_age_s = max_age_s
        self._as_json = as_json
        self._before: Status | None = None

    async def once(self) -> int:
        """Print the status; returns NOT_FOUND if it is degraded."""
        status, text = await self._read()
        sys.stdout.write(text + "\n")
        return NOT_FOUND if status.problems(max_age_s=self._max_age_s) else OK

    async def run(self) -> int:
        """Print the status every second, in place on a terminal; outages of Redis do not end it."""
        in_place = sys.stdout.isatty() and not self._as_json
        while True:
            try:
                _, text = await self._read()
            except (RedisError, console.NoSuchModel) as error:
                text = json.dumps({"error": str(error)}) if self._as_json else console.explain(error)
            sys.stdout.write(_replacing(text) if in_place else text + "\n")
            sys.stdout.flush()
            await asyncio.sleep(_INTERVAL_S)

    async def _read(self) -> tuple[Status, str]:
        partitions = await console.choose(self._connections, self._settings.model)
        found = await read_model(self._connections, partitions[0].model, len(partitions))
        start = start_consumer(found.model, redis_url=self._settings.redis_url, data_dir=self._settings.data_dir)
        status = replace(found, server_problems=await self._server_problems(), start=start)
        rate = None if self._before is None else completed_per_s(self._before, status)
        self._before = status
        if self._as_json:
            return status, json.dumps(document(status, max_age_s=self._max_age_s))
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        shown = lines(status, max_age_s=self._max_age_s, completed_per_s=rate, width=width)
        return status, "\n".join([*shown, *await self._others(status.model)])

    async def _others(self, model: str) -> list[str]:
        """A line, if this server knows other models, which `sluice status` would otherwise never mention."""
        others = sorted((await partition_counts(self._connections.shared)).keys() - {model})
        return ["", f"other models of this server: {', '.join(others)} (see one with --model NAME)"] if others else []

    async def _server_problems(self) -> tuple[str, ...]:
        # Then no heartbeat is written either, and all consumers look dead: the reason comes first.
        refused = await server_check.refused_writes(self._connections.shared)
        facts = await server_check.read_facts(self._connections.shared)
        return (*([f"{refused}."] if refused else []), *server_check.problems(facts, self._settings.durability))


def completed_per_s(before: Status, now: Status) -> float | None:
    """Entries completed in a second between two readings; None if the counter went back, since the data is new."""
    done = now.counters.get("completed", 0) - before.counters.get("completed", 0)
    seconds = (now.now_ms - before.now_ms) / 1000
    return done / seconds if done >= 0 and seconds > 0 else None


def _replacing(text: str) -> str:
    """Text that overwrites the screen without flicker: each line is written before its old rest is erased."""
    return _HOME + "".join(f"{line}{_REST_OF_LINE}\n" for line in text.split("\n")) + _REST_OF_SCREEN


def document(status: Status, *, max_age_s: float) -> dict[str, Any]:
    """The status for programs; times in seconds, rates in images per second."""
    problems = status.problems(max_age_s=max_age_s)
    return {
        "model": status.model,
        "healthy": not problems,
        "problems": problems,
        "backlog": status.backlog,
        "classes": {priority: asdict(one) for priority, one in status.classes.items()},
        "pending": status.pending,
        "undelivered": status.undelivered,
        "oldest_s": status.oldest_s,
        "images_per_s": status.images_per_s,
        "drain_s": status.drain_s,
        "release": status.release.document() if status.release else None,
        "dead_letters": status.dead_letters,
        **asdict(status.sending),
        "counters": dict(status.counters),
        "consumers": [_consumer_document(consumer) for consumer in status.members],
    }


def _consumer_document(consumer: ConsumerStatus) -> dict[str, Any]:
    reported = asdict(consumer.report) if consumer.report else {}
    return {**reported, **_observed(consumer)}


def _observed(consumer: ConsumerStatus) -> dict[str, Any]:
    state = {} if consumer.alive else {"state": "dead"}  # instead of the state in its last report
    return {
        **state,
        "name": consumer.name,
        "alive": consumer.alive,
        "silent_s": consumer.silent_s,
        "held": consumer.held,
        "oldest_s": consumer.oldest_s,
        "idle_s": consumer.idle_s,
    }


def lines(status: Status, *, max_age_s: float, completed_per_s: float | None, width: int | None) -> list[str]:
    """The status for people: what is wrong, the figures, a line for each consumer."""
    rate = "" if completed_per_s is None else f", completing {completed_per_s:.1f} images/s"
    # A consumer's images count from its own start, and these from that of the queue.
    images = {event: count for event, count in status.counters.items() if not event.startswith(_OF_WEBHOOKS)}
    counted = ", ".join(f"{count} {event.replace('_', ' ')}" for event, count in images.items())
    listed = _results("dead-letters list") if status.dead_letters else ""
    return [
        f"{status.model}: {status.living} of {len(status.members)} consumers alive{rate}",
        *(f"! {problem}" for problem in status.problems(max_age_s=max_age_s)),
        _backlog(status),
        *_classes(status),
        *([f"release: {status.release.line()}"] if status.release else []),
        f"dead letters {status.dead_letters}{listed}",
        *([f"images since the queue was made: {counted}"] if counted else []),
        *_webhooks(status),
        *_notes(status),
        *(
            ["", *table(_COLUMNS, [_row(consumer) for consumer in status.members], width=width)]
            if status.members
            else []
        ),
    ]


def _notes(status: Status) -> list[str]:
    """What is no fault, but may surprise."""
    return [
        f"{member.name} passes over version {member.report.passed_over}"
        for member in status.members
        if member.alive and member.report and member.report.passed_over
    ]


def _webhooks(status: Status) -> list[str]:
    """A line, if there is anything to say."""
    sending = status.sending
    if sending == Sending():
        return []
    delivered = status.counters.get(f"{_OF_WEBHOOKS}delivered", 0)
    failed = status.counters.get(f"{_OF_WEBHOOKS}failed", 0)
    listed = _results("webhooks list") if sending.dead_webhooks else ""
    senders, attempts = counted(sending.senders, "sender"), counted(failed, "failed attempt")
    waiting = f"webhooks {sending.webhooks} waiting, {sending.dead_webhooks} dead{listed}"
    return [f"{waiting}, {delivered} delivered, {attempts}, {senders} alive"]


def _backlog(status: Status) -> str:
    if status.backlog == 0:
        return "backlog 0"
    oldest = duration(status.oldest_s or 0.0)
    speed = (
        f"{duration(status.drain_s)} to drain at {status.images_per_s:.1f} images/s"
        if status.drain_s
        else "no consumer works"
    )
    return (
        f"backlog {status.backlog} ({status.pending} held, {status.undelivered} undelivered), oldest {oldest}, {speed}"
    )


def _classes(status: Status) -> list[str]:
    """A line for each class, if bulk images wait."""
    if not status.classes or not status.classes["bulk"].backlog:
        return []
    return [
        f"  {priority:<11} {one.backlog} ({one.pending} held)"
        + ("" if one.oldest_s is None else f", oldest {duration(one.oldest_s)}")
        for priority, one in status.classes.items()
    ]


def _row(consumer: ConsumerStatus) -> tuple[str, ...]:
    report = consumer.report
    reported = ("-", "-", "-", "-", "-") if report is None else (
        report.version, report.provider, f"{report.images_per_s:.1f}", str(report.images), str(report.last_batch),
    )  # fmt: skip
    holding = (duration(consumer.oldest_s), duration(consumer.idle_s)) if consumer.held else ("-", "-")
    return (
        consumer.name,
        _state(consumer),
        *reported,
        str(consumer.held),
        *holding,
        str(report.reclaimed) if report else "-",
    )


def _state(consumer: ConsumerStatus) -> str:
    if consumer.alive and consumer.report:
        return consumer.report.state
    return "DEAD" if consumer.silent_s is None else f"DEAD {duration(consumer.silent_s)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
