"""`python -m tests.chaos.server.recorded_server`: the embedded server, and a record of how far its file is synced.

Each completed sync of the append-only file adds a line to the file that SYNCED names: the file's name, its length
before the sync, and when the sync began (seconds of the monotonic clock). These bytes survive a power failure, whatever
happens to the others. The server itself ignores SIGXFSZ, so that a limit on the length of files acts like a full disk,
and loads the library that PRELOAD names.
"""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from stream.__main__ import main
from stream.embedded import aof

_sync = aof._sync


def _recorded(path: Path) -> None:
    began_s, length = time.monotonic(), path.stat().st_size
    _sync(path)
    with Path(os.environ["SYNCED"]).open("a") as record:
        record.write(f"{path.name} {length} {began_s}\n")


aof._sync = _recorded

if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    subprocess.Popen = functools.partial(subprocess.Popen, restore_signals=False)  # type: ignore[misc,assignment]
    if library := os.environ.get("PRELOAD"):
        os.environ["LD_PRELOAD"] = library
    sys.exit(main())
