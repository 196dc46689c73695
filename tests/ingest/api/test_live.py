"""The live view's data: what is measured, who looks when, and what `/live` says of real processes."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from ingest.api.live import LiveEvents
from ingest.dashboard.request_window import RateEstimator, RequestWindow
from tests.ingest.test_app import png
from tests.support.documents import assert_same, rows
from tests.support.processes import Processes
from tests.support.redis.requests_direct import marked, random_images
from tests.support.redis.servers import Server

IMAGE = png(random_images(1)[0])


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_percentiles_are_right_within_their_buckets() -> None:
    """Of 1 to 1000 ms; refusals count as refusals and make nothing look fast."""
    recent = RequestWindow(clock=Clock())
    for milliseconds in range(1, 1001):
        recent.note(200, milliseconds / 1000, batch=4)
        recent.note(503, 0.0001)
    last = recent.summary()
    assert (last.p50_ms, last.p95_ms, last.p99_ms) == pytest.approx((500, 950, 990), rel=0.03)
    assert last.statuses == {200: 1000, 503: 1000}
    assert last.batches == {4: 1000}
    assert (recent.answered, recent.refused) == (1000, 1000)


def test_only_the_last_minute_counts() -> None:
    """To the second; before anything was answered there is no percentile."""
    clock = Clock()
    recent = RequestWindow(clock=clock)
    assert recent.summary().p50_ms is None
    recent.note(200, 5.0)
    clock.now_s += 30
    recent.note(200, 0.01)
    assert recent.summary().p99_ms == pytest.approx(5000, rel=0.03)
    clock.now_s += 30
    assert recent.summary().p99_ms == pytest.approx(10, rel=0.03)
    clock.now_s += 3600
    assert recent.summary().statuses == {}


def test_a_rate_is_that_of_its_window() -> None:
    """Unknown at first, and again when the count starts again."""
    rate = RateEstimator(window_s=10)
    assert [rate.note(at_s, 5 * at_s) for at_s in (0, 1, 2)] == [None, 5, 5]
    assert rate.note(12, 110) == 10, "100 more in the 10 s before"
    assert rate.note(13, 3) is None
    assert rate.note(14, 4) == 1


@pytest.mark.anyio
async def test_all_who_watch_share_one_look_and_nobody_looks_unwatched() -> None:
    """Two watchers get the same snapshots; when the last has gone, looking stops."""
    looks = 0

    async def look() -> dict[str, Any]:
        nonlocal looks
        looks += 1
        return {"look": looks}

    live = LiveEvents(look, interval_s=0.01)

    async def take(count: int) -> list[bytes]:
        events = live.events()
        found = [event async for event, _ in zip_async(events, count) if event.startswith(b"data: ")]
        await events.aclose()  # type: ignore[attr-defined]
        return found

    one, other = await asyncio.gather(take(20), take(20))
    assert one == other
    assert json.loads(one[0].removeprefix(b"data: ")) == {"look": 1}
    assert live.clients == 0
    before = looks
    assert before <= 22
    await take(1)
    assert looks <= before + 2


async def zip_async(events: Any, count: int) -> Any:
    """The first so many events and their numbers."""
    number = 0
    async for event in events:
        yield event, number
        number += 1
        if number > count:
            return


@pytest.mark.anyio
async def test_a_mistake_ends_the_stream_and_the_next_starts_again() -> None:
    """Nobody waits for ever for a snapshot that will not come."""
    failing = True

    async def look() -> dict[str, Any]:
        if failing:
            raise KeyError("a mistake")
        return {}

    live = LiveEvents(look)

    async def data() -> bytes:
        events = [event async for event, _ in zip_async(live.events(), 1)]
        return bytes(events[-1])

    with pytest.raises(KeyError):
        await data()
    failing = False
    assert await data() == b"data: {}\n\n"


@contextmanager
def snapshots(url: str, **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
    with httpx.stream("GET", f"{url}/live", headers=headers, timeout=10) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))


def test_a_snapshot_tells_the_group_and_the_last_minute(processes: Processes) -> None:
    """Consumers with what they did, the queue, latencies and batches."""
    processes.consumer(version=1, lease_s=2)
    _, url = processes.ingest()
    for _ in range(5):
        assert httpx.post(f"{url}/predict", content=IMAGE).status_code == 200
    with snapshots(url) as coming:
        snapshot = next(
            one
            for one in coming
            if sum(row["images"] for row in one["models"][0]["consumers"]) == 5
            and sum(one["requests"]["statuses"].values()) == 5
        )
        assert_same("docs/api.md", (row[0] for row in rows("docs/api.md", "field of a snapshot")), snapshot)
        (model,) = snapshot["models"]
        assert (model["model"], model["backlog"], model["oldest_s"], model["problems"]) == ("tiny", 0, None, [])
        assert {row["state"] for row in model["consumers"]} <= {"idle", "running"}
        assert {row["provider"] for row in model["consumers"]} == {"CPUExecutionProvider"}
        assert all(one["capacity_per_s"] >= (one["images_per_s"] or 0) for one in (model, *model["consumers"]))
        assert snapshot["requests"]["statuses"] == {"200": 5}
        assert snapshot["requests"]["batches"] == {"1": 5}
        assert 0 < snapshot["requests"]["p50_ms"] <= snapshot["requests"]["p99_ms"] < 1000


def test_a_dead_letter_is_shown_without_its_request_and_replayed(processes: Processes) -> None:
    """A client that knows a request's id may fetch its result; a dead letter that is not there is a 404."""
    processes.consumer(rogue="raise", version=1)
    _, url = processes.ingest()
    with snapshots(url) as coming:
        assert next(coming)["models"][0]["newest_dead_letters"] == []
        answer = httpx.post(f"{url}/predict", content=png(marked()))
        assert answer.status_code == 500
        lists = (one["models"][0]["newest_dead_letters"] for one in coming)
        (dead_letter,) = next(found for found in lists if found)
        assert set(dead_letter) == {"id", "failed_ms", "reason", "deliveries", "holders", "replayable"}
        assert dead_letter["replayable"]
        replay = f"{url}/dead-letters/tiny/{dead_letter['id']}/replay"
        assert httpx.post(replay).json() == {"success": True, "id": dead_letter["id"]}
        again = httpx.post(replay)
        assert (again.status_code, again.json()["code"]) == (404, "unknown_dead_letter")
        assert httpx.post(f"{url}/dead-letters/no%20model/1-1/replay").status_code == 404
        assert httpx.get(replay).status_code == 405


