"""A process of low priority gives way to others on the cores."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the policies are Linux's")


@pytest.mark.parametrize(("niceness", "policy"), [(5, "SCHED_OTHER"), (15, "SCHED_IDLE"), (19, "SCHED_IDLE")])
def test_others_may_take_the_core_of_a_process_of_low_priority(niceness: int, policy: str) -> None:
    code = (
        "import os; from stream.host.cpu import lower_priority; "
        f"lower_priority({niceness}); print(os.sched_getscheduler(0))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(printed) == getattr(os, policy)


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel does not weigh sessions")
def test_a_low_priority_counts_beside_other_sessions() -> None:
    """A Redis server that was started in a session of its own waited up to 140 ms for a core."""
    code = (
        "import os; from stream.host.cpu import lower_priority; lower_priority(10); "
        "print(os.nice(0), os.getsid(0) == os.getpid(), open('/proc/self/autogroup').read())"
    )
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in started:
        niceness, leads, *_, weight = process.communicate()[0].split()
        assert (niceness, leads, weight) == ("10", "True", "10")


def test_pauses_interrupt_c_code() -> None:
    code = (
        "import hashlib, resource, sys; from contextlib import nullcontext; from stream.host.cpu import short_pauses\n"
        "with short_pauses() if sys.argv[1:] else nullcontext():\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 1_000_000)\n"
        "usage = resource.getrusage(resource.RUSAGE_SELF); print(usage.ru_nvcsw / usage.ru_utime)"
    )
    with_pauses, without = (
        float(subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True).stdout)
        for words in (["pause"], [])
    )
    assert without < 100 < with_pauses
