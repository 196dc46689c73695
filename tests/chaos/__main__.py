"""`python -m tests.chaos`: break everything, again and again, and count. Exit status 1 if anything is lost, doubled or
wrong that must not be.

First all faults of processes, networks and the disk together, then one fault of the server after the other, each with
a system of its own, so that its row shows its own doing.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.chaos.drive import Plan, drive
from tests.chaos.faults import SHORT_FORM
from tests.chaos.report import head, lines
from tests.chaos.server import drills

#: Seconds that the schedule of the short form fills; longer runs are half as dense.
_SHORT_S = 28.0


def main() -> int:
    given = _arguments()
    with tempfile.TemporaryDirectory(prefix="sluice-chaos-") as folder:
        root = given.keep or Path(folder)
        print("\n".join(head(given.durability)), flush=True)
        violations = 0
        if given.seconds > 0:
            violations += _together(given, root)
        violations += _one_by_one(given, root)
    return 1 if violations else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.chaos", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=float, default=_SHORT_S, help="length of all faults together (default %(default)g); 0: none")
    add("--drills", default="", help=f"faults to do one by one: all, or some of {', '.join(drills.DRILLS)}")
    add("--seed", type=int, default=1, help="decides images, clients and faults")
    add("--durability", choices=["memory", "process", "disk"], default="process", help="level of the server")
    add("--model", type=Path, help="an exported model.onnx; default: a tiny one that is made slow")
    add("--keep", type=Path, help="an empty folder for the logs and Redis's data")
    return parser.parse_args()


def _together(given: argparse.Namespace, root: Path) -> int:
    times = max(1, round(given.seconds / _SHORT_S / 2))
    schedule = {kind: count * times for kind, count in SHORT_FORM.items() if drills.possible(kind, given.durability)}
    folder = root / "together"
    folder.mkdir()
    plan = Plan(folder, given.seconds, given.seed, schedule, given.model, given.durability)
    report = asyncio.run(drive(plan))
    print("\n".join(lines(report)), flush=True)
    return len(report.violations())


def _one_by_one(given: argparse.Namespace, root: Path) -> int:
    names = list(drills.DRILLS) if given.drills == "all" else [name for name in given.drills.split(",") if name]
    chosen = [name for name in names if drills.DRILLS[name].possible(given.durability)]
    found: list[str] = []
    if chosen:
        print("\n".join(drills.head()), flush=True)
    for name in chosen:
        folder = root / name.replace(" ", "-")
        folder.mkdir()
        drill = drills.DRILLS[name]
        durability = drill.durability or given.durability
        plan = Plan(folder, drill.seconds, given.seed, drill.schedule, None, durability, steady=True)
        report = asyncio.run(drive(plan))
        print(drills.row(name, report), flush=True)
        found += drills.violations(name, report)
    left_out = [name for name in names if name not in chosen]
    print("\n".join([*found, *(["", f"Not possible here: {', '.join(left_out)}."] if left_out else [])]), flush=True)
    return len(found)


if __name__ == "__main__":
    sys.exit(main())
