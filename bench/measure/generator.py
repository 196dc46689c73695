"""`python -m bench.measure.generator`: sends requests from a process of its own and prints what came back, as one JSON.

Closed loop: `clients` connections, each sends when its answer has come, until `seconds` are over or `requests`
are sent. Open loop: requests are due at a fixed rate, whether or not answers come, and a latency counts from the moment
when its request was due. Knows no server.
"""

import argparse
import asyncio
import json
import re
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import uvloop

from bench.measure.uploads import Upload

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TIMING = re.compile(rb"\r\nserver-timing: *([^\r]*)", re.IGNORECASE)
_STAGE = re.compile(rb"([a-z_]+);dur=([0-9.]+)")
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)

#: Most connections of an open loop by default. A request that is due when none is free waits, and its
#: waiting counts.
_MOST_CONNECTIONS = 512

#: What a server says that has more to do than it can: too many requests, and service unavailable.
_REFUSALS = frozenset({429, 503})

#: After the last request was due: how long answers are awaited by default.
_DRAIN_S = 10.0


@dataclass(slots=True)
class Counts:
    """What came back: seconds of each answer of status 200, how many were refused or failed, and the server's times."""

    latencies_s: list[float] = field(default_factory=list)
    answered_s: list[float] = field(default_factory=list)
    refused: int = 0
    #: How many requests failed, by what happened to them.
    failures: Counter[str] = field(default_factory=Counter)
    stages_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def ended(self) -> int:
        """Requests that came to an end, whichever."""
        return len(self.latencies_s) + self.refused + self.failures.total()

    def note(self, status: int, head: bytes, due_s: float) -> None:
        if status != 200:
            self.refused += status in _REFUSALS
            self.failures.update([] if status in _REFUSALS else [f"status {status}"])
            return
        now_s = time.perf_counter()
        self.latencies_s.append(now_s - due_s)
        self.answered_s.append(now_s)
        if timing := _TIMING.search(head):
            for stage, spent_ms in _STAGE.findall(timing[1]):
                self.stages_ms[stage.decode()].append(float(spent_ms))

    def each_second(self) -> list[int]:
        """How many were answered in each whole second since the first answer."""
        if not self.answered_s:
            return []
        began_s, ended_s = self.answered_s[0], self.answered_s[-1]
        counts = Counter(int(one - began_s) for one in self.answered_s)
        return [counts[second] for second in range(int(ended_s - began_s))]

    def summary(self, seconds: float) -> dict[str, Any]:
        ordered = sorted(self.latencies_s)
        return {
            "requests": len(ordered),
            "seconds": seconds,
            "refused": self.refused,
            "errors": self.failures.total(),
            "failures": dict(self.failures),
            "p50_ms": percentile(ordered, 0.5) * 1000,
            "p99_ms": percentile(ordered, 0.99) * 1000,
            "stages_ms": {stage: percentile(sorted(times), 0.5) for stage, times in self.stages_ms.items()},
            "each_second": self.each_second(),
        }


