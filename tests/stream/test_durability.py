"""An accepted image survives what its durability says; the long form is `python -m tests.chaos.kill_redis`."""

from pathlib import Path

import pytest
from redis.asyncio import Redis

from stream.admission import Admission, NotReplicated
from stream.connection.clients import connect
from stream.keys import Partition
from stream.settings import RedisSettings
from tests.chaos.kill_redis import measure
from tests.stream.test_group import entry
from tests.support.redis.servers import Server

#: The suite itself asks for less, since most of its servers keep nothing.
DEFAULT = RedisSettings.model_fields["durability"].default


@pytest.mark.alone
def test_no_accepted_image_is_lost_when_redis_is_killed_on_a_busy_disk(tmp_path: Path) -> None:
    """At the default level. With `everysec` and a disk this busy, about 2 of 1,000 were lost."""
    counts = measure(tmp_path, kills=2, durability=DEFAULT, images=100)
    assert counts.accepted >= 200
    assert counts.lost == 0


@pytest.mark.anyio
async def test_a_server_that_cannot_keep_an_image_on_disk_does_not_accept_it(
    client: Redis, partition: Partition
) -> None:
    """It has no append-only file: at the level `disk` each image is refused, at `process` it is only reported."""
    strict = Admission(client, partition, result_ttl_s=60, wait_s=0.1, durability="disk")
    with pytest.raises(NotReplicated):
        await strict.admit(entry(), timeout_s=60, max_backlog=9, without_consumers=True)
    usual = Admission(client, partition, result_ttl_s=60, wait_s=0.1, durability="process")
    assert await usual.admit(entry(), timeout_s=60, max_backlog=9, without_consumers=True) == 2


@pytest.mark.anyio
async def test_a_server_that_syncs_each_write_accepts_at_every_level(own_server: Server, partition: Partition) -> None:
    """Its reply alone proves it: no admission waits for anything more."""
    async with connect(RedisSettings(redis_url=own_server.url)) as client:
        for number, level in enumerate(("memory", "process", "disk"), 1):
            admission = Admission(client, partition, result_ttl_s=60, wait_s=0.1, durability=level)  # type: ignore[arg-type]
            assert await admission.admit(entry(), timeout_s=60, max_backlog=9, without_consumers=True) == number
        assert "cmdstat_waitaof" not in await client.info("commandstats")


@pytest.mark.anyio
async def test_an_admission_waits_for_the_disk_of_a_server_that_syncs_later(
    own_server: Server, partition: Partition
) -> None:
    """Its reply proves nothing, so WAITAOF follows each admission where the server has it."""
    async with connect(RedisSettings(redis_url=own_server.url)) as client:
        await client.config_set("appendfsync", "everysec")
        admission = Admission(client, partition, result_ttl_s=60, wait_s=3, durability="process")
        assert await admission.admit(entry(), timeout_s=60, max_backlog=9, without_consumers=True) == 1
        stats = await client.info("commandstats")
        has_waitaof = "cmdstat_waitaof" in stats
        about = await client.info("server")
        assert has_waitaof == (tuple(map(int, str(about["redis_version"]).split("."))) >= (7, 2, 0))
