"""`python -m tests.chaos.soak`: hours of load with hostile clients and a kill a minute, and what grows meanwhile.

Exit status 1 if memory, descriptors, threads, keys or latency grow, if a process ends by itself, or if more requests
fail or are refused than the kills explain.
"""

import argparse
import asyncio
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import images, models
from bench.measure import load, uploads
from bench.measure.load import Sample
from stream.connection.clients import connect
from stream.settings import RedisSettings
from tests.chaos.clock import Clock
from tests.chaos.hostile import Hostile
from tests.chaos.server.embedded_server import EmbeddedServer
from tests.chaos.soak.flatness import LIMITS, grows, growth
from tests.chaos.system import Post
from tests.support.processes import Process, Processes
from tests.support.redis.servers import free_port

_WINDOW_S = 30
_SHARE = 0.7
_KILL_EVERY_S = 60
_CONSUMERS = 2

#: Requests may fail, or be refused, for so long after a kill: a server starts again within a second, a consumer within
#: three, and the queue that has grown meanwhile is worked off at 30 % of the capacity.
_RECOVERY_S = 5.0

#: Results expire soon, so that their number is level early in the run.
_REQUEST_TIMEOUT_S = 15
_SETTINGS: dict[str, Any] = {
    "workers": 2, "result_ttl_s": 60, "request_timeout_s": _REQUEST_TIMEOUT_S, "model": models.NAME
}  # fmt: skip

#: The service may take its whole time for the last requests of a window.
_DRAIN_S = _REQUEST_TIMEOUT_S + 5


class Soak:
    """One run: a server, an ingest with two workers and two consumers."""

    def __init__(self, folder: Path, seconds: float, seed: int, image: bytes) -> None:
        models.build(folder / "models")
        self._seconds = seconds
        self._random = random.Random(seed)
        self._clock = Clock()
        self._server = EmbeddedServer(folder)
        self._started = Processes(folder, redis_url=self._server.url, models_dir=folder / "models")
        self._port = free_port()
        self._ingest = Post("ingest", self._start_ingest, self._clock, url=f"http://127.0.0.1:{self._port}")
        names = [f"consumer {number}" for number in range(_CONSUMERS)]
        self._consumers = [Post(name, self._start_consumer, self._clock) for name in names]
        self._upload = uploads.form("/predict", image)
        self.hostile = Hostile(self._port, self._upload, per_s=20, seed=seed)
        self.samples: dict[str, list[float]] = {name: [] for name in LIMITS}
        self.loads: list[Sample] = []
        self.kills: list[str] = []
        self.rate = 0.0

    def _start_ingest(self) -> Process:
        return self._started.start("ingest", port=self._port, **_SETTINGS)

    def _start_consumer(self) -> Process:
        return self._started.start("consumers", **_SETTINGS)

    async def run(self) -> list[str]:
        """Returns what must not have happened."""
        with self._everything():
            await self._ready()
            supervisors = [asyncio.create_task(post.supervise()) for post in (self._ingest, *self._consumers)]
            self.hostile.start()
            # What is left beside the hostile clients: a quarter of what they send are whole images, too.
            capacity = await asyncio.to_thread(load.closed, self._port, self._upload, clients=32, seconds=10)
            self.rate = capacity.per_s * _SHARE
            await self._windows()
            for supervisor in supervisors:
                supervisor.cancel()
        return [f"{name} grows" for name, values in self.samples.items() if grows(name, values)] + self._failures()

    def _failures(self) -> list[str]:
        """What ended by itself, and which requests went wrong that should not."""
        failures = [line for post in (self._ingest, *self._consumers) for line in post.died]
        for name in ("errors", "refused"):
            count, most = sum(getattr(one, name) for one in self.loads), self.most_failed
            if count > most:
                failures.append(f"{count} {name}, and the kills explain at most {most:.0f}")
        return failures

    @property
    def most_failed(self) -> float:
        """Requests that may go wrong: those within the seconds that it takes to recover from each kill."""
        return self.rate * _RECOVERY_S * len(self.kills)

    @contextmanager
    def _everything(self) -> Iterator[None]:
        self._server.start()
        try:
            with self._started:
                try:
                    yield
                finally:
                    self.hostile.stop()
        finally:
            self._server.kill_all()

    async def _ready(self) -> None:
        for post in (*self._consumers, self._ingest):
            post.fill()
        for post in (*self._consumers, self._ingest):
            while not await post.works():
                await self._clock.until(self._clock.now_s + 0.1)

    async def _windows(self) -> None:
        began_s = next_kill_s = self._clock.now_s
        while self._clock.now_s < began_s + self._seconds:
            sending = asyncio.create_task(asyncio.to_thread(self._load))
            if self._clock.now_s >= next_kill_s + _KILL_EVERY_S:
                next_kill_s += _KILL_EVERY_S
                await self._clock.until(self._clock.now_s + self._random.uniform(1, _WINDOW_S / 2))
                await self._kill()
            self.loads.append(await sending)
            await self._sample()

    def _load(self) -> Sample:
        # As many connections as requests can be under way: what the client cannot send, the service cannot answer.
        most = max(64, math.ceil(self.rate * _REQUEST_TIMEOUT_S))
        return load.open_loop(
            self._port, self._upload, rate=self.rate, seconds=_WINDOW_S, connections=most, drain_s=_DRAIN_S
        )

    async def _kill(self) -> None:
        """A consumer, a worker of ingest or Redis, in turn."""
        match len(self.kills) % 3:
            case 0:
                victim = self._random.choice(self._consumers)
                victim.kill()
                self.kills.append(victim.name)
            case 1:
                os.kill(self._random.choice(self._ingest.process.workers), signal.SIGKILL)
                self.kills.append("a worker of ingest")
            case _:
                await asyncio.to_thread(self._server.kill)
                await asyncio.to_thread(self._server.start)
                self.kills.append("Redis")

    async def _sample(self) -> None:
        ingests = [self._ingest.process.pid, *self._ingest.process.workers]
        consumers = [post.process.pid for post in self._consumers]
        async with connect(RedisSettings(redis_url=self._server.url)) as redis:
            about: Any = await redis.info()
            keys, pid = int(await redis.dbsize()), int(about["process_id"])
        values = {
            "ingest RSS": _most(_resident, ingests),
            "consumer RSS": _most(_resident, consumers),
            "Redis RSS": _resident(pid),
            "ingest descriptors": _most(_descriptors, ingests),
            "consumer descriptors": _most(_descriptors, consumers),
            "ingest threads": _most(_threads, ingests),
            "consumer threads": _most(_threads, consumers),
            "keys": keys,
            "Redis memory": about["used_memory"],
            "p99 ms": self.loads[-1].p99_ms,
        }
        for name, value in values.items():
            self.samples[name].append(value)
        shown = ", ".join(f"{name} {_shown(name, value)}" for name, value in values.items())
        _say(f"{self._clock.now_s:.0f} s: {shown}; {_failures_of(self.loads[-1:])}; killed: {self.kills[-1:]}")


