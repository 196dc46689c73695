"""Consumers to which no setting names a version serve the stable one of the release, from their start on."""

import logging
import shutil
from pathlib import Path

import pytest
from redis.asyncio import Redis

from consumers.onnx.loader import ModelLoader
from stream.connection.clients import connect
from stream.keys import RELEASES
from stream.load_requests import LoadRequests
from stream.releases import Release, Releases
from stream.settings import ConsumerSettings, RedisSettings
from tests.consumers.test_onnx_artefact import with_metadata
from tests.consumers.test_reload import answers, build, build_damaged, reports, serves, watching
from tests.support.processes import Processes
from tests.support.redis.servers import Server
from tests.support.waiting import eventually, wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with versions 1 and 2."""
    for version in "12":
        build(tmp_path / "repository", version)
    return tmp_path / "repository"


@pytest.mark.parametrize("watch", [False, True])
def test_a_start_with_a_release(repository: Path, caplog: pytest.LogCaptureFixture, *, watch: bool) -> None:
    """The stable version, whatever suits the provider; the highest one if that is missing. The log says why."""

    def starts(stable: str) -> tuple[str, str]:
        loader = ModelLoader(ConsumerSettings(models_dir=repository, provider="cpu", watch=watch))
        loader.stable = stable
        caplog.clear()
        return loader.first().description.version, "\n".join(caplog.messages)

    caplog.set_level(logging.INFO)
    assert starts("")[0] == "2"
    version, said = starts("1")
    assert (version, "chose version 1, and passes over version 2: the release names version 1" in said) == ("1", True)
    version, said = starts("7")
    folder = repository / "tiny"
    assert (version, f"names version 7, which {folder} does not have: chose version 2" in said) == ("2", True)
    with_metadata(folder / "2" / "model.onnx", precision="fp16")
    version, said = starts("2")
    assert (version, "passes over" in said) == ("2", False)


def test_a_damaged_stable_version_ends_no_consumer(repository: Path) -> None:
    """The best of the others answers, as without a release."""
    build_damaged(repository, "1")
    loader = ModelLoader(ConsumerSettings(models_dir=repository, provider="cpu"))
    loader.stable = "1"
    assert loader.first().description.version == "2"


async def test_a_consumer_that_watches_follows(processes: Processes, repository: Path, client: Redis) -> None:
    """It changes with the release alone: nothing else that lies in the repository, or under the key, moves it."""
    releases = Releases(client)
    await releases.write("tiny", Release("1"))
    watching(processes, repository)
    await serves(client, "1")
    assert [one.follows for one in await reports(client)] == [True]
    build(repository, "3")
    await stays(client, "1", passed_over="3: the release names version 1")
    await releases.write("tiny", Release("2", "3", share=0.5))
    await serves(client, "2")
    await answers(client, "2")
    await client.hset(RELEASES, "tiny", b"{}")
    await stays(client, "2", passed_over="3: the release names version 2")
    await client.delete(RELEASES)
    await client.set(RELEASES, "no hash", px=60_000)
    await stays(client, "2", passed_over="3: the release names version 2")
    await client.delete(RELEASES)
    await releases.write("tiny", Release("1"))
    await serves(client, "1")
    shutil.rmtree(repository / "tiny" / "2")
    await releases.write("tiny", Release("2"))
    await stays(client, "1")
    await releases.clear("tiny")
    await serves(client, "3")


async def stays(client: Redis, version: str, *, passed_over: str = "") -> None:
    """After a request to load, and so after a look into the repository, the consumer still serves this version."""
    number = await LoadRequests(client).load("tiny")

    async def looked() -> bool:
        return [one.load_requests for one in await reports(client)] == [number]

    await eventually(looked, "the consumer has looked")
    (report,) = await reports(client)
    assert (report.version, report.passed_over, report.refused) == (version, passed_over, "")


async def test_a_consumer_waits_for_the_release(own_server: Server, repository: Path, tmp_path: Path) -> None:
    """Without Redis it cannot know what is stable, and loads nothing yet. One with a version needs no release."""
    settings = RedisSettings(redis_url=own_server.url)
    async with connect(settings) as client:
        await Releases(client).write("tiny", Release("1"))
    own_server.kill()
    with Processes(tmp_path, redis_url=own_server.url, models_dir=repository) as processes:
        named, unnamed = (processes.consumer(provider="cpu", version=version) for version in ("2", ""))
        wait_until(lambda: unnamed.says("waiting for Redis") and named.says("waiting for Redis"), "both wait")
        assert ("loaded" in unnamed.text, "loaded model=tiny version=2" in named.text) == (False, True)
        own_server.start()
        for consumer in (named, unnamed):
            consumer.ready()
        assert "loaded model=tiny version=1" in unnamed.text
        assert "passes over version 2: the release names version 1" in unnamed.text
