"""`python -m tests.support.programs.rogue_consumer`: a consumer whose model misbehaves.

It does so on images that begin with a marked pixel.

ROGUE says how: `crash` (SIGKILL, as a segmentation fault or the kernel's out-of-memory killer would), `raise`,
`hang`, or `slow`, which takes 50 ms for each image, marked or not. ROGUE_LOG names a file that gets one line for each
batch of a slow one: how many images, and when it began and ended, in seconds of the monotonic clock.
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
from consumers.onnx.model import Model

MARK = (1, 2, 3)

_run = Model.run


def _rogue(self: Model, buffer: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    how = os.environ["ROGUE"]
    if how == "slow":
        began_s = time.monotonic()
        threading.Event().wait(0.05 * count)
        with Path(os.environ.get("ROGUE_LOG", os.devnull)).open("a") as log:
            log.write(f"{count} {began_s} {time.monotonic()}\n")
    elif (buffer[:count, 0, 0] == MARK).all(axis=1).any():
        if how == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "hang":
            threading.Event().wait()
        raise RuntimeError("the model fails on this image")
    return _run(self, buffer, count)


if __name__ == "__main__":
    Model.run = _rogue  # type: ignore[method-assign]
    sys.exit(main())