def percentile(ordered: list[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed (nearest rank); NaN for none."""
    return ordered[max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1)] if ordered else float("nan")


class Connection(asyncio.Protocol):
    """One connection: one request at a time. `freed` is called when its answer is complete."""

    def __init__(
        self, counts: Counts, freed: Callable[["Connection"], None], lost: Callable[["Connection"], None]
    ) -> None:
        self._counts = counts
        self._freed = freed
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._due_s = 0.0
        self._received = bytearray()
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but the class

    def send(self, message: bytes, due_s: float) -> None:
        assert self._transport is not None
        self.busy = True
        self._due_s = due_s
        self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[: end + 2])
        length = _LENGTH.search(head)
        assert length, f"an answer without Content-Length: {head!r}"
        if len(self._received) < end + 4 + int(length[1]):
            return
        self._received.clear()
        self._counts.note(int(head[9:12]), head, self._due_s)
        self.busy = False
        if head.startswith(b"HTTP/1.0") or _CLOSES.search(head):
            self.close()
        else:
            self._freed(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's interface)
        if self.busy:
            self._counts.failures["connection lost"] += 1
            self.busy = False
        self._lost(self)

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()


class Closed:
    """The closed loop. Ends after `seconds`, or when `requests` are answered where that is not 0."""

    def __init__(self, message: bytes, port: int, *, clients: int, seconds: float, requests: int) -> None:
        self.counts = Counts()
        self._message = message
        self._port = port
        self._clients = clients
        self._seconds = seconds
        self._left = requests or sys.maxsize
        self._sent = 0
        self._ended = asyncio.Event()

    async def run(self) -> float:
        """Returns the seconds that it took."""
        connections = [await self._connect() for _ in range(self._clients)]
        started = time.perf_counter()
        for connection in connections:
            self._next(connection)
        try:
            async with asyncio.timeout(self._seconds):
                await self._ended.wait()
        except TimeoutError:
            self._left = 0
        return time.perf_counter() - started

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: Connection(self.counts, self._next, self._reconnect), "127.0.0.1", self._port
        )
        return connection

    def _next(self, connection: Connection) -> None:
        if self._left:
            self._left -= 1
            self._sent += 1
            connection.send(self._message, time.perf_counter())
        self._note_end()

    def _note_end(self) -> None:
        if not self._left and self.counts.ended >= self._sent:
            self._ended.set()

    def _reconnect(self, _lost: Connection) -> None:
        if self._left:
            task = asyncio.get_running_loop().create_task(self._connect())
            task.add_done_callback(lambda done: self._next(done.result()))
        self._note_end()


class Open:
    """The open loop: `rate` requests per second are due for `seconds`."""

    def __init__(
        self, message: bytes, port: int, rate: float, seconds: float, *, connections: int, drain_s: float
    ) -> None:
        self.counts = Counts()
        self._drain_s = drain_s
        self._message = message
        self._port = port
        self._rate = rate
        self._seconds = seconds
        self._most = connections
        self._idle: deque[Connection] = deque()
        self._waiting: deque[float] = deque()
        self._connections = 0

    async def run(self) -> float:
        """Returns the seconds until the last answer; what has not been answered by then counts as an error."""
        started = time.perf_counter()
        count = int(self._rate * self._seconds)
        for number in range(count):
            due = started + number / self._rate
            if (pause := due - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
            self._waiting.append(due)
            self._serve()
        await self._drain(count)
        unsent, lacking = len(self._waiting), count - self.counts.ended
        self.counts.failures += Counter({"not sent": unsent, "no answer": lacking - unsent})
        return time.perf_counter() - started

    def _serve(self) -> None:
        while self._waiting and self._idle:
            self._idle.popleft().send(self._message, self._waiting.popleft())
        if self._waiting and self._connections < self._most:
            self._connections += 1
            asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(self.counts, self._free, self._lost), "127.0.0.1", self._port
            )
        except OSError:
            self._connections -= 1  # The next request that is due, or that ends, tries again.
        else:
            self._free(connection)

    def _free(self, connection: Connection) -> None:
        self._idle.append(connection)
        self._serve()

    def _lost(self, connection: Connection) -> None:
        self._connections -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        self._serve()

    async def _drain(self, count: int) -> None:
        deadline = time.perf_counter() + self._drain_s
        # An event would cost something with every answer, all along.
        while self.counts.ended < count and time.perf_counter() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.measure.generator", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--content-type", required=True)
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--requests", type=int, default=0, help="closed loop: end after so many")
    parser.add_argument("--connections", type=int, default=_MOST_CONNECTIONS, help="open loop: at most so many")
    parser.add_argument("--rate", type=float, default=0.0, help="open loop at so many requests per second")
    parser.add_argument("--drain", type=float, default=_DRAIN_S, help="open loop: seconds to wait for the last answers")
    given = parser.parse_args()
    upload = Upload(given.path, given.content_type, given.body.read_bytes())
    message = upload.message(f"127.0.0.1:{given.port}")

    async def run() -> dict[str, Any]:
        load = (
            Open(message, given.port, given.rate, given.seconds, connections=given.connections, drain_s=given.drain)
            if given.rate
            else Closed(message, given.port, clients=given.clients, seconds=given.seconds, requests=given.requests)
        )
        return load.counts.summary(await load.run())

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run())))


if __name__ == "__main__":
    main()
