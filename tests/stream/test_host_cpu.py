"""A consumer does not interrupt those who work, unless somebody wants it to."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stream.host.cpu import use_batch_scheduling
from tests.support.processes import Processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the policies are Linux's")


def test_a_consumer_and_its_threads_wait_for_a_free_core(processes: Processes) -> None:
    """That of its event loop, and those that it starts; what imports have started has nothing to do."""
    consumer = processes.consumer(version=1, inference_threads=2)
    processes.ingest()
    threads = [int(entry.name) for entry in Path(f"/proc/{consumer.pid}/task").iterdir()]
    assert os.sched_getscheduler(consumer.pid) == os.SCHED_BATCH
    assert [os.sched_getscheduler(one) for one in threads].count(os.SCHED_BATCH) > 2


def test_a_policy_that_was_chosen_stays() -> None:
    """As with `chrt --idle 0 python -m consumers`."""

    def chosen() -> int:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        use_batch_scheduling()
        return os.sched_getscheduler(0)

    with ThreadPoolExecutor(1) as thread:  # A policy is a thread's own.
        assert thread.submit(chosen).result() == os.SCHED_IDLE


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
