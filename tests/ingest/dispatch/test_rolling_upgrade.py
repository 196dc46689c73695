"""Ingest after an upgrade, while all or some consumers are still from before classes and streams for one version.

Such a consumer reads one stream, and its report has no rate for bulk images. Every image that is accepted must still
be read.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from results.completion import Completed, Completion
from results.outcome import Done
from stream.admission import Admission
from stream.entry import Entry
from stream.keys import GROUP
from stream.model import ModelDescription, Resize
from stream.presence import Presence
from stream.releases import Release, Releases
from tests.ingest.oip.test_bulk import request
from tests.ingest.test_app import png
from tests.stream.test_group import report
from tests.support.processes import Processes
from tests.support.redis.requests_direct import TINY, outcomes, random_images
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

IMAGES = random_images(1)
FILE = png(IMAGES[0])

#: Path, body, headers: bulk images, asked for or by default, and images for one version.
REQUESTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/predict?priority=bulk", {"content": FILE}),
    ("/predict", {"content": FILE, "headers": {"Prefer": "respond-async, wait=20"}}),
    ("/v2/models/tiny/versions/2/infer", {"json": request(IMAGES)}),
    ("/v2/models/tiny/versions/2/infer?priority=bulk", {"json": request(IMAGES)}),
)


@asynccontextmanager
async def older_consumer(
    client: Redis, *, answers_as: str, listed: tuple[str, ...] = ("1", "2")
) -> AsyncIterator[None]:
    """Reads the stream that there was before the upgrade; `listed` are the versions of it and of others like it."""
    for version in listed:
        older = replace(report(f"older-{version}"), version=version, bulk_images_per_s=None, images_per_s=50.0)
        await Presence(client, TINY).heartbeat(older, lease_s=600)
    with suppress(ResponseError):  # A newer consumer may have made it.
        await client.xgroup_create(TINY.entries, GROUP, id="0", mkstream=True)
    completion = Completion(client, TINY, consumer="older-1", result_ttl_s=60, max_dead_letters=9)

    async def serve() -> None:
        while True:
            streams: Any = {TINY.entries: ">"}
            read: Any = await client.xreadgroup(GROUP, "older-1", streams, count=8, block=100)
            for _, found in read or ():
                for entry_id, fields in found:
                    entry = Entry.decode(fields)
                    done = Done(entry.id, answers_as, "CPU", tuple(range(10)), (0.1,) * 10, 1, 0.0, 0.0)
                    await completion.complete([Completed(entry_id.decode(), done, entry.reply)])

    serving = asyncio.create_task(serve())
    try:
        yield
    finally:
        serving.cancel()


@pytest.fixture
async def url(processes: Processes, client: Redis) -> str:
    """An ingest that knows both versions, although no consumer is alive."""
    labels = tuple(f"class_{number}" for number in range(10))
    for version in ("1", "2"):
        described = ModelDescription("tiny", version, f"digest {version}", 16, 16, Resize(), labels)
        await Presence(client, TINY).announce(described)
    _, url = await asyncio.to_thread(processes.ingest, accept_without_consumers=True)
    return url


async def test_everything_accepted_is_read_while_all_consumers_are_older(url: str, client: Redis) -> None:
    """Bulk images, images for one version, and those of a release with a share."""
    async with older_consumer(client, answers_as="2"), httpx.AsyncClient(base_url=url, timeout=30) as http:
        await knows_both_versions(http)
        for path, sent in REQUESTS:
            response = await http.post(path, **sent)
            assert response.status_code == 200, (path, response.text)
        await Releases(client).write("tiny", trial := Release("1", "2", share=1.0))
        await obeyed(http, client, trial)
    assert await left_behind(client) == []


async def test_another_version_s_answer_is_refused_and_not_waited_for(url: str, client: Redis) -> None:
    """Older consumers of several versions read one stream: a client that named a version gets 503 or its version."""
    async with older_consumer(client, answers_as="1"), httpx.AsyncClient(base_url=url, timeout=30) as http:
        await knows_both_versions(http)
        response = await http.post("/v2/models/tiny/versions/2/infer", json=request(IMAGES))
        assert response.status_code == 503, response.text
        assert "No consumer of version 2" in response.text
    assert await left_behind(client) == []


async def test_a_shadow_leaves_nothing_for_older_consumers(url: str, client: Redis) -> None:
    """They would never read it: it counts as dropped."""
    async with older_consumer(client, answers_as="1"), httpx.AsyncClient(base_url=url, timeout=30) as http:
        await knows_both_versions(http)
        await Releases(client).write("tiny", trial := Release("1", "2", shadow=True))
        await obeyed(http, client, trial)

        async def dropped() -> bool:
            await http.post("/predict", content=FILE)
            return bool((await Releases(client).figures("tiny", trial)).dropped)

        await eventually(dropped, "a shadow image is dropped")
    assert await left_behind(client) == []


async def test_what_waits_for_a_version_of_which_an_older_consumer_is_left_is_read(
    processes: Processes, url: str, client: Redis
) -> None:
    """A newer consumer of the other version takes it over: the older one would never read it."""
    admission = Admission(client, TINY, result_ttl_s=60)
    entry = Entry("left-behind", "", 0, 16, 16, IMAGES[0].tobytes())
    await admission.admit(
        entry, timeout_s=60, max_backlog=9, without_consumers=True, stream=TINY.stream("bulk", "2")
    )  # fmt: skip
    async with older_consumer(client, answers_as="2", listed=("2",)):
        processes.consumer(version=1, lease_s=2)
        (outcome,) = await outcomes(client, [entry.id])
    assert isinstance(outcome, Done)
    assert outcome.version == "1"


async def knows_both_versions(http: httpx.AsyncClient) -> None:
    async def known() -> bool:
        return {one["version"] for one in (await http.get("/models")).json()["models"]} == {"1", "2"}

    await eventually(known, "ingest knows both versions")


async def obeyed(http: httpx.AsyncClient, client: Redis, release: Release) -> None:
    """Send images of both classes until ingest obeys this release; all are answered."""

    async def counted() -> bool:
        for priority in ("interactive", "bulk"):
            response = await http.post(f"/predict?priority={priority}", content=FILE)
            assert response.status_code == 200, response.text
        return bool((await Releases(client).figures("tiny", release)).sent)

    await eventually(counted, "ingest obeys the release")


async def left_behind(client: Redis) -> list[str]:
    """Streams in which something waits."""
    keys = [stream.key for stream in TINY.streams("1", "2")]
    return [key for key in keys if await client.xlen(key)]
