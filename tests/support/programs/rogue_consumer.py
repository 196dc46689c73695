"""`python -m tests.support.programs.rogue_consumer`: a consumer whose model misbehaves.

It does so on images that begin with a marked pixel.

ROGUE says how:
- `crash`: SIGKILL, as a segmentation fault or the kernel's out-of-memory killer would;
- `raise`, `hang`;
- `nan`: it gives NaN for the marked images;
- `break`: it fails on a marked image, and on every image afterwards;
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

from consumers.__main__ import main
from consumers.onnx.session import Session

MARK = (1, 2, 3)

_run = Session.run
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
    Session.run = _rogue  # type: ignore[method-assign]
    sys.exit(main())
