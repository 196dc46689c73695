"""How many cores a process may use, as the operating system and its container allow."""

import os
from pathlib import Path


def usable_cores() -> int:
    """Cores of the affinity mask, or of the container's quota (cgroup v2) where that is less; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))
