"""The overview: a partition's status as text, for people and for programs. Pure, reads nothing."""

from dataclasses import asdict
from typing import Any

from results.table import Column, duration, table
from stream.status import Member, Status

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

#: What tells more of the dead letters.
_ASK_FOR = " (python -m results dead list)"


def document(status: Status, *, max_age_s: float) -> dict[str, Any]:
    """The status for programs; times in seconds, rates in images per second."""
    problems = status.problems(max_age_s=max_age_s)
    return {
        "model": status.model,
        "healthy": not problems,
        "problems": problems,
        "backlog": status.backlog,
        "pending": status.pending,
        "lag": status.lag,
        "oldest_s": status.oldest_s,
        "images_per_s": status.images_per_s,
        "drain_s": status.drain_s,
        "dead_letters": status.dead_letters,
        "counters": dict(status.counters),
        "consumers": [_member_document(member) for member in status.members],
    }


def _member_document(member: Member) -> dict[str, Any]:
    said = asdict(member.report) if member.report else {}
    return {**said, **_own(member)}


def _own(member: Member) -> dict[str, Any]:
    state = {} if member.alive else {"state": "dead"}  # not what it did when it was last heard of
    return {
        **state,
        "name": member.name,
        "alive": member.alive,
        "silent_s": member.silent_s,
        "held": member.held,
        "oldest_s": member.oldest_s,
        "idle_s": member.idle_s,
    }


def lines(status: Status, *, max_age_s: float, completed_per_s: float | None, width: int | None) -> list[str]:
    """The status for people: what is wrong, the figures, a line for each consumer."""
    rate = "" if completed_per_s is None else f", completing {completed_per_s:.1f} images/s"
    counted = "  ".join(f"{event} {count}" for event, count in status.counters.items())
    return [
        f"{status.model}: {status.living} of {len(status.members)} consumers alive{rate}",
        *(f"! {problem}" for problem in status.problems(max_age_s=max_age_s)),
        _backlog(status),
        f"dead letters {status.dead_letters}{_ASK_FOR if status.dead_letters else ''}  {counted}".rstrip(),
        *(["", *table(_COLUMNS, [_row(member) for member in status.members], width=width)] if status.members else []),
    ]


def _backlog(status: Status) -> str:
    if status.backlog == 0:
        return "backlog 0"
    oldest = duration(status.oldest_s or 0.0)
    waiting = "unknown" if status.lag is None else str(status.lag)
    pace = (
        f"{duration(status.drain_s)} to drain at {status.images_per_s:.1f} images/s"
        if status.drain_s
        else "nobody works"
    )
    return f"backlog {status.backlog} ({status.pending} held, {waiting} undelivered), oldest {oldest}, {pace}"


def _row(member: Member) -> tuple[str, ...]:
    report = member.report
    said = ("-", "-", "-", "-", "-") if report is None else (
        report.version, report.provider, f"{report.images_per_s:.1f}", str(report.images), str(report.last_batch),
    )  # fmt: skip
    holding = (duration(member.oldest_s), duration(member.idle_s)) if member.held else ("-", "-")
    return (member.name, _state(member), *said, str(member.held), *holding, str(report.reclaimed) if report else "-")


def _state(member: Member) -> str:
    if member.alive and member.report:
        return member.report.state
    return "DEAD" if member.silent_s is None else f"DEAD {duration(member.silent_s)}"
