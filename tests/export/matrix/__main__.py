"""Runs the groups that are named, or all: one line per model, and exit status 1 if any outcome is a third one.

With `--http`, a service answers instead of ONNX Runtime alone. `--models N`: at most so many answers of each group.
`--seed N`: other weights than those that the suite judges.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path

from tests.export.matrix import service
from tests.export.matrix.case import Answers, Case, Verdict, by_onnx_runtime, judge
from tests.export.matrix.groups import GROUPS


def _line(case: Case, verdict: Verdict) -> str:
    outcome = "WRONG" if not verdict.right else "asked" if verdict.difference is None else f"{verdict.difference:.1e}"
    return f"{outcome:>9}  {case.name}" + ("" if verdict.right else f"\n{verdict.text}")


def _group(name: str, answers: Answers, most: int | None, seed: int) -> int:
    """How many outcomes of the group are wrong."""
    start, answered, asked, wrong = time.monotonic(), 0, 0, 0
    print(name)
    for case in GROUPS[name].cases():
        with tempfile.TemporaryDirectory() as folder:
            verdict = judge(case, Path(folder) / "case", answers, seed=seed)
        wrong += not verdict.right
        asked += verdict.right and verdict.difference is None
        answered += verdict.right and verdict.difference is not None
        print(_line(case, verdict), flush=True)
        if answered == most:
            break
    print(f"{name}: {answered} right, {asked} asked, {wrong} wrong, in {time.monotonic() - start:.0f} s", flush=True)
    return wrong


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.export.matrix", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--http", action="store_true")
    parser.add_argument("--models", type=int, metavar="N")
    parser.add_argument("--seed", type=int, metavar="N", default=0)
    given = parser.parse_args(words)
    with contextlib.ExitStack() as stack:
        answers: Answers = by_onnx_runtime
        if given.http:
            service_folder = stack.enter_context(tempfile.TemporaryDirectory())
            answers = stack.enter_context(service.serving(Path(service_folder)))
        wrong = sum(_group(name, answers, given.models, given.seed) for name in given.groups or GROUPS)
    print("no third outcome" if not wrong else f"{wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
