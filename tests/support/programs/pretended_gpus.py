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
from consumers.onnx import session
from consumers.onnx.providers import CPU, TENSORRT, Execution, Provider, ProviderError
from consumers.onnx.session import open_session


class Pretended:
    """A session of the CPU under the name of CUDA."""

    def __init__(self, real: ort.InferenceSession) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider"]


def _open(path: Path, provider: Provider, execution: Execution, *, graphs: bool = False) -> Pretended:
    if os.environ["ROGUE"] == "load for ever":
        threading.Event().wait()
    if provider is TENSORRT or graphs:
        raise ProviderError("it is not pretended")
    return Pretended(open_session(path, CPU, execution))


if __name__ == "__main__":
    gpus.visible = lambda: [f"pretended-{number}" for number in range(int(os.environ["GPUS"]))]
    session.open_session = _open
    sys.exit(main())
