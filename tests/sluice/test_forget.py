"""`sluice forget` as an operator types it: what it forgets, and what it refuses to."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from sluice.forget import Model, main
from stream.connection.clients import Connections
from stream.connection.group_reader import Reader
from stream.keys import LOADS, RELEASES, Partition
from stream.load_requests import LoadRequests
from stream.model import ModelDescription, Resize
from stream.presence import Presence, partition_counts
from stream.releases import Release, Releases
from stream.settings import RedisSettings
from tests.results.test_dead_letters import Graveyard
from tests.stream.test_group import entry, report
from tests.support.redis.servers import Server

pytestmark = pytest.mark.anyio

Command = Callable[..., Awaitable[tuple[int, str]]]

FLOWERS = Partition("flowers")


@pytest.fixture
async def command(
    server: Server, client: Redis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs a command: its status, and what it printed. `flowers` and `roses` are announced."""
    monkeypatch.setenv("SLUICE_REDIS_URL", server.url)
    for name in ("flowers", "roses"):
        await announce(client, name)

    async def run(line: str) -> tuple[int, str]:
        return await asyncio.to_thread(main, line.split()), "".join(capsys.readouterr())

    return run


async def announce(client: Redis, name: str) -> None:
    await Presence(client, Partition(name)).announce(ModelDescription(name, "1", "digest", 1, 2, Resize(), ("a", "b")))


async def keys_of(client: Redis, name: str) -> list[bytes]:
    return sorted([key async for key in client.scan_iter(f"sluice:{{{name}/*")])


async def test_nothing_of_a_model_is_left_and_another_stays(command: Command, client: Redis) -> None:
    """Its streams, its release and its requests to load it go with its name. A consumer may announce it again."""
    for name in ("flowers", "roses"):
        await Releases(client).write(name, Release("1"))
        await LoadRequests(client).unload(name)
        await client.sadd(Partition(name).wanted_versions, "1")
        for stream in Partition(name).streams("1"):
            await client.xgroup_create(stream.key, "consumers", mkstream=True)
    others = await keys_of(client, "roses")
    assert await command("flowers") == (0, "forgot flowers\n")
    assert await keys_of(client, "flowers") == []
    assert await keys_of(client, "roses") == others
    assert list(await partition_counts(client)) == ["roses"]
    assert (await client.hkeys(RELEASES), await client.hkeys(LOADS)) == ([b"roses"], [b"roses:unloaded"])
    status, said = await command("flowers")
    assert (status, "no consumer has announced the model 'flowers'; known here: roses" in said) == (1, True)
    await announce(client, "flowers")
    assert list(await partition_counts(client)) == ["flowers", "roses"]


async def test_what_is_served_or_has_work_is_kept(command: Command, client: Redis, reader: Reader) -> None:
    """With a sentence that says what to do. Dead letters go only if the operator says so."""
    presence = Presence(client, FLOWERS)
    graveyard = Graveyard(client, reader, FLOWERS)
    await graveyard.open()
    before = await keys_of(client, "flowers")
    status, said = await command("flowers")
    assert (status, "flowers has 1 consumer alive: stop it first" in said) == (2, True)
    assert await keys_of(client, "flowers") == before
    await graveyard.add(entry())
    await graveyard.admit(entry())
    await presence.leave("somebody")
    status, said = await command("flowers")
    assert (status, "flowers has 1 image or webhook waiting" in said) == (2, True)
    (delivery,) = await graveyard.group.read(1)
    await client.xdel(FLOWERS.entries, delivery.entry_id)
    status, said = await command("flowers")
    assert (status, "flowers has 1 dead letter or webhook kept: add --dead-letters" in said) == (2, True)
    assert await client.xlen(FLOWERS.dead_letters) == 1
    assert await command("flowers --dead-letters --json") == (0, '{"model": "flowers", "action": "forgot"}\n')
    assert await client.exists(FLOWERS.dead_letters, FLOWERS.entries) == 0


async def test_a_consumer_that_joins_meanwhile_keeps_the_model(
    command: Command, client: Redis, settings: RedisSettings
) -> None:
    """It joins between the look at the model and the step that deletes. It counts once, not once per partition."""
    async with Connections(settings) as connections:
        both = [FLOWERS, Partition("flowers", 1)]
        model = Model(connections, both, dead_too=False)
        assert await model.look() == ""
        for partition in both:
            await Presence(client, partition).heartbeat(report("late"), lease_s=60)
        assert await model.forget() == "1 consumer alive: stop it first"
    assert list(await partition_counts(client)) == ["flowers", "roses"]
    assert await client.hlen(FLOWERS.versions) == 1
