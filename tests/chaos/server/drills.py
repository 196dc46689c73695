"""One fault of the server at a time, each with a system of its own: what it costs is in its row."""

import statistics
from collections.abc import Mapping

from tests.chaos.report import Report
from tests.chaos.server.embedded_server import FAKETIME

#: Seconds of load, and how often each fault is done. A clock that was set back must not keep the images of a dead
#: consumer: some are killed beside it.
DRILLS: Mapping[str, tuple[float, Mapping[str, int]]] = {
    "kill Redis on a busy disk": (80, {"kill Redis on a busy disk": 20}),
    "power failure": (40, {"power failure": 4}),
    "power failure within a write": (40, {"power failure within a write": 4}),
    "flip a byte on the disk": (40, {"flip a byte on the disk": 8}),
    "fill the disk": (40, {"fill the disk": 4}),
    "delete a key": (50, {"delete a key": 9}),
    "stop the clock": (30, {"stop the clock": 3, "kill a consumer": 4}),
    "set the clock back": (40, {"set the clock back": 3, "kill a consumer": 6}),
    "set the clock forward": (40, {"set the clock forward": 3, "kill a consumer": 4}),
}

_MOST_SHOWN = 10


def possible(fault: str, durability: str) -> bool:
    """Changing a clock takes libfaketime, and only at one level the launcher syncs the file and can say how far."""
    return (FAKETIME is not None or "clock" not in fault) and (durability == "process" or "power" not in fault)


def head() -> list[str]:
    columns = (
        "fault",
        "times",
        "accepted",
        "lost",
        "counted",
        "damaged",
        "doubled",
        "wrong",
        "next right answer",
        "longest",
    )
    return ["", f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]


def violations(name: str, report: Report) -> list[str]:
    """What must not have happened."""
    found = report.violations()
    return ["", f"{name}: {len(found)} violations:", *found[:_MOST_SHOWN]] if found else []


def row(name: str, report: Report) -> str:
    """What one fault did, and how long the next right answer took."""
    times_s = report.recoveries_s(name)
    shown = (f"{statistics.median(times_s):.2f} s", f"{max(times_s):.2f} s") if times_s else ("-", "-")
    lost = len(report.lost()) + report.lost_in_window()
    counts = (
        report.done(name), report.audit.accepted, lost, report.vanished(), report.damaged(), len(report.doubled()),
    )  # fmt: skip
    return f"| {name} | {' | '.join(map(str, counts))} | {len(report.wrong())} | {' | '.join(shown)} |"
