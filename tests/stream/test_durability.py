"""An accepted image survives what its durability says; the long form is `python -m tests.chaos.kill_redis`."""

import shutil
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from stream import acl
from stream.admission import Admission, NotDurable
from stream.connection.clients import connect
from stream.keys import Partition
from stream.settings import RedisSettings
from tests.chaos.kill_redis import measure
from tests.ingest.test_app import png
from tests.stream.test_group import entry
from tests.support.redis.requests_direct import random_images
from tests.support.redis.servers import Server
from tests.support.redis.users import UnderUsers, password
from tests.support.waiting import wait_until

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
    """It has no append-only file: at the level `disk` nothing is written, at `process` it is only reported."""
    strict = Admission(client, partition, result_ttl_s=60, wait_s=0.1, durability="disk")
    with pytest.raises(NotDurable):
        await strict.admit(entry(), timeout_s=60, max_backlog=9, without_consumers=True)
    with pytest.raises(NotDurable):
        await strict.probe()
    usual = Admission(client, partition, result_ttl_s=60, wait_s=0.1, durability="process")
    assert await usual.admit(entry(), timeout_s=60, max_backlog=9, without_consumers=True) == 1
    await usual.probe()


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


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server is on the PATH")
def test_a_server_that_cannot_confirm_the_disk_to_these_users_is_named(tmp_path: Path, models_dir: Path) -> None:
    """Debian's Redis 7.0 has no WAITAOF: ingest is not ready, and both sides say what to change."""
    users = tmp_path / "users"
    assert acl.main([str(users), "--redis-7-0"]) == 0
    options = {"aclfile": str(users / "redis" / "users.acl"), "appendonly": "yes", "appendfsync": "always"}
    server = Server(tmp_path, kind="redis7", options=options)
    server.url = server.url.replace("//", f"//admin:{password(users, 'admin')}@")
    server.start()
    try:
        with UnderUsers(tmp_path, users=users, server=server, models_dir=models_dir) as processes:
            consumer = processes.consumer(version=1, durability="disk")
            ingest, url = processes.ingest(ready=False, durability="disk")
            remedy = "Or set appendfsync to always and durability to process"
            for process in (consumer, ingest):
                wait_until(lambda process=process: process.says(remedy), "it warns")  # type: ignore[misc]
            wait_until(lambda: "durability disk" in httpx.get(f"{url}/readyz").text, "it is not ready")
            assert httpx.post(f"{url}/predict", content=png(random_images(1)[0])).status_code == 503
            usual, url = processes.ingest(durability="process")
            assert httpx.post(f"{url}/predict", content=png(random_images(1)[0])).status_code == 200
            assert usual.text.count("Sluice cannot check that accepted images are safe (durability=process)") == 1
            look = processes.start("consumers.status", user="ingest", durability="process")
            assert look.wait() == 0, look.text
            assert "Sluice cannot check that accepted images are safe" in look.text
    finally:
        server.kill()
