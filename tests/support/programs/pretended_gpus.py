"""`python -m tests.support.programs.pretended_gpus`: a consumer on pretended GPUs.

It sees as many GPUs as GPUS says, and computes on the CPU instead.

What it can't pretend is CUDA: provider `auto` uses the CPU and reports CUDAExecutionProvider. If ROGUE is `load for
ever`, loading does not end.
"""

import os
import sys
import threading
from pathlib import Path
from typing import Any

import onnxruntime as ort

from consumers.__main__ import main
from consumers.gpu import devices as gpus
from consumers.onnx import providers as provider
from consumers.onnx import session
from consumers.onnx.providers import Execution


class Pretended:
    """A session of the CPU under the name of CUDA."""

    def __init__(self, real: ort.InferenceSession) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider"]


def _open(path: Path, execution: Execution) -> Pretended:
    if os.environ["ROGUE"] == "load for ever":
        threading.Event().wait()
    return Pretended(provider.open_session(path, Execution("cpu", execution.threads, execution.max_batch)))


if __name__ == "__main__":
    gpus.visible = lambda: [f"pretended-{number}" for number in range(int(os.environ["GPUS"]))]
    session.open_session = _open  # type: ignore[attr-defined]
    sys.exit(main())
