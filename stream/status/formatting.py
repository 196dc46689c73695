"""Formats a status, as text for people or as JSON."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from stream.cli import PROGRAM_VARIABLE, sluice
from stream.host.text import Column, counted, duration, table
from stream.status.report import ConsumerStatus, Sending, Status

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

#: Counters of images that are no part of those that were completed.
_NOT_COMPLETED = ("superseded", "vanished", "replayed")


def document(status: Status, *, max_age_s: float) -> dict[str, Any]:
    """The status for programs; times in seconds, rates in images per second."""
    problems = status.problems(max_age_s=max_age_s)
    return {
        "model": status.model,
        "healthy": not problems,
        "problems": problems,
        "partitions": len(status.backlogs),
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
    partitions = f", {counted(len(status.backlogs), 'partition')}" if status.backlogs else ""
    events = _events(status.counters)
    listed = _results("dead-letters list") if status.dead_letters else ""
    return [
        f"{status.model}: {status.living} of {len(status.members)} consumers alive{partitions}{rate}",
        *(f"! {problem}" for problem in status.problems(max_age_s=max_age_s)),
        _backlog(status),
        *_classes(status),
        *([f"release: {status.release.line()}"] if status.release else []),
        f"dead letters {status.dead_letters}{listed}",
        *([f"images since the queue was made: {events}"] if events else []),
        *_webhooks(status),
        *_notes(status),
        *(
            ["", *table(_COLUMNS, [_row(consumer) for consumer in status.members], width=width)]
            if status.members
            else []
        ),
    ]


def _events(counters: Mapping[str, int]) -> str:
    """What became of all images. A consumer's images count from its own start, and these from that of the queue."""
    texts = {event: f"{count} {event.replace('_', ' ')}" for event, count in counters.items()}
    completed = texts.pop("completed", "0 completed")
    others = [text for event, text in texts.items() if event in _NOT_COMPLETED]
    parts = ", ".join(text for event, text in texts.items() if not event.startswith((_OF_WEBHOOKS, *_NOT_COMPLETED)))
    return ", ".join([f"{completed} ({parts})" if parts else completed, *others]) if counters else ""


def _notes(status: Status) -> list[str]:
    """What is no fault, but may surprise."""
    passed_over = [
        f"{member.name} passes over version {member.report.passed_over}"
        for member in status.members
        if member.alive and member.report and member.report.passed_over
    ]
    return [*status.server_doubts, *passed_over]


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


def _results(command: str) -> str:
    """A command of the results, in the form in which this one was typed."""
    return f" ({sluice()} results {command})" if PROGRAM_VARIABLE in os.environ else f" (python -m results {command})"
