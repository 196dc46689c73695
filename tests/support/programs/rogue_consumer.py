"""`python -m tests.support.programs.rogue_consumer`: a consumer whose model misbehaves.

It does so on images that begin with a marked pixel.

ROGUE says how:
- `crash`: SIGKILL, as a segmentation fault or the kernel's out-of-memory killer would;
- `raise`, `hang`;
- `nan`: it gives NaN for the marked images;
- `break`: it fails on a marked image, and on every image afterwards;
- `starve`: there is no memory for another version, the first two times. The pause between attempts is short;
- `slow`: ROGUE_IMAGE_S seconds (0.05) for each image, marked or not. ROGUE_LOG names a file that gets one line for
  each batch of it: how many images, and when it began and ended, in seconds of the monotonic clock.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from consumers import reload
from consumers.__main__ import main
from consumers.onnx.loader import ModelLoader
from consumers.onnx.model import Model
from consumers.onnx.providers import Provider
from consumers.onnx.repository import StoredVersion
from consumers.onnx.session import Session

MARK = (1, 2, 3)

_run = Session.run
_load = ModelLoader.load
_starved: list[None] = []
_broken = threading.Event()


def _rogue(self: Session, buffer: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    how = os.environ["ROGUE"]
    found = (buffer[:count, 0, 0] == MARK).all(axis=1)
    if how == "slow":
        _wait(count)
    elif how == "nan":
        outputs = _run(self, buffer, count)
        outputs[found] = np.nan
        return outputs
    elif found.any() or _broken.is_set():
        _misbehave(how)
    return _run(self, buffer, count)


def _starve(self: ModelLoader, version: StoredVersion, provider: Provider) -> Model:
    if len(_starved) < 2:
        _starved.append(None)
        raise MemoryError
    return _load(self, version, provider)


def _wait(count: int) -> None:
    began_s = time.monotonic()
    threading.Event().wait(float(os.environ.get("ROGUE_IMAGE_S", "0.05")) * count)
    with Path(os.environ.get("ROGUE_LOG", os.devnull)).open("a") as log:
        log.write(f"{count} {began_s} {time.monotonic()}\n")


def _misbehave(how: str) -> None:
    match how:
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            threading.Event().wait()
        case "break":
            _broken.set()
    raise RuntimeError("the model fails on this image")


if __name__ == "__main__":
    if os.environ["ROGUE"] == "starve":
        reload._FIRST_PAUSE_S = 2.0
        ModelLoader.load = _starve  # type: ignore[method-assign]
    Session.run = _rogue  # type: ignore[method-assign]
    sys.exit(main())
