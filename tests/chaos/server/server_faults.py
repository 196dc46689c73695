"""Faults of the embedded server: of its process, its disk, its data and its clock."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis

from stream.keys import MODELS, REQUESTS, Partition
from tests.chaos.clock import Clock, pause
from tests.chaos.server.busy_disk import busy_disk
from tests.chaos.server.embedded_server import EmbeddedServer

#: By how much a clock jumps, in seconds: more than any deadline and any lease.
_JUMP_S = 600

#: A changed clock is read again within this time (FAKETIME_CACHE_DURATION), and then acts.
_CLOCK_ACTS_S = 3.0


_DELETE_OLDEST_REQUEST = """
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
for i = 1, oldest and #oldest[2] or 0, 2 do
    if oldest[2][i] == 'id' then
        redis.call('DEL', KEYS[2] .. oldest[2][i + 1])
        return KEYS[2] .. oldest[2][i + 1]
    end
end
return 'none'
"""


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, and since when accepted images may be lost by it, in seconds of the run; None: none may."""

    target: str = "Redis"
    may_lose_since_s: float | None = None


class ServerFaults:
    """Does one at a time. `keys` names what can be deleted; `lease_ends` waits for what a fault leaves behind."""

    def __init__(
        self, server: EmbeddedServer, redis: Redis, partition: Partition, clock: Clock, *, seed: int, timeout_s: float
    ) -> None:
        self._server = server
        self._redis = redis
        self._partition = partition
        self._clock = clock
        self._random = random.Random(seed)
        self._timeout_s = timeout_s
        self._one = asyncio.Lock()
        self._ahead_s = 0
        self._deleted = 0
        self._kinds: dict[str, Callable[[], Awaitable[Done]]] = {
            "kill Redis": self._kill,
            "kill Redis on a busy disk": self._kill_on_a_busy_disk,
            "pause Redis": self._pause,
            "power failure": lambda: self._power_failure(torn=False),
            "power failure within a write": lambda: self._power_failure(torn=True),
            "flip a byte on the disk": self._flip,
            "fill the disk": self._fill,
            "stop the clock": self._stop_clock,
            "set the clock back": lambda: self._set_clock(-_JUMP_S),
            "set the clock forward": lambda: self._set_clock(_JUMP_S),
            "delete a key": self._delete,
        }

    def knows(self, kind: str) -> bool:
        return kind in self._kinds

    async def do(self, kind: str) -> Done:
        async with self._one:
            return await self._kinds[kind]()

    async def _kill(self) -> Done:
        await asyncio.to_thread(self._server.kill)
        await pause(self._random.uniform(0.2, 1.5))
        await asyncio.to_thread(self._server.start)
        return Done()

    async def _kill_on_a_busy_disk(self) -> Done:
        with busy_disk(self._server.data_dir):
            await pause(self._random.uniform(0.8, 2.0))
            await asyncio.to_thread(self._server.kill)
        await asyncio.to_thread(self._server.start)
        return Done()

    async def _pause(self) -> Done:
        self._server.signal(signal.SIGSTOP)
        await pause(self._random.uniform(1, 3))
        self._server.signal(signal.SIGCONT)
        return Done()

    async def _power_failure(self, *, torn: bool) -> Done:
        """All that was not synced is gone; or, `torn`, some of it is there up to the middle of a command."""
        with busy_disk(self._server.data_dir):
            await pause(self._random.uniform(0.8, 2.0))
            await asyncio.to_thread(self._server.kill_all)
        path = self._server.aof
        synced, length = self._server.synced(path), path.stat().st_size
        os.truncate(path, self._random.randint(synced.length, length) if torn else synced.length)
        await asyncio.to_thread(self._server.start)
        # At the level `disk`, the server answers only when it has synced.
        may_lose_since_s = None if self._server.durability == "disk" else self._clock.of(synced.at_s)
        return Done(f"{length - synced.length} bytes", may_lose_since_s)

    async def _flip(self) -> Done:
        """One bit of one byte. If the server refuses the file, its operator restores it."""
        await asyncio.to_thread(self._server.kill)
        path = self._server.aof
        offset = self._random.randrange(path.stat().st_size)
        _flip_bit(path, offset)
        if await asyncio.to_thread(self._server.starts):
            return Done("read nevertheless", 0.0)
        _flip_bit(path, offset)
        await asyncio.to_thread(self._server.start)
        return Done("refused")

    async def _fill(self) -> Done:
        """The next write of the append-only file fits only in part."""
        self._server.limit_file(self._random.randrange(4096))
        await pause(self._random.uniform(2, 4))
        self._server.limit_file(None)
        return Done()

    async def _stop_clock(self) -> Done:
        self._server.set_clock(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + self._ahead_s)))
        await pause(_CLOCK_ACTS_S)
        self._set_ahead(self._ahead_s)
        return Done()

    async def _set_clock(self, by_s: int) -> Done:
        self._set_ahead(self._ahead_s + by_s)
        await pause(_CLOCK_ACTS_S)
        return Done(f"by {by_s} s")

    def _set_ahead(self, seconds: int) -> None:
        self._ahead_s = seconds
        self._server.set_clock(f"{seconds:+d}")

    async def _delete(self) -> Done:
        """One key after the other. The entries and the state of a request hold accepted images."""
        name, holds_images = self._deletable()[self._deleted % len(self._deletable())]
        self._deleted += 1
        if name == "a request":
            name = await delete_oldest_request(self._redis, self._partition)
        else:
            await self._redis.delete(name)
        return Done(name, self._clock.now_s - self._timeout_s if holds_images else None)

    def _deletable(self) -> list[tuple[str, bool]]:
        of = self._partition
        harmless = [MODELS, of.versions, of.alive, of.consumers, of.holders, of.dead_letters, REQUESTS]
        return [*((name, False) for name in harmless), *((one.key, True) for one in of.streams()), ("a request", True)]


async def delete_oldest_request(redis: Redis, partition: Partition) -> str:
    """Delete the state of the image that waits for the longest time, and return the name of its key.

    In one step: a moment later the image may have its outcome, which is not to be deleted.
    """
    keys = [partition.entries, partition.request("")]
    name: bytes = await redis.eval(_DELETE_OLDEST_REQUEST, len(keys), *keys)
    return name.decode()


def _flip_bit(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 4]))
