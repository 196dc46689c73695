"""The counts of responses that ingest processes share through Redis: their sum, and what becomes of old ones."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
import redis
from redis.asyncio import Redis

from ingest.dashboard.request_window import RequestWindow
from ingest.dashboard.shared_window import Requests, SharedWindow
from stream.keys import REQUESTS
from tests.support.redis.servers import Server


def window_of(*statuses: int) -> RequestWindow:
    window = RequestWindow()
    for status in statuses:
        window.note(status, 0.01, batch=2)
    return window


def run(server: Server, work: Callable[[Redis], Awaitable[Requests]]) -> Requests:
    async def connected() -> Requests:
        async with Redis.from_url(server.url) as client:
            return await work(client)

    return asyncio.run(connected())


async def published(client: Redis, window: RequestWindow) -> None:
    """Another process that has written its counts."""
    other = SharedWindow(client, window, timeout_s=5)
    await other._publish(other.own())


def test_the_processes_add_up(server: Server) -> None:
    """Statuses, batches, and the percentiles over all of them."""

    async def work(client: Redis) -> Requests:
        await published(client, window_of(200, 200, 503))
        return await SharedWindow(client, window_of(200), timeout_s=5).read()

    found = run(server, work).summary
    assert found.statuses == {200: 3, 503: 1}
    assert found.batches == {2: 4}
    assert found.p50_ms == pytest.approx(10, rel=0.03)


def test_a_process_that_ended_is_left_out_and_removed(server: Server) -> None:
    """After three seconds without a sign it does not count; after a minute its field is deleted."""
    with redis.Redis.from_url(server.url) as client:
        now_ms = int(client.time()[0]) * 1000
        for name, age_ms in (("silent", 10_000), ("ended", 70_000)):
            counts = {"statuses": {"200": 7}, "latencies": {}, "batches": {}, "answered_per_s": 7, "refused_per_s": 0}
            client.hset(REQUESTS, name, json.dumps({"at_ms": now_ms - age_ms, **counts}))
        client.expire(REQUESTS, 60)

        async def work(connected: Redis) -> Requests:
            return await SharedWindow(connected, window_of(200), timeout_s=5).read()

        assert run(server, work).summary.statuses == {200: 1}
        assert client.hkeys(REQUESTS) == [b"silent"]


def _written(**changed: object) -> bytes:
    whole = {"at_ms": 9e15, "statuses": {}, "latencies": {}, "batches": {}, "answered_per_s": 1, "refused_per_s": 1}
    return json.dumps({**whole, **changed}).encode()


@pytest.mark.parametrize(
    "garbage",
    [
        b"no JSON",
        b"[]",
        b"{}",
        b'{"at_ms": "x"}',
        b'{"at_ms": 9e999}',
        _written(statuses={"200": "many"}),
        _written(statuses=[]),
        _written(answered_per_s="x"),
        _written(answered_per_s=float("nan")),
        _written(refused_per_s=1e308),
        _written(statuses={"200": -1}),
        b"[" * 100_000,
    ],
)
def test_what_no_process_wrote_is_skipped(server: Server, garbage: bytes) -> None:
    """The page still shows the counts of the others."""
    with redis.Redis.from_url(server.url) as client:
        client.hset(REQUESTS, "garbage", garbage)
        client.expire(REQUESTS, 60)

    async def work(connected: Redis) -> Requests:
        return await SharedWindow(connected, window_of(200), timeout_s=5).read()

    found = run(server, work)
    assert found.summary.statuses == {200: 1}
    assert found.answered_per_s + found.refused_per_s < 1000
