"""`python -m tests.chaos.server.busy_disk FILE`: writes and syncs without end, so that every other sync has to wait."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import ROOT

_BLOCK = 4 << 20
_BLOCKS = 32


@contextmanager
def busy_disk(folder: Path) -> Iterator[None]:
    """The disk of this folder is busy."""
    command = [sys.executable, "-m", "tests.chaos.server.busy_disk", str(folder / "busy")]
    writer = subprocess.Popen(command, cwd=ROOT)
    try:
        yield
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        (folder / "busy").unlink(missing_ok=True)


def main(path: Path) -> None:
    block = os.urandom(_BLOCK)
    with path.open("wb", buffering=0) as file:
        while True:
            file.seek(0)
            for _ in range(_BLOCKS):
                file.write(block)
                os.fsync(file.fileno())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
