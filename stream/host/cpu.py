"""How many cores this process may use, and how it gives way to other processes on them."""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

#: Where Linux shares the cores between sessions, and then between the processes of each (CONFIG_SCHED_AUTOGROUP).
_AUTOGROUP: Final = Path("/proc/self/autogroup")

#: A user may weigh one session in a tenth of a second. Several processes may start at once.
_AUTOGROUP_TRIES: Final = 20
_AUTOGROUP_PAUSE_S: Final = 0.1


def usable_cores() -> int:
    """Cores of the affinity mask, or of the container's quota (cgroup v2) where that is less; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))


def use_batch_scheduling() -> None:
    """Have this process not interrupt another's turn at a core (SCHED_BATCH, sched(7)).

    By default a process that wakes up interrupts the running one, and both find the core's cache full of other data.
    What is worked off in batches need not begin at once: it costs 5 % less CPU an image with 32 clients on two busy
    cores, and nothing where cores are free. Threads that are started afterwards inherit it. A policy that somebody
    has chosen stays, and so does one that may not be changed.
    """
    if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def lower_priority(niceness: int) -> None:
    """Have this process take less of a core that others want, by its niceness (0 to 19).

    Where Linux shares the cores between sessions, a process's niceness counts only within its own. It would take as
    much time from the Redis server, whose session is another. So this process starts a session, and weighs that less,
    too.
    """
    os.nice(niceness)
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
