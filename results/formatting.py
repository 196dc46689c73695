"""Formats what `python -m results` prints, as text for people or as JSON."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from results.dead_letters import DeadLetter
from results.outcome import Done, Failed
from results.store import State
from stream.entry import FIELDS
from stream.host.text import Column, duration, printable, size, table

#: Classes that people are shown; programs get all that there are.
_SHOWN = 10

#: A time in milliseconds has 13 digits for the next 260 years.
_NUMBER: Final = re.compile("[0-9]{1,13}")

_COLUMNS = (
    Column("ID"),
    Column("MODEL", cut=True),
    Column("REQUEST", cut=True),
    Column("AGE", right=True),
    Column("REASON", cut=True),
    Column("TRIES", right=True),
    Column("HOLDERS", cut=True),
    Column("SIZE", right=True),
)


def dead_letters_table(dead_letters: Sequence[DeadLetter], *, width: int | None) -> list[str]:
    """One line for each dead letter under a heading."""
    rows = [
        (
            dead_letter.id,
            dead_letter.partition.model,
            dead_letter.request_id or "-",
            duration(dead_letter.age_s),
            dead_letter.reason,
            str(dead_letter.deliveries),
            " ".join(dead_letter.holders),
            size(dead_letter.pixels),
        )
        for dead_letter in dead_letters
    ]
    return table(_COLUMNS, rows, width=width)


def dead_letter_lines(dead_letter: DeadLetter) -> list[str]:
    """Everything about one dead letter but its pixels."""
    facts = {
        "id": dead_letter.id,
        "model": dead_letter.partition.model,
        "request": dead_letter.request_id or "-",
        "since": f"{duration(dead_letter.age_s)} ago",
        "reason": dead_letter.reason,
        "deliveries": str(dead_letter.deliveries),
        "holders": " ".join(dead_letter.holders),
        "entry": dead_letter.entry_id,
        "pixels": size(dead_letter.pixels),
        **_about(dead_letter.entry),
    }
    return _aligned(facts)


def _about(entry: Mapping[str, str]) -> dict[str, str]:
    """What the fields of an entry say, as far as they make sense, and those that no ingest writes.

    `--json` has all of them as they are.
    """
    numbers = {name: int(entry[name]) for name in ("w", "h", "top", "due") if _NUMBER.fullmatch(entry.get(name, ""))}
    facts = {}
    if numbers.keys() >= {"w", "h"}:
        facts["size"] = f"{numbers['w']} x {numbers['h']} pixels"
    if "top" in numbers:
        facts["labels"] = str(numbers["top"] or "all")
    if numbers.get("due"):
        facts["deadline"] = f"{datetime.fromtimestamp(numbers['due'] / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if webhook := entry.get("webhook"):
        facts["webhook"] = printable(webhook)
    unknown = {name: value for name, value in entry.items() if name not in FIELDS}
    return facts | {f"field {printable(name)}": repr(value) for name, value in unknown.items()}


def dead_letter_document(dead_letter: DeadLetter) -> dict[str, Any]:
    """One dead letter for programs; times in seconds, sizes in bytes."""
    return {
        "id": dead_letter.id,
        "model": dead_letter.partition.model,
        "request_id": dead_letter.request_id or None,
        "age_s": dead_letter.age_s,
        "reason": dead_letter.reason,
        "deliveries": dead_letter.deliveries,
        "holders": list(dead_letter.holders),
        "entry_id": dead_letter.entry_id,
        "bytes": dead_letter.pixels,
        "fields": dict(dead_letter.entry),
    }


def state_lines(request_id: str, state: State, labels: Sequence[str]) -> list[str]:
    """Where a request stands, for people."""
    match state:
        case Done():
            facts = {
                "request": request_id,
                "state": "done",
                "version": state.version,
                "provider": state.provider,
                "batch": str(state.batch),
                "queue": f"{state.queue_ms:.1f} ms",
                "inference": f"{state.run_ms:.1f} ms",
            }
            return [*_aligned(facts), "", *_ranking(state, labels)]
        case Failed():
            return _aligned({"request": request_id, "state": f"failed: {state.reason}", "detail": state.detail})
        case _:
            return _aligned({"request": request_id, "state": state})


def state_document(request_id: str, state: State, labels: Sequence[str]) -> dict[str, Any]:
    """Where a request stands, for programs; times in milliseconds, a label is null where its model is forgotten."""
    match state:
        case Done():
            ranked = zip(state.indices, state.probabilities, strict=True)
            return {
                "id": request_id,
                "state": "done",
                "version": state.version,
                "provider": state.provider,
                "batch": state.batch,
                "queue_ms": state.queue_ms,
                "run_ms": state.run_ms,
                "predictions": [
                    {"index": index, "label": _label(labels, index), "probability": value} for index, value in ranked
                ],
            }
        case Failed():
            return {"id": request_id, "state": "failed", "reason": state.reason, "detail": state.detail}
        case _:
            return {"id": request_id, "state": state}


def _ranking(done: Done, labels: Sequence[str]) -> list[str]:
    ranked = list(zip(done.indices, done.probabilities, strict=True))
    rows = [(f"{value:.4f}", _label(labels, index) or f"class {index}") for index, value in ranked[:_SHOWN]]
    more = [f"... and {len(ranked) - _SHOWN} more, see --json"] if len(ranked) > _SHOWN else []
    return [*table((Column("PROBABILITY", right=True), Column("LABEL")), rows), *more]


def _label(labels: Sequence[str], index: int) -> str | None:
    return labels[index] if index < len(labels) else None


def _aligned(facts: Mapping[str, str]) -> list[str]:
    longest = max(len(name) for name in facts)
    return [f"{name.ljust(longest)}  {printable(value)}" for name, value in facts.items()]
