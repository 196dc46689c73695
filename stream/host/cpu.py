"""How many cores this process may use, and how it gives way to other processes on them."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

#: Where Linux shares the cores between sessions, and then between the processes of each (CONFIG_SCHED_AUTOGROUP).
_AUTOGROUP: Final = Path("/proc/self/autogroup")

#: A user may weigh one session in a tenth of a second. Several processes may start at once.
_AUTOGROUP_TRIES: Final = 20
_AUTOGROUP_PAUSE_S: Final = 0.1

#: From this niceness on, the core of a process counts as idle.
IDLE_NICENESS: Final = 15

_PAUSE_INTERVAL_S: Final = 0.001


def usable_cores() -> int:
    """Cores of the affinity mask, or of the container's quota (cgroup v2) where that is less; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))


def lower_priority(niceness: int) -> None:
    """Have this process take less of a core that others want, by its niceness (0 to 19).

    Where Linux shares the cores between sessions, a process's niceness counts only within its own. It would take as
    much time from the Redis server, whose session is another. So this process starts a session, and weighs that less,
    too.

    A low priority does not make a core free for others: those that wake up queue behind each other on another one. So
    from IDLE_NICENESS on, a process has the policy SCHED_IDLE (sched(7)), and Linux places others as if its core
    were free.
    """
    os.nice(niceness)
    if sys.platform == "linux" and niceness >= IDLE_NICENESS:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if not (niceness and _AUTOGROUP.exists()):
        return
    with suppress(OSError):
        os.setsid()
        _weigh_session(niceness)


def _weigh_session(niceness: int) -> None:
    for _ in range(_AUTOGROUP_TRIES):
        try:
            _AUTOGROUP.write_text(str(niceness))
        except BlockingIOError:
            time.sleep(_AUTOGROUP_PAUSE_S)
        else:
            return


@contextmanager
def short_pauses() -> Iterator[None]:
    """Within the block, have the main thread sleep for some 70 microseconds in each millisecond, even in C code.

    A process of low priority may keep its core until the clock ticks, up to 4 ms, although others wait for it: the
    scheduler owes nothing to those that had more than their share before. When it sleeps, they run.

    Python calls a handler of its own only after the C code. So the handler is usleep() of the C library. Its argument
    is the signal's number, so it sleeps for 14 microseconds, and for the 50 by which Linux lets a timer be late.
    """
    library = ctypes.CDLL(None)
    library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    library.signal.restype = ctypes.c_void_p
    previous = library.signal(signal.SIGALRM, ctypes.cast(library.usleep, ctypes.c_void_p))
    signal.setitimer(signal.ITIMER_REAL, _PAUSE_INTERVAL_S, _PAUSE_INTERVAL_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        library.signal(signal.SIGALRM, previous)
