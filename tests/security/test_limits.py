"""Rate limits: counted in Redis for each key, or address, over all ingests."""

import dataclasses
import itertools
import math
from typing import Any

import httpx
import pytest
import redis
from redis.asyncio import Redis

from ingest.auth.owner import set_owner
from ingest.middleware.rate_limit import RateLimit, RateLimitState, _client, refusal
from stream import keys
from tests.ingest.test_app import png
from tests.security.test_keys import ALICE, BOB, bearer
from tests.support.processes import Processes
from tests.support.redis.requests_direct import random_images
from tests.support.redis.servers import Server

(IMAGE,) = random_images(1)


def limit(client: Redis, *, per_s: float = 0.5, burst: int = 3) -> RateLimit:
    # So slow that no request drips out of the bucket while a test runs.
    return RateLimit(client, per_s=per_s, burst=burst, timeout_s=5)


@pytest.mark.anyio
async def test_a_burst_passes_and_the_next_has_to_wait(client: Redis) -> None:
    """Over two ingests together; somebody else has a bucket of his own."""
    one, other = limit(client), limit(client)
    states = [await each.count("key:alice") for each in (one, other, one, other)]
    assert [state.left for state in states] == [2, 1, 0, 0]
    assert [bool(state.wait_s) for state in states] == [False, False, False, True]
    assert states[-1].wait_s == pytest.approx(2, abs=0.5)
    assert [state.reset_s for state in states] == pytest.approx([2, 4, 6, 6], abs=0.5)
    assert (await one.count("key:bob")).left == 2


@pytest.mark.anyio
async def test_the_bucket_empties_at_the_rate(client: Redis) -> None:
    """By Redis's clock: of a bucket that is empty again in 4.5 s, a request of 2 s is allowed at 4 s."""
    seconds, microseconds = await client.time()
    now_us = seconds * 1_000_000 + microseconds
    for empty_in_s, wait_s in ((3.9, 0), (4.5, 0.5), (5.9, 1.9)):
        await client.set(keys.rate("key:alice"), math.floor(now_us + empty_in_s * 1e6), px=60_000)
        assert (await limit(client).count("key:alice")).wait_s == pytest.approx(wait_s, abs=0.3)


@pytest.mark.anyio
async def test_the_count_expires_with_the_bucket(client: Redis) -> None:
    """What nobody uses leaves nothing behind."""
    await limit(client).count("key:alice")
    assert 0 < await client.pttl(keys.rate("key:alice")) <= 2001


@pytest.mark.anyio
async def test_who_has_to_wait_costs_redis_nothing(client: Redis) -> None:
    """A refusal is remembered until its time has come, and then Redis is asked again."""
    clock = itertools.count()
    asked = limit(client, burst=1)
    remembering = RateLimit(client, per_s=0.5, burst=1, timeout_s=5, clock=lambda: float(next(clock)))
    await asked.count("key:alice")
    assert (await remembering.count("key:alice")).wait_s > 1
    await client.delete(keys.rate("key:alice"))
    assert (await remembering.count("key:alice")).wait_s > 0
    assert await client.get(keys.rate("key:alice")) is None
    assert (await remembering.count("key:alice")).wait_s == 0


@pytest.mark.parametrize(
    ("host", "who"),
    [
        ("192.0.2.7", "address:192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "address:2001:db8:1:2::/64"),
        ("", "address:"),
    ],
)
@pytest.mark.anyio
async def test_without_keys_an_address_is_somebody(host: str, who: str) -> None:
    """An IPv6 customer has 2^64 of them; with a key it does not matter from where."""
    scope = {"client": (host, 1)}
    assert _client(scope) == who
    set_owner("alice")
    assert _client(scope) == "key:alice"


def test_the_time_to_wait_is_never_none() -> None:
    """A client that sends at once would be refused again."""
    assert "in 0.1 s." in refusal(RateLimitState(0, 1.0, 0.004)).detail


def test_beyond_the_limit_is_429(processes: Processes) -> None:
    """For one key and not the other, at all ingests together; health is never limited."""
    processes.consumer(version=1)
    given: dict[str, Any] = {"api_keys": f"alice:{ALICE},bob:{BOB}", "rate_limit_per_s": 0.1, "rate_limit_burst": 3}
    urls = [processes.ingest(**given)[1] for _ in range(2)]
    answers = [httpx.post(f"{url}/predict", content=png(IMAGE), headers=bearer(ALICE)) for url in (urls * 2)[:3]]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=2", "r=1", "r=0"]
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"requests";q=3;w=30'}
    for url in urls:
        refused = httpx.post(f"{url}/predict", content=png(IMAGE), headers=bearer(ALICE))
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        assert 5 <= int(refused.headers["retry-after"]) <= 10
        assert refused.headers["ratelimit"].startswith('"requests";r=0;t=')
        foreign = httpx.get(f"{url}/v2", headers=bearer(ALICE))
        assert (foreign.status_code, foreign.json().keys()) == (429, {"error"})
        assert foreign.headers["retry-after"]
        assert [httpx.get(f"{url}{path}", headers=bearer(ALICE)).status_code for path in ("/readyz", "/")] == [200, 200]
        assert httpx.get(f"{url}/results/x", headers=bearer(BOB)).status_code == 404


def test_without_redis_nobody_is_counted_and_nobody_served(processes: Processes, own_server: Server) -> None:
    """The 503 of the request path; a client without a key still gets a 401, and health checks and metrics work."""
    given: dict[str, Any] = {"api_keys": f"alice:{ALICE}", "rate_limit_per_s": 100, "redis_timeout_s": 0.5}
    _, url = processes.ingest(ready=False, redis_url=own_server.url, **given)
    assert httpx.get(f"{url}/nowhere", headers=bearer(ALICE)).status_code == 404
    own_server.kill()
    unavailable = httpx.get(f"{url}/nowhere", headers=bearer(ALICE))
    assert (unavailable.status_code, unavailable.json()["code"]) == (503, "stream_unavailable")
    assert int(unavailable.headers["retry-after"]) >= 1
    assert [httpx.get(f"{url}{path}").status_code for path in ("/nowhere", "/healthz", "/metrics")] == [401, 200, 401]
    assert "sluice_redis_up 0.0" in httpx.get(f"{url}/metrics", headers=bearer(ALICE)).text


def test_without_a_limit_nothing_is_counted(processes: Processes, server: Server) -> None:
    """No key in Redis, no header."""
    _, url = processes.ingest(ready=False)
    assert "ratelimit" not in httpx.get(f"{url}/nowhere").headers
    with redis.Redis.from_url(server.url) as client:
        assert not list(client.scan_iter(keys.rate("*")))


def test_a_standing_cannot_be_changed() -> None:
    """It is shared between the answer's headers and what is remembered."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        RateLimitState(0, 0, 0).left = 1  # type: ignore[misc]
