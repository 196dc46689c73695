"""How the operating system shares its cores among the processes of one machine."""

import os
import sys
from contextlib import suppress


def wait_for_a_free_core() -> None:
    """Have this process not interrupt another's turn at a core (SCHED_BATCH, sched(7)).

    By default whoever is woken interrupts whoever works, and both find the core's cache full of what the other needs.
    What is worked off in batches need not begin at once: it costs 5 % less CPU an image with 32 clients on two busy
    cores, and nothing where cores are free. Threads that are started afterwards inherit it. A policy that somebody
    has chosen stays, and so does one that may not be changed.
    """
    if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