def _most(measure: Callable[[int], float], pids: list[int]) -> float:
    return max((measure(pid) for pid in pids), default=math.nan)


def _status(pid: int, field: str) -> float:
    """NaN where the process has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return math.nan
    return next((float(line.split()[1]) for line in lines if line.startswith(field)), math.nan)


def _resident(pid: int) -> float:
    return _status(pid, "VmRSS:") * 1024


def _threads(pid: int) -> float:
    return _status(pid, "Threads:")


def _descriptors(pid: int) -> float:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return math.nan


def _shown(name: str, value: float) -> str:
    return f"{value / 1e6:.1f} MB" if name.endswith(("RSS", "memory")) else f"{value:.0f}"


def _failures_of(loads: list[Sample]) -> str:
    """Refusals, and errors by what happened."""
    total = sum((Counter(one.failures) for one in loads), Counter(refused=sum(one.refused for one in loads)))
    return ", ".join(f"{what}: {count}" for what, count in sorted(total.items())) or "none"


def _say(text: str) -> None:
    sys.stderr.write(f"soak: {text}\n")
    sys.stderr.flush()


def report(soak: Soak, seconds: float, failures: list[str]) -> list[str]:
    """The run as a table in Markdown."""
    names = ("requests", "refused", "errors")
    answered, refused, errors = (sum(getattr(one, name) for one in soak.loads) for name in names)
    about = (
        f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, {seconds:.0f} s at {soak.rate:.0f} requests/s: "
        f"{answered} answered, {refused} refused, {errors} errors; {sum(soak.hostile.done.values())} hostile requests; "
        f"{len(soak.kills)} kills."
    )
    lines = [
        about,
        "",
        "| figure, every 30 s | first | median | last | growth by the fitted line |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, values in soak.samples.items():
        shown = (values[0], sorted(values)[len(values) // 2], values[-1], growth(values))
        lines.append(f"| {name} | {' | '.join(_shown(name, value) for value in shown)} |")
    lines += ["", f"Requests without a prediction: {_failures_of(soak.loads)}."]
    lines += ["", f"Of the requests, {answered / max(1, answered + refused + errors):.2%} were answered."]
    return [*lines, "", *(f"- {line}" for line in failures)] if failures else [*lines, "", "Nothing grows or fails."]


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=7200, help="length of the load (default %(default)g)")
    parser.add_argument("--seed", type=int, default=1, help="decides who is killed and what hostile clients do")
    parser.add_argument("--image", choices=sorted(images.BY_NAME), default="small", help="default: %(default)s")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-soak-") as folder:
        soak = Soak(Path(folder), given.seconds, given.seed, images.BY_NAME[given.image]())
        failures = asyncio.run(soak.run())
        sys.stdout.write("\n".join([*report(soak, given.seconds, failures), ""]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
