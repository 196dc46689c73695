"""The system under chaos: one server, proxies before it, ingests, consumers, and a supervisor that restarts them.

Knows nothing of the load and of the faults; says who may be killed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from stream.settings import Durability
from tests.chaos.clock import Clock, pause
from tests.chaos.proxy import Proxy
from tests.chaos.server.embedded_server import EmbeddedServer
from tests.support.processes import Process, Processes
from tests.support.redis.servers import free_port

#: How long a supervisor waits before it starts a dead process again.
_RESTART_S = 0.3


@dataclass(frozen=True, slots=True)
class Scale:
    """What runs. `image_s` is the time that a consumer of the tiny model takes for an image, None for a real model.
    With `fake_clock` the server's clock can be changed.

    `settings` are those of all processes.
    """

    models_dir: Path
    image_s: float | None
    ingests: int = 2
    consumers: int = 3
    durability: Durability = "process"
    fake_clock: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


class Post:
    """One process slot: a new process starts in it when the old one dies."""

    def __init__(self, name: str, start: Callable[[], Process], clock: Clock, *, url: str = "") -> None:
        self.name = name
        self.url = url
        self.paused = False
        self.killed_s = float("-inf")
        self.starts = 0
        self.died: list[str] = []
        self.processes: list[Process] = []
        self._start = start
        self._clock = clock
        self._expected = False

    @property
    def process(self) -> Process:
        return self.processes[-1]

    def fill(self) -> None:
        self.processes.append(self._start())
        self.starts += 1
        self._expected = False

    def kill(self) -> None:
        """SIGKILL."""
        self._expected = True
        self.killed_s = self._clock.now_s
        self.process.kill()

    async def works(self) -> bool:
        """Whether it does its work, so that killing it costs something."""
        if self.paused or self.process.status is not None:
            return False
        if not self.url:
            return "ready consumer=" in self.process.text
        try:
            async with httpx.AsyncClient() as client:
                return (await client.get(self.url + "/readyz", timeout=2)).status_code == 200
        except httpx.TransportError:
            return False

    async def supervise(self) -> None:
        """Start a new process whenever the old one has died, until cancelled."""
        while True:
            if (status := self.process.status) is not None:
                if not self._expected:
                    self.died.append(f"{self.name} ended by itself with status {status}")
                await pause(_RESTART_S)
                self.fill()
            await pause(0.05)


class System:
    """All of it; an async context manager."""

    def __init__(self, folder: Path, scale: Scale, clock: Clock) -> None:
        self._scale = scale
        self.server = EmbeddedServer(folder, durability=scale.durability, fake_clock=scale.fake_clock)
        self.proxies = {"ingests": Proxy(self.server.socket), "consumers": Proxy(self.server.socket)}
        self._started = Processes(folder, redis_url=self.server.url, models_dir=scale.models_dir)
        self.consumers = [Post(f"consumer {number}", self._start_consumer, clock) for number in range(scale.consumers)]
        self.ingests = [self._ingest_post(number, free_port(), clock) for number in range(scale.ingests)]
        self._supervisors: list[asyncio.Task[None]] = []

    @property
    def posts(self) -> list[Post]:
        return [*self.consumers, *self.ingests]

    async def start(self) -> None:
        """Returns when every process does its work."""
        await asyncio.to_thread(self.server.start)
        for proxy in self.proxies.values():
            await proxy.start()
        for post in self.posts:
            post.fill()
            self._supervisors.append(asyncio.create_task(post.supervise()))
        for post in self.posts:
            while not await post.works():
                assert not post.died, f"{post.died}: {post.processes[0].text}"
                await pause(0.05)

    async def stop(self) -> list[str]:
        """SIGTERM to all; returns a line for each that did not end with status 0, or ended by itself before."""
        for supervisor in self._supervisors:
            supervisor.cancel()
        complaints = [line for post in self.posts for line in post.died]
        statuses = [(post.name, await asyncio.to_thread(post.process.stop)) for post in self.posts]
        complaints += [f"{name} ended with status {status} after SIGTERM" for name, status in statuses if status]
        return complaints + self._tracebacks()

    async def kill(self) -> None:
        """End everything, however it stands."""
        for supervisor in self._supervisors:
            supervisor.cancel()
        for post in self.posts:
            for process in post.processes:
                process.kill()
        for proxy in self.proxies.values():
            await proxy.close()
        self.server.kill_all()

    def _tracebacks(self) -> list[str]:
        return [
            f"{post.name} logged a traceback, see {process.log}"
            for post in self.posts
            for process in post.processes
            if "Traceback" in process.text
        ]

    def _start_consumer(self) -> Process:
        url = self.proxies["consumers"].url
        if self._scale.image_s is None:
            return self._started.start("consumers", redis_url=url, **self._scale.settings)
        rogue = str(self._scale.image_s)
        return self._started.start("tests.chaos.slow_consumer", rogue=rogue, redis_url=url, **self._scale.settings)

    def _ingest_post(self, number: int, port: int, clock: Clock) -> Post:
        def start() -> Process:
            url = self.proxies["ingests"].url
            return self._started.start("ingest", port=port, redis_url=url, **self._scale.settings)

        return Post(f"ingest {number}", start, clock, url=f"http://127.0.0.1:{port}")