def test_an_outage_is_shown_and_ends(processes: Processes, own_server: Server) -> None:
    """The stream of snapshots itself goes on."""
    processes.consumer(version=1, redis_url=own_server.url, lease_s=3, redis_timeout_s=1)
    _, url = processes.ingest(redis_url=own_server.url, redis_timeout_s=1)
    with snapshots(url) as coming:
        assert next(coming)["outage"] is None
        own_server.kill()
        broken = next(one for one in coming if one["outage"])
        assert "Redis does not answer" in broken["outage"]
        assert broken["models"] is None
        own_server.start()
        assert next(one for one in coming if not one["outage"])["models"][0]["model"] == "tiny"


def test_with_keys_neither_the_page_nor_its_data_are_open(processes: Processes) -> None:
    """Nor the live view, nor a replay; the view says that there are keys."""
    key = "k" * 43
    processes.consumer(version=1)
    _, url = processes.ingest(api_keys=f"alice:{key}")
    assert [httpx.get(url + path).status_code for path in ("/", "/page/page.js", "/live")] == [401] * 3
    assert httpx.post(f"{url}/dead-letters/tiny/1-1/replay").status_code == 401
    with snapshots(url, **{"X-API-Key": key}) as coming:
        snapshot = next(coming)
    assert snapshot["models"][0]["model"] == "tiny"
    assert snapshot["requests"]["keys"] is True


def test_who_watches_holds_up_no_ending(processes: Processes) -> None:
    """Nor with several processes on the port: the grace is for work."""
    processes.consumer(version=1).ready()
    ingest, url = processes.ingest(workers=2)
    with snapshots(url) as coming:
        assert next(coming)["requests"]["workers"] == 2
        began = time.monotonic()
        ingest.stop()
        list(coming)
    assert time.monotonic() - began < 5, "the grace is 20 s"
