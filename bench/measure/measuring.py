"""One measurement of one system under one load: throughput, latency and the CPU time that it cost."""

import math
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import images
from bench.measure.limits import decode_full
from bench.measure.load import Sample
from bench.measure.processes import TICKS_PER_S
from bench.systems import Running

_REFERENCE_DECODES = 5


@dataclass(frozen=True, slots=True)
class Measurement:
    """Requests answered per second, latencies in ms, and CPU ms per request over all of a system's processes."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    refused: int
    errors: int
    others: float  # share of all cores that processes used which are neither the system's nor the load's
    reference_ms: float = (
        math.nan
    )  # what one full decode took just before and just after, on the machine as it was then


def measure(running: Running, load: Callable[[], Sample]) -> tuple[Measurement, Sample]:
    """Run a load against a system that rests, and count what its processes used meanwhile."""
    running.processes.settle()
    reference_times_ms = [reference_ms()]
    before, children_s, machine = running.processes.cpu_s(), _children_s(), _machine_s()
    sample = load()
    spent_s = running.processes.cpu_s() - before
    busy_s, all_s = (now - then for now, then in zip(_machine_s(), machine, strict=True))
    others = max(0.0, busy_s - spent_s - (_children_s() - children_s)) / all_s
    cpu_ms = spent_s * 1000 / sample.requests if sample.requests else float("nan")
    reference_times_ms.append(reference_ms())
    reference = statistics.fmean(reference_times_ms)
    figures = sample.per_s, sample.p50_ms, sample.p99_ms, cpu_ms, sample.refused, sample.errors, others, reference
    return Measurement(*figures), sample


def reference_ms() -> float:
    """The machine's reference: the time of one full decode of the small image, the median of five."""
    image, times_s = images.small(), []
    for _ in range(_REFERENCE_DECODES):
        began_s = time.perf_counter()
        decode_full(image)
        times_s.append(time.perf_counter() - began_s)
    return statistics.median(times_s) * 1000


def _children_s() -> float:
    """CPU seconds of the processes that were started from here and have ended: the load generators."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _machine_s() -> tuple[float, float]:
    """CPU seconds so far of all cores together: not idle (what a hypervisor took away included), and all."""
    # proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user already.
    ticks = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / TICKS_PER_S, sum(ticks) / TICKS_PER_S


def median(rounds: Sequence[Measurement]) -> Measurement:
    """The median of each figure by itself; refusals and errors are added up."""
    figures = [asdict(one) for one in rounds]
    middle = {
        name: statistics.median(one[name] for one in figures)
        for name in ("per_s", "p50_ms", "p99_ms", "cpu_ms", "others", "reference_ms")
    }
    refused, errors = (sum(one[name] for one in figures) for name in ("refused", "errors"))
    return Measurement(**middle, refused=refused, errors=errors)
