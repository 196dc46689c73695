"""Runs the groups that are named, or all: one line per model, and exit status 1 if any outcome is a third one."""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.export.matrix import (
    keras_cases,
    notebook_keras,
    once_wrong,
    onnx_cases,
    preprocessing_cases,
    tensorflow_cases,
    unusual_keras,
    unusual_onnx,
    unusual_tensorflow,
)
from tests.export.matrix.case import Case, Verdict, judge

GROUPS: Mapping[str, Callable[[], Iterator[Case]]] = {
    "keras3": keras_cases.endings,
    "labels": keras_cases.labels,
    "preprocessing": preprocessing_cases.preprocessing,
    "keras2-h5": lambda: tensorflow_cases.keras_2(".h5"),
    "keras2-keras": lambda: tensorflow_cases.keras_2(".keras"),
    "savedmodel": tensorflow_cases.saved_models,
    "onnx": onnx_cases.onnx_files,
    "notebook-endings": notebook_keras.endings,
    "notebook-preprocessing": notebook_keras.preprocessing,
    "notebook-structures": notebook_keras.structures,
    "unusual-keras3": unusual_keras.endings,
    "unusual-labels": unusual_keras.labels,
    "unusual-preprocessing": unusual_keras.preprocessing,
    "unusual-keras2-h5": lambda: unusual_tensorflow.keras_2(".h5"),
    "unusual-keras2-keras": lambda: unusual_tensorflow.keras_2(".keras"),
    "unusual-savedmodel": unusual_tensorflow.saved_models,
    "unusual-onnx": unusual_onnx.onnx_files,
    "once-wrong": once_wrong.once_wrong,
}


def _line(case: Case, verdict: Verdict) -> str:
    outcome = "WRONG" if not verdict.right else "asked" if verdict.difference is None else f"{verdict.difference:.1e}"
    return f"{outcome:>9}  {case.name}" + ("" if verdict.right else f"\n{verdict.text}")


def main(names: list[str]) -> int:
    wrong = 0
    for name in names or list(GROUPS):
        start, count = time.monotonic(), 0
        print(f"{name}")
        for case in GROUPS[name]():
            with tempfile.TemporaryDirectory() as folder:
                verdict = judge(case, Path(folder) / "case")
            count, wrong = count + 1, wrong + (not verdict.right)
            print(_line(case, verdict), flush=True)
        print(f"{count} models in {time.monotonic() - start:.0f} s")
    print("no third outcome" if not wrong else f"{wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
