"""Runs the groups that are named, or all: one line per model, and exit status 1 if any outcome is a third one."""

import sys
import tempfile
import time
from pathlib import Path

from tests.export.matrix.case import Case, Verdict, judge
from tests.export.matrix.groups import GROUPS


def _line(case: Case, verdict: Verdict) -> str:
    outcome = "WRONG" if not verdict.right else "asked" if verdict.difference is None else f"{verdict.difference:.1e}"
    return f"{outcome:>9}  {case.name}" + ("" if verdict.right else f"\n{verdict.text}")


def main(names: list[str]) -> int:
    wrong = 0
    for name in names or list(GROUPS):
        start, count = time.monotonic(), 0
        print(f"{name}")
        for case in GROUPS[name].cases():
            with tempfile.TemporaryDirectory() as folder:
                verdict = judge(case, Path(folder) / "case")
            count, wrong = count + 1, wrong + (not verdict.right)
            print(_line(case, verdict), flush=True)
        print(f"{count} models in {time.monotonic() - start:.0f} s")
    print("no third outcome" if not wrong else f"{wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
