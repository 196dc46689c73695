"""`python -m bench.simulation.throttle PID...`: up to five processes, each of which runs a fifth of the time, in turns.

So servers on a machine with few cores behave as if each had one of its own that is five times slower. Ends on SIGTERM,
and leaves them running.
"""

import os
import signal
import sys
import time
from itertools import cycle

SPOKES = 5

#: Short beside what a batch takes, long beside what a change of processes costs.
_SLICE_S = 0.002


def main() -> None:
    pids = [int(word) for word in sys.argv[1:]]
    assert len(pids) <= SPOKES
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for number in cycle(range(SPOKES)):
            _run_slice(pids[number : number + 1])
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _run_slice(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    time.sleep(_SLICE_S)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


if __name__ == "__main__":
    main()
