"""`python -m tests.chaos.slow_consumer`: a consumer whose model takes ROGUE seconds for each image, and no cores.

So a small machine can be filled far over its capacity, and a killed consumer holds images.
"""

import os
import sys
import threading

import numpy as np
from numpy.typing import NDArray

from consumers.__main__ import main
from consumers.onnx.model import Model

_run = Model.run


def _slow(self: Model, buffer: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    threading.Event().wait(float(os.environ["ROGUE"]) * count)
    return _run(self, buffer, count)


Model.run = _slow  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
