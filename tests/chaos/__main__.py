"""`python -m tests.chaos`: kill everything, again and again, and count. Exit status 1 if anything is lost, doubled
or wrong."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.chaos.drive import Plan, drive
from tests.chaos.report import lines

#: Seconds that the schedule of the short form fills; longer runs are half as dense.
_SHORT_S = 28.0


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=_SHORT_S, help="length of the load (default %(default)g)")
    parser.add_argument("--seed", type=int, default=1, help="decides images, clients and faults")
    parser.add_argument("--model", type=Path, help="an exported model.onnx; default: a tiny one that is made slow")
    parser.add_argument("--keep", type=Path, help="an empty folder for the logs and Redis's data")
    given = parser.parse_args()
    times = max(1, round(given.seconds / _SHORT_S / 2))
    with tempfile.TemporaryDirectory(prefix="sluice-chaos-") as folder:
        plan = Plan(given.keep or Path(folder), given.seconds, given.seed, times, given.model)
        report = asyncio.run(drive(plan))
    print("\n".join(lines(report)))
    return 1 if report.violations() else 0


if __name__ == "__main__":
    sys.exit(main())
