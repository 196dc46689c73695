"""The registry, where Redis says which models there are and no more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from ingest.dispatch.partition_client import PreparedImage
from ingest.dispatch.partitions import Partitions, Versions
from ingest.dispatch.registry import ModelRegistry
from ingest.errors import Overloaded, UnknownModel
from sluice.forget import Model
from stream.connection.clients import Connections
from stream.keys import LOADS, MODELS, RELEASES, Partition, release_figures
from stream.load_requests import LoadRequests
from stream.model import ModelDescription, Resize
from stream.presence import LEAVING, Presence
from stream.releases import Release, Releases
from stream.settings import IngestSettings
from tests.stream.test_group import report
from tests.support.redis.requests_direct import TINY
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.anyio


async def test_a_model_that_cannot_be_reached_leaves_nothing_running(
    client: Redis, ingest_settings: IngestSettings
) -> None:
    """Each attempt would else leave a connection behind that listens for ever."""
    await client.zadd(MODELS, {TINY.model: 1})
    await client.set(TINY.alive, "no sorted set", px=60_000)

    before = await _calls(client, "hgetall")
    async with Connections(ingest_settings) as connections:
        registry = ModelRegistry(connections, ingest_settings)
        running = asyncio.create_task(registry.run())

        async def tried_often() -> bool:
            return await _calls(client, "hgetall") >= before + 4

        await eventually(tried_often, "it has tried again and again")
        assert registry.outage
        listening = _listening()
        running.cancel()
        await asyncio.wait({running})
    assert listening == []


def _listening() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if "PartitionClient.run" in str(task.get_coro())]


async def test_the_first_consumer_is_looked_for_often(client: Redis, ingest_settings: IngestSettings) -> None:
    """Clients wait until ingest knows it: five looks in half a second, not in five. Each reads the list once."""
    before, orders = await _calls(client, "zrange"), await _calls(client, "hgetall")
    async with Connections(ingest_settings) as connections:
        running = asyncio.create_task(ModelRegistry(connections, ingest_settings).run())

        async def looked_often() -> bool:
            return await _calls(client, "zrange") >= before + 5

        await eventually(looked_often, "it has looked again and again", timeout_s=3.5)
        running.cancel()
        await asyncio.wait({running})
    assert await _calls(client, "zrange") - before <= await _calls(client, "hgetall") - orders + 1


DESCRIPTIONS = [
    ModelDescription("flowers", version, f"digest {version}", 4, 4, Resize(), ("a", "b")) for version in "12"
]


@pytest.fixture
async def flowers(client: Redis) -> None:
    """A model of which two versions are served."""
    presence = Presence(client, Partition("flowers"))
    for version, description in zip("12", DESCRIPTIONS, strict=True):
        await presence.announce(description)
        one = replace(report(f"of-{version}"), version=version, bulk_images_per_s=1.0)
        await presence.heartbeat(one, lease_s=600)


@asynccontextmanager
async def registry_of(settings: IngestSettings) -> AsyncIterator[ModelRegistry]:
    async with Connections(settings) as connections:
        registry = ModelRegistry(connections, settings)
        running = asyncio.create_task(registry.run())
        yield registry
        running.cancel()
        await asyncio.wait({running})


@pytest.mark.usefixtures("flowers")
async def test_the_first_request_to_a_new_ingest_obeys(client: Redis, ingest_settings: IngestSettings) -> None:
    """A release that began before it, and an order to unload."""
    await Releases(client).write("flowers", Release("1"))
    await LoadRequests(client).unload("flowers")
    async with registry_of(ingest_settings) as registry:
        async with asyncio.timeout(PATIENCE_S):
            while not registry._clients:  # noqa: ASYNC110 (seen in the very step in which it becomes known)
                await asyncio.sleep(0)
        found = registry.find("flowers")
        assert found.unloaded
        assert found.release
        assert found.release.choose("") == "1"


@pytest.mark.usefixtures("flowers")
async def test_a_forgotten_model_is_dropped_until_it_is_announced_again(
    client: Redis, ingest_settings: IngestSettings
) -> None:
    """Nothing of it runs on. A model that Redis has lost is kept: its consumers announce it again."""
    partition = Partition("flowers")
    presence, (description, _) = Presence(client, partition), DESCRIPTIONS
    async with registry_of(ingest_settings) as registry, Connections(ingest_settings) as connections:

        async def known() -> bool:
            return "flowers" in registry._clients

        await eventually(known, "ingest knows it")
        await client.delete(MODELS)
        await client.zadd(MODELS, {"roses": 1})
        await eventually(lambda: asyncio.sleep(0, "roses" in registry._clients), "ingest has read the list again")
        assert await known()
        await presence.announce(description)
        for version in "12":
            await presence.leave(f"of-{version}")
        assert await Model(connections, [partition], dead_too=False).forget() == ""
        await eventually(lambda: asyncio.sleep(0, "flowers" not in registry._clients), "ingest has dropped it")
        with pytest.raises(UnknownModel):
            registry.find("flowers")
        await eventually(lambda: asyncio.sleep(0, len(_listening()) == 1), "roses alone has a task")
        await presence.announce(description)
        await eventually(known, "ingest knows it again")


@pytest.mark.usefixtures("flowers")
@pytest.mark.parametrize("broken", ["loads", "figures", "releases"])
async def test_a_key_of_another_type_keeps_no_other_order_from_ingest(
    client: Redis, ingest_settings: IngestSettings, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    """The log names the key. Without a hash of releases, the last one stays in force."""
    releases, first, second = Releases(client), Release("1"), Release("2")
    await releases.write("flowers", first)
    key = {"loads": LOADS, "figures": release_figures("flowers", first.id), "releases": RELEASES}[broken]
    async with registry_of(ingest_settings) as registry:

        async def obeys(release: Release) -> bool:
            router = registry._clients["flowers"].release if registry._clients else None
            return bool(router and router.release == release)

        await eventually(lambda: obeys(first), "the release is obeyed")
        await client.set(key, "no hash", px=60_000)
        registry.find("flowers").route({})
        await eventually(lambda: asyncio.sleep(0, f"key={key}" in caplog.text), "the log names the key")
        if broken == "releases":
            await LoadRequests(client).unload("flowers")
            await eventually(lambda: asyncio.sleep(0, registry.find("flowers").unloaded), "the model is unloaded")
            assert await obeys(first)
        else:
            await releases.write("flowers", second)
            await eventually(lambda: obeys(second), "the next release is obeyed")


@pytest.mark.usefixtures("flowers")
@pytest.mark.parametrize("resize", [Resize(), Resize("crop", shorter_side=5)])
async def test_the_stable_version_takes_what_a_full_candidate_does_not(
    client: Redis, ingest_settings: IngestSettings, resize: Resize
) -> None:
    """But no image that was prepared for another resize: it would be answered wrongly."""
    of = Partition("flowers")
    await Presence(client, of).announce(ModelDescription("flowers", "2", "digest 2", 4, 4, resize, ("a", "b")))
    await Releases(client).write("flowers", Release("1", "2", share=1.0))
    async with registry_of(ingest_settings.model_copy(update={"max_backlog": 1})) as registry:
        await eventually(lambda: asyncio.sleep(0, bool(registry._clients)), "the model is known")
        model = registry.find("flowers")
        await eventually(lambda: asyncio.sleep(0, model.versions.known("2")), "the candidate is known")
        about, version = model.route({})
        assert (about.resize, version) == (resize, "2")
        image = PreparedImage(about, bytes(48), 1, version=version)
        await model.submit(image)
        if resize == Resize():
            await model.submit(image)
        else:
            with pytest.raises(Overloaded):
                await model.submit(image)
    waiting = [await client.xlen(of.stream("interactive", one).key) for one in "12"]
    assert waiting == [int(resize == Resize()), 1]


async def test_what_one_partition_says_of_a_consumer_holds_for_all(
    client: Redis, ingest_settings: IngestSettings
) -> None:
    """While versions replace each other, no image goes where its version is not, or is about to leave.

    A consumer that runs another version would refuse it.
    """
    settings = ingest_settings.model_copy(update={"partitions": 2})
    models = {
        version: ModelDescription("flowers", version, f"digest {version}", size, size, Resize(), ("a", "b"))
        for version, size in (("1", 4), ("2", 8))
    }

    async def reports(partition: int, version: str, **said: Any) -> None:
        presence, about = Presence(client, Partition("flowers", partition)), models[version]
        await presence.announce(about)
        one = replace(report(f"of-{version}"), version=version, preparation=about.preparation, **said)
        await presence.heartbeat(one, lease_s=600)

    async with Connections(settings) as connections:
        partitions = Partitions(connections, settings, "flowers", ingest="i")
        partitions.ensure(2)
        versions = Versions(partitions, "flowers", without_consumers=False)
        await reports(0, "1", reads_any=True)
        await reports(1, "1", reads_any=False)
        await reports(1, "2", reads_any=True)
        await versions.refresh()
        assert {partitions.candidates(models["2"].preparation)[0].number for _ in range(30)} == {1}
        assert {partitions.candidates(models["1"].preparation)[0].number for _ in range(30)} == {0, 1}
        await reports(0, "2", reads_any=False)
        await versions.refresh()
        assert {partitions.candidates(models["2"].preparation)[0].number for _ in range(30)} == {0, 1}
        assert versions.only_taker(models["2"]) == "2", "in partition 0, the consumer of version 1 reads the other"
        await reports(0, "2", state=LEAVING)
        await versions.refresh()
        assert (versions.served, versions.newest.version) == (["1"], "1")


async def _calls(client: Redis, command: str) -> int:
    """How often the server has been asked this."""
    stats: Any = await client.info("commandstats")
    return int(stats[f"cmdstat_{command}"]["calls"]) if f"cmdstat_{command}" in stats else 0
