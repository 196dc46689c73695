"""The faults of processes and networks, and the schedule of all: what is done to the system, when, by which seed."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from tests.chaos.clock import Clock, pause
from tests.chaos.server.server_faults import ServerFaults
from tests.chaos.system import Post, System

#: How often each happens in the short form; longer runs have proportionally more.
SHORT_FORM = {
    "kill a consumer": 11,
    "pause a consumer": 2,
    "kill an ingest": 2,
    "kill Redis": 2,
    "kill Redis on a busy disk": 1,
    "power failure": 1,
    "fill the disk": 1,
    "pause Redis": 1,
    "reset connections": 1,
    "cut the network": 1,
    "mute the network": 1,
    "delay replies": 1,
    "lose replies": 2,
    "tear replies": 1,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault that was done, with its beginning and its end in seconds of the run.

    What was accepted since `may_lose_since_s` may be lost by it; None: nothing may.
    """

    kind: str
    target: str
    began_s: float
    ended_s: float
    may_lose_since_s: float | None = None

    def may_lose(self, sent_s: float, accepted_s: float) -> bool:
        """Whether an image that was sent and accepted at these moments may be lost by it."""
        return self.may_lose_since_s is not None and self.may_lose_since_s <= accepted_s and sent_s <= self.ended_s


class Chaos:
    """Does every fault of the schedule to one system."""

    def __init__(self, system: System, server_faults: ServerFaults, clock: Clock, *, seed: int) -> None:
        self._system = system
        self._clock = clock
        self._random = random.Random(seed)
        self._server_faults = server_faults
        self.done: list[Fault] = []
        self._kinds: dict[str, Callable[[], Awaitable[str]]] = {
            "kill a consumer": lambda: self._kill(system.consumers),
            "pause a consumer": self._pause_consumer,
            "kill an ingest": lambda: self._kill(system.ingests),
            "reset connections": self._reset,
            "cut the network": self._cut,
            "mute the network": self._mute,
            "delay replies": self._delay,
            "lose replies": self._lose,
            "tear replies": self._tear,
        }

    async def run(self, schedule: Mapping[str, int], *, seconds: float) -> None:
        """Each fault as often as the schedule says, spread evenly and in random order; returns when all have ended."""
        faults = [kind for kind, count in schedule.items() for _ in range(count)]
        self._random.shuffle(faults)
        began_s, interval_s = self._clock.now_s, seconds / len(faults)
        async with asyncio.TaskGroup() as tasks:
            for number, kind in enumerate(faults):
                await self._clock.until(began_s + (number + self._random.random()) * interval_s)
                tasks.create_task(self._do(kind))

    async def _do(self, kind: str) -> None:
        began_s = self._clock.now_s
        if self._server_faults.knows(kind):
            done = await self._server_faults.do(kind)
            self.done.append(Fault(kind, done.target, began_s, self._clock.now_s, done.may_lose_since_s))
            return
        target = await self._kinds[kind]()
        self.done.append(Fault(kind, target, began_s, self._clock.now_s))

    async def _victim(self, posts: list[Post]) -> Post:
        """One that works; waits until there is one, so that each kill costs something."""
        while True:
            for post in self._random.sample(posts, len(posts)):
                if await post.works():
                    return post
            await pause(0.05)

    async def _kill(self, posts: list[Post]) -> str:
        victim = await self._victim(posts)
        victim.kill()
        return victim.name

    async def _pause_consumer(self) -> str:
        """For up to two leases: its entries may be claimed, and it wakes up with results that came too late."""
        victim = await self._victim(self._system.consumers)
        process, victim.paused = victim.process, True
        process.send(signal.SIGSTOP)
        await pause(self._random.uniform(1, 4))
        process.send(signal.SIGCONT)
        victim.paused = False
        return victim.name

    def _side(self) -> str:
        return self._random.choice(sorted(self._system.proxies))

    async def _reset(self) -> str:
        side = self._side()
        self._system.proxies[side].reset()
        return side

    async def _cut(self) -> str:
        side = self._side()
        await self._system.proxies[side].cut(self._random.uniform(0.5, 3))
        return side

    async def _mute(self) -> str:
        side = self._side()
        await self._system.proxies[side].mute(self._random.uniform(0.5, 2.5))
        return side

    async def _delay(self) -> str:
        side = self._side()
        await self._system.proxies[side].delay(self._random.uniform(1, 3), by_s=self._random.uniform(0.02, 0.3))
        return side

    async def _lose(self) -> str:
        side = self._side()
        self._system.proxies[side].lose(self._random.randint(2, 8))
        return side

    async def _tear(self) -> str:
        side = self._side()
        self._system.proxies[side].tear(self._random.randint(2, 8))
        return side
