"""`sluice status` and `python -m consumers status` as people and scripts run it."""

import asyncio
import json
import os
import pty
import shutil
import signal
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis

from consumers.status import main
from stream.connection.clients import connect
from stream.connection.group_reader import Reader
from stream.keys import MODELS, Partition
from stream.settings import RedisSettings
from tests.consumers.test_status import SHORT
from tests.results.test_dead_letters import Graveyard
from tests.stream.test_group import entry
from tests.support.processes import ROOT, Process, Processes
from tests.support.redis.requests_direct import held, marked, outcomes, random_images, send
from tests.support.redis.servers import Server, free_port
from tests.support.waiting import PATIENCE_S, eventually, wait_until

pytestmark = pytest.mark.anyio


async def _command(server: Server, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    answer = await asyncio.to_thread(main, ["--redis-url", server.url, *words])
    return answer, capsys.readouterr().out


async def test_scripts_see_a_consumer_die(
    processes: Processes, client: Redis, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 0 while it lives, 1 once it is dead with an entry in its hands; the JSON says the same."""
    assert (await _command(server, capsys))[0] == 1, "nobody has announced a model"
    assert await asyncio.to_thread(main, ["--redis-url", server.url]) == 1
    assert " -m consumers --model NAME (with the consumers' SLUICE_REDIS_URL)" in capsys.readouterr().err
    consumer = processes.consumer(rogue="hang", version=1, **SHORT).ready()
    healthy, text = await _command(server, capsys, "--json")
    assert healthy == 0
    (about,) = json.loads(text)["consumers"]
    assert (about["pid"], about["alive"], about["version"]) == (consumer.pid, True, "1")
    assert about["provider"] == "CPUExecutionProvider"
    await send(client, [marked()])
    await eventually(lambda: held(client), "the consumer holds the entry")
    consumer.kill()

    async def is_degraded() -> bool:
        return (await _command(server, capsys))[0] == 1

    await eventually(is_degraded, "the consumer is seen dead")
    _, text = await _command(server, capsys, "--json")
    document = json.loads(text)
    assert (document["healthy"], document["backlog"], document["consumers"][0]["held"]) == (False, 1, 1)
    assert len(document["problems"]) == 2
    _, text = await _command(server, capsys)
    assert "! No consumer is alive. Start one with: " in text
    assert " -m consumers --model tiny (with the consumers' SLUICE_REDIS_URL)" in text, "a URL may hold a password"
    assert " DEAD " in text


async def test_the_counters_of_a_consumer_agree_with_those_of_the_partition(
    processes: Processes, client: Redis, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Soon after the first images, long before the next heartbeat: in two partitions, which report one by one."""
    processes.consumer(version=1, partitions=2, lease_s=600).ready()
    await outcomes(client, await send(client, random_images(3)))
    assert (await _command(server, capsys))[1].startswith("tiny: 1 of 1 consumers alive, 2 partitions\n")
    assert json.loads((await _command(server, capsys, "--json"))[1])["partitions"] == 2

    async def counted() -> tuple[int, int, int]:
        document = json.loads((await _command(server, capsys, "--json"))[1])
        (consumer,) = document["consumers"]
        return document["counters"]["completed"], consumer["images"], consumer["last_batch"] > 0

    async def agree() -> bool:
        return await counted() == (3, 3, True)

    await eventually(agree, "the consumer has reported its images")


async def test_an_old_backlog_is_status_1(
    client: Redis, reader: Reader, partition: Partition, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """How old it may be is an option."""
    graveyard = Graveyard(client, reader, partition)
    await graveyard.open()
    await client.zadd(MODELS, {partition.model: 1})
    await graveyard.admit(entry())
    assert (await _command(server, capsys))[0] == 0

    async def is_too_old() -> bool:
        return (await _command(server, capsys, "--max-age-s", "0.01"))[0] == 1

    await eventually(is_too_old, "the entry is older than 10 ms")


async def test_other_models_of_the_server_are_named(
    client: Redis, reader: Reader, partition: Partition, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the model is chosen, as `sluice status` does, no error would say that there are several."""
    await Graveyard(client, reader, partition).open()
    await client.zadd(MODELS, {partition.model: 1})
    assert "other models" not in (await _command(server, capsys))[1]
    await client.zadd(MODELS, {"roses": 1})
    _, text = await _command(server, capsys, "--model", partition.model)
    assert text.endswith("\nother models of this server: roses (see one with --model NAME)\n")


async def test_a_full_disk_is_named_before_the_consumers_that_it_silences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A snapshot fails, since its folder is gone; Redis then refuses heartbeats, too."""
    folder = tmp_path / "gone"
    folder.mkdir()
    server = Server(folder, options={"save": "3600 1"})
    server.start()
    try:
        async with connect(RedisSettings(redis_url=server.url)) as client:
            await client.zadd(MODELS, {"tiny": 1})
            shutil.rmtree(folder)
            await client.bgsave()

        async def is_named() -> bool:
            _, text = await _command(server, capsys)
            assert ("No consumer is alive" in text) != ("consumers may only look dead" in text)
            return "! Redis cannot write to its disk" in text.splitlines()[1]

        await eventually(is_named, "the status says why")
    finally:
        server.kill()


def test_redis_away_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, no traceback."""
    assert main(["--redis-url", f"redis://127.0.0.1:{free_port()}"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


async def test_a_watch_outlives_an_outage(own_server: Server, tmp_path: Path) -> None:
    """A line of JSON a second, also while Redis is unavailable; Ctrl-C ends it with status 0."""
    async with connect(RedisSettings(redis_url=own_server.url)) as client:
        await client.zadd(MODELS, {"tiny": 1})
    command = [sys.executable, "-m", "consumers.status", "--watch", "--json"]
    watch = Process(command, {**os.environ, "SLUICE_REDIS_URL": own_server.url}, tmp_path / "watch.log")
    try:
        wait_until(lambda: watch.says('"backlog": 0'), "the first look")
        own_server.kill()
        wait_until(lambda: watch.says('"error": '), "the outage is shown")
        own_server.start()
        wait_until(lambda: json.loads(watch.text.splitlines()[-1]).get("backlog") == 0, "the next look")
        watch.send(signal.SIGINT)
        assert watch.wait() == 0
        assert "Traceback" not in watch.text
    finally:
        watch.kill()


async def test_a_terminal_is_refreshed_in_place(client: Redis, partition: Partition, server: Server) -> None:
    """Each look begins at the top left and erases what is left of the one before."""
    await client.zadd(MODELS, {partition.model: 1})
    master, slave = pty.openpty()
    watch = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "consumers.status", "--watch", "--redis-url", server.url, cwd=ROOT, stdout=slave
    )
    os.close(slave)  # so that reading ends if the command does
    try:
        seen = b""
        async with asyncio.timeout(PATIENCE_S):
            while seen.count(b"\x1b[J") < 2:
                seen += await asyncio.to_thread(os.read, master, 65_536)
        watch.send_signal(signal.SIGINT)
        assert await watch.wait() == 0
    finally:
        if watch.returncode is None:
            watch.kill()
            await watch.wait()
        os.close(master)
    first, second, *_ = seen.decode().split("\x1b[J")
    assert first.startswith(f"\x1b[H{partition.model}: 0 of 0 consumers alive, 1 partition\x1b[K")
    assert ", completing 0.0 images/s" in second
