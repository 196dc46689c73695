"""The summary: what the README shows of a report, ready to be put there. Pure."""

import math

from bench.reporting.report import table
from bench.reporting.results import Results, find
from bench.reporting.targets import targets

#: CPU per request is reported where the systems are busy.
_BUSY = 32


def summary(found: Results) -> str:
    """One row a system, in the near-zero network's closed loop, and how many targets hold."""
    clients = sorted({row.load for row in found.closed})
    systems = dict.fromkeys(row.system for row in found.closed)
    head = ("", *(f"requests/s, {number} clients" for number in clients), "p50 ms, 1 client", "CPU ms per request")
    rows = [_row(found, system, clients) for system in systems]
    measured = [target for target in targets(found) if not math.isnan(target.got)]
    failed = [
        f"{target.name} ({target.got:.3g}, required {target.sense})" for target in measured if target.verdict == "FAIL"
    ]
    held = f"Of {len(measured)} targets that were measured, {len(measured) - len(failed)} hold."
    missed = f" Missed: {'; '.join(failed)}." if failed else ""
    about = ", ".join(found.about[key] for key in ("when", "commit", "machine", "rounds") if key in found.about)
    return f"{table(head, rows)}\n\n{held}{missed}\n\nMeasured: {about}.\n"


def _row(found: Results, system: str, clients: list[int]) -> tuple[str, ...]:
    rows = [find(found.closed, system, number) for number in clients]
    rates = [f"{one.measured.per_s:.0f}" if one else "" for one in rows]
    alone, busy = find(found.closed, system, 1), find(found.closed, system, _BUSY)
    p50_ms = f"{alone.measured.p50_ms:.1f}" if alone else ""
    cpu_ms = f"{busy.measured.cpu_ms:.2f}" if busy else ""
    return system, *rates, p50_ms, cpu_ms
