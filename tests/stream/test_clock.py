"""Redis's clock is moved while consumers hold entries: a real server, whose time of day is not that of the machine."""

import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream.admission import Admission
from stream.connection.clients import connect
from stream.connection.group_reader import Reader
from stream.group import Delivery, Group
from stream.keys import Partition
from stream.presence import Presence
from stream.settings import RedisSettings
from tests.stream.test_group import entry, report
from tests.support.redis.servers import Server
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not (shutil.which("cc") and Path("/proc").exists()), reason="needs a C compiler, on Linux"),
]

_SOURCE = Path(__file__).parent.parent / "support" / "redis" / "movable_clock.c"

_LEASE_S = 0.4

Move = Callable[[int], object]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clock") / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(path), str(_SOURCE), "-ldl"], check=True)
    return path


@pytest.fixture
def moved(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Move]]:
    """A server, and what moves its time of day by so many seconds."""
    file = tmp_path / "moved"
    file.write_bytes(struct.pack("@l", 0))

    def move(seconds: int) -> object:
        with file.open("r+b") as opened:
            return opened.write(struct.pack("@l", seconds))

    with monkeypatch.context() as environment:
        environment.setenv("LD_PRELOAD", str(library))
        environment.setenv("MOVED_CLOCK", str(file))
        server = Server(tmp_path)
        server.start()
    yield server, move
    server.kill()


@pytest.mark.parametrize("joins_later", [False, True])
async def test_a_clock_that_is_set_back_holds_nothing_up(
    moved: tuple[Server, Move], partition: Partition, joins_later: bool
) -> None:
    """A dead consumer is seen dead, and its entry is claimed: also by one that joins after the clock was moved."""
    server, move = moved
    settings = RedisSettings(redis_url=server.url)
    async with connect(settings) as client, Reader(settings) as reader:
        presence = Presence(client, partition)
        dead, living = (
            Group(client, reader, partition, consumer=name, lease_s=_LEASE_S) for name in ("dead", "living")
        )
        await dead.create()
        await presence.heartbeat(report("dead"), lease_s=_LEASE_S)
        if not joins_later:
            await presence.heartbeat(report("living"), lease_s=_LEASE_S)
        admission = Admission(client, partition, result_ttl_s=60)
        sent = entry()
        await admission.admit(sent, timeout_s=60, max_backlog=9)
        (lost,) = await dead.read(1)
        before, _ = await client.time()
        move(-600)

        async def has_moved() -> bool:
            now, _ = await client.time()
            return bool(now < before - 500)

        await eventually(has_moved, "the server sees the new time")
        await presence.heartbeat(report("living"), lease_s=_LEASE_S)

        async def only_the_living() -> bool:
            await presence.heartbeat(report("living"), lease_s=_LEASE_S)
            return [one.name for one in await presence.consumers() if one.alive] == ["living"]

        async def claimed() -> bool:
            await presence.heartbeat(report("living"), lease_s=_LEASE_S)
            found = await living.claim()
            return found is not None and found.entry_id == lost.entry_id

        await eventually(only_the_living, "the dead consumer is seen dead")
        await eventually(claimed, "its entry is claimed")


async def test_a_clock_that_is_set_forward_loses_nothing(moved: tuple[Server, Move], partition: Partition) -> None:
    """Leases end at once: another consumer takes the entry, and only one of both completes it."""
    server, move = moved
    settings = RedisSettings(redis_url=server.url)
    async with connect(settings) as client, Reader(settings) as reader:
        presence = Presence(client, partition)
        one, other = (Group(client, reader, partition, consumer=name, lease_s=60) for name in ("one", "other"))
        await one.create()
        await presence.heartbeat(report("one"), lease_s=60)
        await Admission(client, partition, result_ttl_s=60).admit(entry(), timeout_s=60, max_backlog=9)
        (held,) = await one.read(1)
        move(600)
        claimed: list[Delivery] = []

        async def claims() -> bool:
            claimed.extend(filter(None, [await other.claim()]))
            return bool(claimed)

        await eventually(claims, "the other claims the entry")
        (taken,) = claimed
        assert taken.entry_id == held.entry_id
        assert await one.renew([held.entry_id]) == [held.entry_id]
        assert await other.renew([held.entry_id]) == []
