"""Limits how many requests each API key, or each address, may send.

Redis keeps the counts, so that a limit holds over all ingest processes.
"""

import asyncio
import ipaddress
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.auth.owner import owner
from ingest.errors import Problem, StreamUnavailable, TooManyRequests, redis_errors_as_503
from ingest.paths import is_limited
from ingest.responses import send_problem
from stream.keys import rate
from stream.scripts import load

#: Most refused clients that a process remembers. Beyond that number, each of their requests asks Redis.
_MAX_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class RateLimitState:
    """The state of one client after a request.

    `left` more requests are allowed at once, and the whole burst again after `reset_s`. `wait_s` is 0 if the request
    counts. If it is refused, the next one is allowed after `wait_s`.
    """

    left: int
    reset_s: float
    wait_s: float


class RateLimit:
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

    async def count(self, client: str) -> RateLimitState:
        """Count one request of this client. Raises the errors of redis-py, and TimeoutError."""
        if (known := self._refused_before(client)) is not None:
            return known
        async with asyncio.timeout(self._timeout_s):
            left, reset_us, wait_us = await self._script([rate(client)], [math.ceil(1e6 / self._per_s), self._burst])
        state = RateLimitState(left, reset_us / 1e6, wait_us / 1e6)
        if state.wait_s:
            self._remember(client, state)
        return state

    async def admit(self, scope: Scope) -> RateLimitState:
        """Count one request of the current owner, or of the client's address. Raises StreamUnavailable.

        The request must be refused if the state has a `wait_s`.
        """
        with redis_errors_as_503():
            return await self.count(_client(scope))

    def _refused_before(self, client: str) -> RateLimitState | None:
        # Nothing shortens a wait that Redis has named. So a flood of refused requests does not reach Redis.
        if client not in self._waiting:
            return None
        until_s, reset_at_s = self._waiting[client]
        now_s = self._clock()
        if now_s >= until_s:
            del self._waiting[client]
            return None
        return RateLimitState(0, reset_at_s - now_s, until_s - now_s)

    def _remember(self, client: str, state: RateLimitState) -> None:
        if len(self._waiting) >= _MAX_REMEMBERED:
            self._waiting.clear()
        now_s = self._clock()
        self._waiting[client] = (now_s + state.wait_s, now_s + state.reset_s)

    def headers(self, state: RateLimitState) -> dict[str, str]:
        """What the client may still send (draft-ietf-httpapi-ratelimit-headers-11). Times are in whole seconds."""
        window_s = max(1, math.ceil(self._burst / self._per_s))
        return {
            "RateLimit-Policy": f'"requests";q={self._burst};w={window_s}',
            "RateLimit": f'"requests";r={state.left};t={math.ceil(state.reset_s)}',
        }


class RateLimitMiddleware:
    """Counts all requests but those for health, metrics and the page. Beyond the limit: 429, and no body is read."""

    def __init__(self, app: ASGIApp, limit: RateLimit) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_limited(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            state = await self._limit.admit(scope)
        except StreamUnavailable as problem:
            await send_problem(problem, scope, receive, send)
            return
        send_with_state = _with_headers(self._limit.headers(state), send)
        if state.wait_s:
            await send_problem(refusal(state), scope, receive, send_with_state)
        else:
            await self._app(scope, receive, send_with_state)


def refusal(state: RateLimitState) -> Problem:
    return TooManyRequests(
        f"The rate limit is reached. Send the next request in {math.ceil(state.wait_s * 10) / 10} s.",
        retry_after_s=state.wait_s,
    )


def _with_headers(headers: dict[str, str], send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return send_with_headers


def _client(scope: Scope) -> str:
    """Whose limit counts: the owner of the API key, or without keys the client's address.

    IPv6 addresses count by their /64 network, which one customer usually has for itself.
    """
    if name := owner.get():
        return f"key:{name}"
    host = (scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "address:"  # A Unix socket: all its clients count as one.
    if address.version == 6:
        return f"address:{ipaddress.ip_network((int(address) >> 64 << 64, 64))}"
    return f"address:{address}"
