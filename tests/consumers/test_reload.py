"""A consumer changes its version while it serves: right answers under the right version, and no bad file served."""

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from redis.asyncio import Redis

from consumers.onnx.artefact import ArtefactError
from consumers.onnx.loader import ModelLoader
from consumers.onnx.model import GoldenMismatch
from consumers.onnx.providers import CPU
from results.outcome import Done
from stream.admission import Admission
from stream.entry import Entry
from stream.presence import ConsumerReport, Presence
from stream.settings import ConsumerSettings
from stream.status.reader import read_status
from tests.support.models import mean_model, tiny_model
from tests.support.processes import Process, Processes
from tests.support.redis.requests_direct import TINY, assert_right, outcomes, random_images, send
from tests.support.waiting import eventually, wait_until

pytestmark = pytest.mark.anyio

#: The seed of each version's weights.
SEEDS = {"1": 7, "2": 8, "3": 9}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with version 1."""
    build(tmp_path / "repository", "1")
    return tmp_path / "repository"


def build(repository: Path, version: str) -> Path:
    """Write a version of its own weights into the repository, in one step as the export does."""
    made = tiny_model.build(repository / "made", version=version, seed=SEEDS[version])
    target = repository / "tiny" / version / "model.onnx"
    target.parent.mkdir(parents=True, exist_ok=True)
    made.replace(target)
    shutil.rmtree(repository / "made")
    return target


def build_damaged(repository: Path, version: str) -> Path:
    """The same with a network that does not give its golden output."""
    path = build(repository, version)
    return tiny_model.damaged(path).replace(path)


def watching(processes: Processes, repository: Path) -> Process:
    return processes.consumer(models_dir=repository, watch=True, provider="cpu", lease_s=1.5, redis_timeout_s=1).ready()


async def reports(client: Redis) -> list[ConsumerReport]:
    return [one for one in await Presence(client, TINY).consumers() if one.alive]


async def serves(client: Redis, version: str) -> None:
    """Wait until the only consumer reports this version, and announced it."""

    async def reported() -> bool:
        return [one.version for one in await reports(client)] == [version]

    await eventually(reported, f"version {version} is served")
    assert version in await Presence(client, TINY).versions()


async def answers(client: Redis, version: str) -> None:
    """All images are answered by this version."""
    images = random_images(20)
    for outcome, image in zip(await outcomes(client, await send(client, images)), images, strict=True):
        assert isinstance(outcome, Done)
        assert outcome.version == version
        assert_right(outcome, image, seed=SEEDS[version])


async def test_a_consumer_changes_to_a_newer_version(processes: Processes, repository: Path, client: Redis) -> None:
    """And frees the memory of the one before."""
    consumer = watching(processes, repository)
    await answers(client, "1")
    build(repository, "2")
    await serves(client, "2")
    await answers(client, "2")
    wait_until(lambda: consumer.says("unloaded model=tiny version=1"), "version 1 is unloaded")
    assert [one.state for one in await reports(client)] == ["idle"]
    assert not consumer.says("unloaded model=tiny version=2")
    assert consumer.stop() == 0, consumer.text


async def test_a_newer_version_may_take_fractions(processes: Processes, tmp_path: Path, client: Redis) -> None:
    """The buffers change their type with the version, and answers have the fractions from then on."""
    whole = {**mean_model.TENSORFLOW, "rounded": True}
    mean_model.build(tmp_path / "repository", "tiny", output_kind="values", channels=3, resize=whole)
    watching(processes, tmp_path / "repository")
    await serves(client, "1")
    mean_model.build(tmp_path / "repository", "tiny", output_kind="values", channels=3, version="2", fractions=True)
    await serves(client, "2")
    pixels = bytes([100] * (mean_model.SIZE**2 * 3))
    one = Entry("0" * 32, "", 0, mean_model.SIZE, mean_model.SIZE, pixels, fractions=bytes([192] * len(pixels)))
    admission = Admission(client, TINY, result_ttl_s=60)
    for number in range(3):
        await admission.admit(replace(one, id=f"{number:032}"), timeout_s=60, max_backlog=10)
    for outcome in await outcomes(client, [f"{number:032}" for number in range(3)]):
        assert isinstance(outcome, Done)
        assert outcome.version == "2"
        assert outcome.probabilities == pytest.approx([100.25] * 3, abs=1e-4)


async def test_a_version_that_fails_its_check_is_refused(processes: Processes, repository: Path, client: Redis) -> None:
    """The consumer stays with its version and says why; a good file in its place is served, until it is removed."""
    consumer = watching(processes, repository)
    build_damaged(repository, "3")

    async def refused() -> bool:
        return any(one.refused.startswith("3: ") for one in await reports(client))

    await eventually(refused, "version 3 is refused")
    assert "stays with version 1: version 3 is refused: tiny/3" in consumer.text
    (problem,) = (await read_status(client, TINY)).problems(max_age_s=60)
    assert "stays with version 1 and refuses version 3" in problem
    assert "golden output" in problem
    await answers(client, "1")
    build(repository, "3")
    await serves(client, "3")
    await answers(client, "3")
    assert not await refused(), "what was refused has gone"
    shutil.rmtree(repository / "tiny" / "3")
    await serves(client, "1")
    await answers(client, "1")


async def test_a_file_that_cannot_be_read_is_refused(processes: Processes, repository: Path, client: Redis) -> None:
    """So is one that was cut, or takes other images: nothing of that ends the consumer."""
    consumer = watching(processes, repository)
    whole = tiny_model.build(repository / "made", version="2").read_bytes()
    cut = repository / "tiny" / "2" / "model.onnx"
    cut.parent.mkdir()
    cut.write_bytes(whole[: len(whole) // 2])
    wait_until(lambda: consumer.says("version 2 is refused"), "the cut file is refused")
    tiny_model.build(repository / "large", version="3", size=32).parent.rename(repository / "tiny" / "3")
    wait_until(
        lambda: consumer.says("version 3 is refused: it takes images that are prepared differently (32 x"),
        "it is refused",
    )
    tiny_model.build(repository / "other", version="5").parent.rename(repository / "tiny" / "4")
    wait_until(lambda: consumer.says("says that it is tiny/5"), "a version in another's folder is refused")
    await answers(client, "1")


async def test_a_version_that_memory_was_too_short_for_is_tried_again(
    processes: Processes, repository: Path, client: Redis
) -> None:
    """After growing pauses, as the log and the status say. The file has not changed."""
    consumer = processes.consumer(rogue="starve", models_dir=repository, watch=True, provider="cpu").ready()
    build(repository, "2")

    async def refused_twice() -> bool:
        return any(one.refused == "2: MemoryError; tried again after 4 s" for one in await reports(client))

    await eventually(refused_twice, "the second attempt has failed as well")
    assert "version 2 is refused: MemoryError; tried again after 2 s" in consumer.text
    (problem,) = (await read_status(client, TINY)).problems(max_age_s=60)
    assert problem.endswith("refuses version 2: MemoryError; tried again after 4 s")
    await serves(client, "2")
    await answers(client, "2")


async def test_another_file_under_the_served_version_is_refused(
    processes: Processes, repository: Path, client: Redis
) -> None:
    """Two models must not answer under one name."""
    consumer = watching(processes, repository)
    tiny_model.build(repository / "made", version="1", seed=8).replace(repository / "tiny" / "1" / "model.onnx")
    wait_until(lambda: consumer.says("version 1 is refused: its file was replaced"), "the other file is refused")
    await answers(client, "1")


async def test_a_repository_that_breaks_ends_no_consumer(processes: Processes, repository: Path, client: Redis) -> None:
    """Folders where files were, links to nothing and to themselves: it goes on, and sees what comes afterwards."""
    watching(processes, repository)
    model = repository / "tiny" / "1" / "model.onnx"
    model.unlink()
    model.mkdir()
    for version, target in (("4", "nothing"), ("5", "model.onnx")):
        (repository / "tiny" / version).mkdir()
        (repository / "tiny" / version / "model.onnx").symlink_to(target)
    (repository / "tiny" / "6" / "model.onnx").mkdir(parents=True)

    async def refused() -> bool:
        return any(one.refused.startswith("6: ") for one in await reports(client))

    await eventually(refused, "the folder is refused")
    await answers(client, "1")
    (repository / "tiny" / "6" / "model.onnx").rmdir()
    build(repository, "2")
    (repository / "tiny" / "4" / "model.onnx").unlink()
    build(repository, "3").rename(repository / "stored")
    (repository / "tiny" / "3" / "model.onnx").symlink_to(repository / "stored")
    await serves(client, "3")
    await answers(client, "3")


def test_a_version_that_changes_while_it_is_loaded_is_refused(repository: Path) -> None:
    """The digest could be that of another network. Other rights are a change as well: it may be readable now."""
    loader = ModelLoader(ConsumerSettings(models_dir=repository, provider="cpu"))
    (version,) = loader.versions("tiny")
    assert loader.load(version, CPU).description.version == "1"
    version.path.chmod(0o600)
    with pytest.raises(ArtefactError, match="changed while it was loaded"):
        loader.load(version, CPU)


async def test_changes_under_load_lose_nothing(processes: Processes, repository: Path, client: Redis) -> None:
    """Images that are sent while versions change are all answered, each by the version that it names."""
    consumer = watching(processes, repository)
    images = random_images(50)
    ended = asyncio.Event()
    sent: list[tuple[str, NDArray[np.uint8]]] = []

    async def load() -> None:
        while not ended.is_set():
            for request_id, image in zip(await send(client, images), images, strict=True):
                sent.append((request_id, image))
            await outcomes(client, [request_id for request_id, _ in sent[-50:]])

    loading = asyncio.create_task(load())
    build(repository, "2")
    await serves(client, "2")
    build_damaged(repository, "3")
    await asyncio.to_thread(wait_until, lambda: consumer.says("version 3 is refused"), "version 3 is refused")
    shutil.rmtree(repository / "tiny" / "2")
    await serves(client, "1")
    ended.set()
    await loading
    found = await outcomes(client, [request_id for request_id, _ in sent])
    for outcome, (_, image) in zip(found, sent, strict=True):
        assert isinstance(outcome, Done)
        assert_right(outcome, image, seed=SEEDS[outcome.version])
    assert {outcome.version for outcome in found if isinstance(outcome, Done)} == {"1", "2"}


@pytest.mark.parametrize("watch", [False, True])
async def test_a_consumer_starts_with_the_newest_version_that_works(
    processes: Processes, repository: Path, client: Redis, *, watch: bool
) -> None:
    """Else one bad file would keep a restarted consumer from coming back. The log and the status say what is wrong."""
    build_damaged(repository, "3")
    consumer = processes.consumer(models_dir=repository, watch=watch, provider="cpu").ready()
    assert "version 3 is refused, trying the next" in consumer.text
    await answers(client, "1")

    async def reported() -> bool:
        problems = (await read_status(client, TINY)).problems(max_age_s=60)
        return any("stays with version 1 and refuses version 3" in one for one in problems)

    await eventually(reported, "the status says what is refused")
    assert consumer.text.count("version 3 is refused") == 2, "it is loaded once, and reported"


def test_a_version_that_is_named_is_not_replaced(repository: Path) -> None:
    """But the error names the versions that are there."""
    build_damaged(repository, "3")
    with pytest.raises(GoldenMismatch, match=r"golden output.*--version 1\), or none"):
        ModelLoader(ConsumerSettings(models_dir=repository, provider="cpu", version="3")).first()
