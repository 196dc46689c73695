"""The limiter: how many requests each key may send. ASGI; the count is kept in Redis and holds over all ingests."""

import asyncio
import ipaddress
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from redis.asyncio import Redis
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest import outage
from ingest.api.static import is_page
from ingest.auth.owner import owner
from ingest.errors import Problem, StreamUnavailable, TooManyRequests
from ingest.middleware.auth import is_open
from ingest.refusal import refuse
from stream.keys import rate
from stream.scripts import load

#: Of those who have to wait, so many are remembered here; of the others each request asks Redis.
_MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Standing:
    """Where somebody stands after a request: `left` more at once, all of the burst again in `reset_s`.

    `wait_s` is 0 where the request counts; where it is refused, one more is allowed after so many seconds.
    """

    left: int
    reset_s: float
    wait_s: float


class Limit:
    """`per_s` requests a second in the long run, and up to `burst` at once."""

    def __init__(
        self,
        redis: Redis,
        *,
        per_s: float,
        burst: int,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._script = load(redis, "ingest.middleware", "rate_limit")
        self._per_s = per_s
        self._burst = burst
        self._timeout_s = timeout_s
        self._clock = clock
        self._waiting: dict[str, tuple[float, float]] = {}

    async def count(self, who: str) -> Standing:
        """Count one request of somebody's; raises redis-py's errors and TimeoutError."""
        if (known := self._refused_before(who)) is not None:
            return known
        async with asyncio.timeout(self._timeout_s):
            left, reset_us, wait_us = await self._script([rate(who)], [math.ceil(1e6 / self._per_s), self._burst])
        standing = Standing(left, reset_us / 1e6, wait_us / 1e6)
        if standing.wait_s:
            self._remember(who, standing)
        return standing

    def _refused_before(self, who: str) -> Standing | None:
        # Nothing can shorten a wait that Redis has named, so a flood of refused requests need not reach it.
        if who not in self._waiting:
            return None
        until_s, reset_at_s = self._waiting[who]
        now_s = self._clock()
        if now_s >= until_s:
            del self._waiting[who]
            return None
        return Standing(0, reset_at_s - now_s, until_s - now_s)

    def _remember(self, who: str, standing: Standing) -> None:
        if len(self._waiting) >= _MOST_REMEMBERED:
            self._waiting.clear()
        now_s = self._clock()
        self._waiting[who] = (now_s + standing.wait_s, now_s + standing.reset_s)

    def headers(self, standing: Standing) -> dict[str, str]:
        """What a client may do, by draft-ietf-httpapi-ratelimit-headers-11; times in whole seconds."""
        window_s = max(1, math.ceil(self._burst / self._per_s))
        return {
            "RateLimit-Policy": f'"requests";q={self._burst};w={window_s}',
            "RateLimit": f'"requests";r={standing.left};t={math.ceil(standing.reset_s)}',
        }


class Limiter:
    """Counts each request but those for health and the page; answers 429 beyond the limit, before a body is read."""

    def __init__(self, app: ASGIApp, limit: Limit) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["path"]) or is_page(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            with outage.told():
                standing = await self._limit.count(_who(scope))
        except StreamUnavailable as problem:
            await refuse(problem, scope, receive, send)
            return
        sending = _with(self._limit.headers(standing), send)
        if standing.wait_s:
            await refuse(_refused(standing), scope, receive, sending)
        else:
            await self._app(scope, receive, sending)


def _refused(standing: Standing) -> Problem:
    return TooManyRequests(
        f"The limit is reached; the next request is taken in {standing.wait_s:.1f} s.", retry_after_s=standing.wait_s
    )


def _with(headers: dict[str, str], send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return sending


def _who(scope: Scope) -> str:
    """The key's owner; without keys the client's address, of IPv6 the network that one customer usually has."""
    if name := owner():
        return f"key:{name}"
    host = (scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "address:"  # a Unix socket: all who come through it are one
    if address.version == 6:
        return f"address:{ipaddress.ip_network((int(address) >> 64 << 64, 64))}"
    return f"address:{address}"
