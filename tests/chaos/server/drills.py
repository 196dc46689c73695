"""One fault of the server at a time, each with a system of its own: what it costs is in its row."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from stream.settings import Durability
from tests.chaos.report import Report
from tests.chaos.server.embedded_server import COMPILER, FAKETIME

_MOST_SHOWN = 10


def possible(fault: str, durability: Durability) -> bool:
    """Whether this machine has what the fault takes.

    Changing a clock takes libfaketime. What survives a power failure is recorded by the launcher, if it syncs the file,
    or by a library that must be compiled.
    """
    if "clock" in fault:
        return FAKETIME is not None
    if "power" in fault:
        return durability == "process" or (durability == "disk" and COMPILER is not None)
    return True


@dataclass(frozen=True, slots=True)
class Drill:
    """Seconds of load, and how often each fault is done; the first one names the row.

    `durability` is the level of the server, if it is not that of the run.
    """

    seconds: float
    schedule: Mapping[str, int]
    durability: Durability | None = None

    @property
    def fault(self) -> str:
        return next(iter(self.schedule))

    def possible(self, durability: Durability) -> bool:
        """Whether all its faults are, in a run at this level."""
        return all(possible(fault, self.durability or durability) for fault in self.schedule)


#: A clock that was set back must not keep the images of a dead consumer: some are killed beside it.
DRILLS: Mapping[str, Drill] = {
    "kill Redis on a busy disk": Drill(80, {"kill Redis on a busy disk": 20}),
    "power failure": Drill(40, {"power failure": 4}),
    "power failure within a write": Drill(40, {"power failure within a write": 4}),
    "power failure (disk)": Drill(40, {"power failure": 4}, "disk"),
    "power failure within a write (disk)": Drill(40, {"power failure within a write": 4}, "disk"),
    "flip a byte on the disk": Drill(40, {"flip a byte on the disk": 8}),
    "fill the disk": Drill(40, {"fill the disk": 4}),
    "delete a key": Drill(50, {"delete a key": 10}),
    "stop the clock": Drill(30, {"stop the clock": 3, "kill a consumer": 4}),
    "set the clock back": Drill(40, {"set the clock back": 3, "kill a consumer": 6}),
    "set the clock forward": Drill(40, {"set the clock forward": 3, "kill a consumer": 4}),
}


def head() -> list[str]:
    columns = (
        "fault", "times", "accepted", "lost", "counted", "damaged", "doubled", "wrong", "next right answer", "longest",
    )  # fmt: skip
    return ["", f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]


def violations(name: str, report: Report) -> list[str]:
    """What must not have happened."""
    found = report.violations()
    return ["", f"{name}: {len(found)} violations:", *found[:_MOST_SHOWN]] if found else []


def row(name: str, report: Report) -> str:
    """What one fault did, and how long the next right answer took."""
    fault = DRILLS[name].fault
    times_s = report.recoveries_s(fault)
    shown = (f"{statistics.median(times_s):.2f} s", f"{max(times_s):.2f} s") if times_s else ("-", "-")
    counts = (
        report.done(fault),
        report.audit.accepted,
        len(report.lost()) + report.lost_in_window(),
        report.vanished(),
        report.damaged(),
        len(report.doubled()),
        len(report.wrong()),
    )
    return f"| {name} | {' | '.join(map(str, counts))} | {' | '.join(shown)} |"
