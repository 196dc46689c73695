"""The load: clients that send whether or not earlier ones were answered, in a steady stream and in bursts.

Most go through the ingests; some admit their image straight into the stream and so know its id from the beginning,
which makes "lost" a matter of looking it up.
"""

import asyncio
import random
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
from redis.asyncio import Redis
from redis.exceptions import RedisError

from results.store import Store
from stream.admission import Admission, AdmissionRefused, QueueFull
from stream.entry import Entry
from stream.keys import Partition
from tests.chaos.clock import Clock, pause
from tests.chaos.expected_answers import ExpectedAnswers
from tests.chaos.ledger import Ledger, Request
from tests.chaos.system import Post

#: Problems that a system in trouble may answer with; each 503 says when to come back.
_REFUSALS = {"overloaded", "no_consumer", "stream_unavailable"}

#: A killed ingest is known to be killed before its clients notice; a pooled connection may notice later.
_NOTICE_S = 5.0

#: httpx looks at all connections of a pool for each request: with hundreds of them, one pool would take all of a core.
_POOLS = 32


@dataclass(frozen=True, slots=True)
class Traffic:
    """Images per second, and every `burst_every_s` seconds `burst` more at once; shares are of 1.

    Those that are `direct` go into the stream without HTTP. For those that are `asynchronous` no client waits.
    """

    rate: float
    burst: int
    burst_every_s: float
    timeout_s: float
    direct: float = 0.15
    asynchronous: float = 0.05
    hang_up: float = 0.03
    cancel: float = 0.1


class Load:
    """Sends and writes down what comes back."""

    def __init__(
        self, expected: ExpectedAnswers, ingests: list[Post], redis: Redis, traffic: Traffic, *, clock: Clock, seed: int
    ) -> None:
        partition = Partition(expected.model.name)
        self.ledger = Ledger()
        self._expected = expected
        self._ingests = ingests
        self._traffic = traffic
        self._clock = clock
        self._random = random.Random(seed)
        self._admission = Admission(redis, partition, result_ttl_s=7200)
        self._store = Store(redis, partition)
        self._ending = asyncio.Event()
        self._outstanding = 0

    def end(self) -> None:
        self._ending.set()

    async def run(self) -> None:
        """Send until `end`; returns when every request has ended somehow."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        # An ingest answers long before; who is not answered by then is not answered at all.
        timeout = httpx.Timeout(self._traffic.timeout_s + 10)
        async with AsyncExitStack() as stack:
            pools = [httpx.AsyncClient(limits=limits, timeout=timeout, verify=False) for _ in range(_POOLS)]  # noqa: S501
            for http in pools:
                await stack.enter_async_context(http)
            await self._send_until_ended(pools)

    async def _send_until_ended(self, pools: list[httpx.AsyncClient]) -> None:
        async with asyncio.TaskGroup() as tasks:
            next_burst_s = self._clock.now_s + self._traffic.burst_every_s
            while not self._ending.is_set():
                tasks.create_task(self._send(self._random.choice(pools)))
                if self._clock.now_s >= next_burst_s:
                    next_burst_s += self._traffic.burst_every_s
                    # On a machine too slow for a burst, another one on top would only make the clients slower.
                    for _ in range(self._traffic.burst - self._outstanding):
                        tasks.create_task(self._send(self._random.choice(pools)))
                await pause(self._random.expovariate(self._traffic.rate))

    async def _send(self, http: httpx.AsyncClient) -> None:
        number = self._random.randrange(len(self._expected.images))
        direct = self._random.random() < self._traffic.direct
        request = self.ledger.open(number, self._clock.now_s, direct=direct)
        self._outstanding += 1
        await (self._admit(request) if direct else self._post(http, request))
        self._outstanding -= 1
        request.answered_s = self._clock.now_s

    async def _admit(self, request: Request) -> None:
        image, model = self._expected.images[request.image], self._expected.model
        request.id = uuid.uuid4().hex
        reply = self._random.choice(["", "chaos"])
        entry = Entry(request.id, reply, self._random.choice([0, 1, 5]), model.height, model.width, image.pixels)
        try:
            await self._admission.admit(entry, timeout_s=self._traffic.timeout_s, max_backlog=10_000)
            request.result = "queued"
            if self._random.random() < self._traffic.cancel and await self._store.cancel(request.id):
                request.result = "cancelled"
        except AdmissionRefused as refused:
            request.result, request.code = "refused", "overloaded" if isinstance(refused, QueueFull) else "no_consumer"
        except RedisError:
            # Once admitted it stays accepted, even where the cancelling failed.
            request.result = "unknown" if request.result == "unanswered" else request.result

    async def _post(self, http: httpx.AsyncClient, request: Request) -> None:
        """Through one ingest, or through another where that one takes no connection."""
        for ingest in self._random.sample(self._ingests, len(self._ingests)):
            try:
                if self._random.random() < self._traffic.hang_up:
                    await self._hang_up(http, ingest, request)
                else:
                    self._judge(request, await self._ask(http, ingest, request))
                return
            except httpx.ConnectError:
                request.result = "unreachable"
            except httpx.TimeoutException as error:
                request.result, request.detail = "unanswered", repr(error)
                return
            except httpx.TransportError as error:
                waited_s, killed_s = (self._clock.now_s - moment for moment in (request.sent_s, ingest.killed_s))
                request.result = "broken" if killed_s < max(_NOTICE_S, waited_s) else "improper"
                request.detail = (
                    f"{error!r} from {ingest.name}, sent {waited_s:.1f} s before; last killed {killed_s:.1f} s before"
                )
                return

    async def _hang_up(self, http: httpx.AsyncClient, ingest: Post, request: Request) -> None:
        try:
            async with asyncio.timeout(self._random.uniform(0.0, 0.1)):
                self._judge(request, await self._ask(http, ingest, request))
        except TimeoutError:
            request.result = "hung up"

    async def _ask(self, http: httpx.AsyncClient, ingest: Post, request: Request) -> httpx.Response:
        upload = self._expected.images[request.image].upload
        parameters = {"top": self._random.choice([1, 5, 10])}
        headers = {"Prefer": "respond-async"} if self._random.random() < self._traffic.asynchronous else {}
        url = ingest.url + "/predict"
        if self._random.random() < 0.5:
            files = {"image": ("image", upload, "application/octet-stream")}
            return await http.post(url, params=parameters, headers=headers, files=files)
        return await http.post(url, params=parameters, headers=headers, content=upload)

    def _judge(self, request: Request, answer: httpx.Response) -> None:
        body: dict[str, Any] = answer.json()
        request.code, request.id = str(body.get("code", "")), str(body.get("id", ""))
        match answer.status_code:
            case 200:
                image = self._expected.images[request.image]
                request.result = "right" if self._expected.is_right(image, body["predictions"]) else "wrong"
            case 202:
                request.result = "queued"
            case 503 if request.code in _REFUSALS and "retry-after" in answer.headers:
                request.result = "refused"
            case 504 if request.code == "deadline_passed":
                request.result = "expired"
            case 500 if request.code == "damaged_in_redis":
                request.result = "damaged"
            case 500 if "dead letter" in str(body.get("detail")):
                request.result = "given up"
            case _:
                request.result, request.detail = "improper", f"{answer.status_code} {answer.text[:200]}"
