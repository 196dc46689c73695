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

#: From this niceness on, the core of a process counts as idle.
IDLE_NICENESS: Final = 15


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
