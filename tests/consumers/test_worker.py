"""Whole consumers, as processes: right answers, once each; orderly ends."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from redis.asyncio import Redis

from consumers.__main__ import load
from consumers.health import Health
from consumers.onnx.loader import ModelLoader
from consumers.onnx.session import Session
from consumers.worker import Worker
from results.outcome import Done, Failed
from results.store import Store
from stream.admission import Admission
from stream.entry import Entry
from stream.keys import GROUP, Partition
from stream.presence import Presence
from stream.settings import ConsumerSettings
from tests.stream.test_group import report
from tests.support.models import tiny_model
from tests.support.models.value_model import write_value_model
from tests.support.processes import Processes
from tests.support.redis.inline import inline
from tests.support.redis.requests_direct import TINY, assert_right, held, outcomes, random_images, send
from tests.support.redis.servers import Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_every_answer_is_the_model_s(processes: Processes, client: Redis) -> None:
    """Each image gets its own probabilities, however images were batched."""
    processes.consumer(version=1).ready()
    images = random_images(100)
    for outcome, image in zip(await outcomes(client, await send(client, images)), images, strict=True):
        assert_right(outcome, image)


async def test_three_consumers_classify_each_image_once(processes: Processes, client: Redis) -> None:
    """They share the group and never an entry."""
    for consumer in [processes.consumer(version=1) for _ in range(3)]:
        consumer.ready()
    images = random_images(600)
    answers = await outcomes(client, await send(client, images))
    for outcome, image in zip(answers, images, strict=True):
        assert_right(outcome, image)
    counters = await client.hgetall(TINY.counters)
    assert counters == {b"completed": b"600"}
    reports = {one.name: one for one in await Presence(client, TINY).consumers()}
    assert len(reports) == 3


async def test_the_most_probable_classes_come_first(processes: Processes, client: Redis) -> None:
    """`top` classes are answered, ranked."""
    processes.consumer(version=1).ready()
    images = random_images(1)
    (few,) = await outcomes(client, await send(client, images, top=3))
    (all_,) = await outcomes(client, await send(client, images, top=0))
    assert isinstance(few, Done)
    assert isinstance(all_, Done)
    ranked = sorted(zip(all_.probabilities, all_.indices, strict=True), reverse=True)[:3]
    assert list(zip(few.probabilities, few.indices, strict=True)) == ranked


async def test_a_consumer_finishes_its_entries_on_sigterm(processes: Processes, client: Redis) -> None:
    """SIGTERM under load: exit status 0, nothing pending, no trace in the group; the rest waits for the next."""
    slow = processes.consumer(rogue="slow", version=1, max_batch=4).ready()
    images = random_images(200)
    ids = await send(client, images)
    await eventually(lambda: held(client), "the consumer holds entries")
    assert slow.stop() == 0, slow.text
    assert await held(client) == 0
    assert await client.xinfo_consumers(TINY.entries, GROUP) == []
    assert await client.xlen(TINY.entries) > 0, "the load outlasts the consumer, or this test shows nothing"
    processes.consumer(version=1).ready()
    for outcome, image in zip(await outcomes(client, ids), images, strict=True):
        assert_right(outcome, image)


async def test_one_thread_loads_checks_and_runs_the_model(
    server: Server, client: Redis, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA graphs belong to the thread that captured them: in another thread they would be captured again."""
    threads = []

    def run(self: Session, buffer: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
        threads.append((count, threading.current_thread().name))
        return session_run(self, buffer, count)

    session_run = Session.run
    monkeypatch.setattr(Session, "run", run)
    settings = ConsumerSettings(redis_url=server.url, models_dir=models_dir, version="1", provider="cpu", max_batch=8)
    loader = ModelLoader(settings)
    served = await load(loader)
    assert len(threads) == 3, "the golden check, and one image twice"
    worker = Worker(served, settings, Health(settings.lease_s), name="single", loader=loader)
    running = asyncio.create_task(worker.run())
    images = random_images(3)
    await eventually(lambda: client.exists(TINY.alive), "the worker is ready")
    for outcome, image in zip(await outcomes(client, await send(client, images)), images, strict=True):
        assert_right(outcome, image)
    worker.stop()
    await running
    assert len(threads) > 3
    assert {name for _, name in threads} == {"inference_0"}


async def test_expired_work_is_not_run(processes: Processes, client: Redis) -> None:
    """An image whose deadline passed while it waited costs no inference."""
    presence = processes.consumer(version=1).ready()
    presence.kill()
    ids = await send(client, random_images(3), timeout_s=0.001)
    processes.consumer(version=1).ready()
    answers = await outcomes(client, ids)
    assert [isinstance(one, Failed) and one.reason for one in answers] == ["expired"] * 3


async def test_damage_is_reported_after_the_deadline_too(processes: Processes, client: Redis) -> None:
    """It becomes a dead letter. Only pixels that are gone after the deadline mean nothing but the deadline."""
    processes.consumer(version=1).ready().kill()
    ids = ["a" * 32, "b" * 32, "c" * 32]
    damaged, gone, lost = (inline(Entry(one, "", 0, 16, 16, bytes(768)), due_ms=1) for one in ids)
    del gone["px"], lost["px"]
    for fields in (damaged | {"px": b"x" * 768}, gone, lost | {"due": 0}):
        await client.xadd(TINY.entries, fields)
    processes.consumer(version=1).ready()
    answers = await outcomes(client, ids)
    assert [isinstance(one, Failed) and one.reason for one in answers] == ["damaged", "expired", "damaged"]
    assert await client.xlen(TINY.dead_letters) == 2


async def test_cancelled_work_is_not_run(processes: Processes, client: Redis) -> None:
    """The mark is seen before the model runs, and the entry leaves the stream."""
    processes.consumer(version=1).ready().kill()
    ids = await send(client, random_images(3))
    assert await Store(client, TINY).cancel(ids[1])
    processes.consumer(version=1).ready()
    answers = await outcomes(client, ids)
    assert [isinstance(one, Failed) and one.reason for one in answers] == [False, "cancelled", False]
    assert await client.xlen(TINY.entries) == 0


async def test_an_image_of_another_size_is_refused_alone(processes: Processes, client: Redis) -> None:
    """Prepared for a version that has gone: its client gets an error, the others in the batch get predictions."""
    processes.consumer(version=1).ready().kill()
    images = [*random_images(2), random_images(1)[0][:8, :8], random_images(1)[0].reshape(8, 32, 3)]
    ids = await send(client, images)
    grey = Entry("0" * 32, "", 0, 16, 48, random_images(1)[0].tobytes(), channels=1)
    await Admission(client, TINY, result_ttl_s=120).admit(grey, timeout_s=60, max_backlog=100)
    processes.consumer(version=1).ready()
    *answers, refused = await outcomes(client, [*ids, grey.id])
    reasons = [isinstance(one, Failed) and one.reason for one in answers]
    assert reasons == [False, False, "other_preparation", "other_preparation"]
    assert isinstance(refused, Failed)
    assert "was prepared as 16 x 48 x 1 for another version, and version 1 takes 16 x 16 x 3" in refused.detail


async def test_a_consumer_without_its_model_says_how_to_make_it(processes: Processes) -> None:
    """Exit status 2 and one line, no traceback."""
    process = processes.start("consumers", model="nowhere")
    await asyncio.to_thread(process.wait)
    assert process.status == 2
    assert "python -m export nowhere" in process.text
    assert "Traceback" not in process.text


def test_a_database_that_redis_does_not_have_ends_a_consumer(processes: Processes, server: Server) -> None:
    """As any wrong setting: with status 2, so that no supervisor tries again."""
    consumer = processes.start("consumers", redis_url=server.url.removesuffix("/0") + "/99")
    assert consumer.wait() == 2
    assert consumer.text == "python -m consumers: redis_url: DB index is out of range\n"


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_named_provider_without_a_gpu_ends_in_one_line(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    """Status 2, so that no supervisor tries again; never the CPU instead, and no wait for Redis."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    consumer = processes.start("consumers", version=1, provider=provider, redis_url="redis://127.0.0.1:1")
    assert consumer.wait() == 2
    (line,) = consumer.text.strip().splitlines()
    assert line.startswith(f"python -m consumers: {provider}: ")
    assert "NVIDIA driver" in line
    assert "provider=cpu" in line


async def test_a_partition_that_another_kind_serves_ends_a_consumer_in_order(
    processes: Processes, client: Redis
) -> None:
    """Though it joins that one late: what it holds is finished, and it refuses as at its start."""
    consumer = processes.consumer(rogue="slow", version=1, max_batch=4, lease_s=2, redis_timeout_s=1).ready()
    (served,) = (await Presence(client, TINY).versions()).values()
    await send(client, random_images(1000))
    await eventually(lambda: held(client), "the consumer holds entries")
    # The heartbeat announces the partition, so the description has to be there before.
    second = Partition(TINY.model, 1)
    await client.hset(second.versions, "3", replace(served, version="3", output_kind="labels").encode())
    await Presence(client, second).heartbeat(replace(report("another"), version="3"), lease_s=600)
    assert await asyncio.to_thread(consumer.wait) == 2
    assert "gives classes, but version 3, in service now, gives labels" in consumer.text
    assert "Traceback" not in consumer.text
    assert await held(client) == 0
    assert await client.xlen(TINY.entries) > 0, "the load outlasts the consumer, or this test shows nothing"


async def test_values_come_whole_and_in_order(processes: Processes, client: Redis, tmp_path: Path) -> None:
    """A regression or an embedding has no most probable class, whatever `top` says; the image is greyscale here."""
    write_value_model(tmp_path / "tiny" / "1" / "model.onnx", channels=1)
    processes.consumer(models_dir=tmp_path).ready()
    pixels = np.array([[0, 255], [100, 200]], np.uint8)
    entry = Entry("0" * 32, "", 1, 2, 2, pixels.tobytes(), channels=1)
    await Admission(client, TINY, result_ttl_s=120).admit(entry, timeout_s=60, max_backlog=100)
    (outcome,) = await outcomes(client, [entry.id])
    assert isinstance(outcome, Done)
    assert (outcome.output_kind, outcome.indices) == ("values", (0, 1, 2, 3))
    assert outcome.probabilities == (0, 255, 100, 200)


def test_a_version_of_another_kind_does_not_join(processes: Processes, tmp_path: Path) -> None:
    """Ingest shows what all versions give in one form; exit status 2 and what to do."""
    tiny_model.build(tmp_path, size=2)
    processes.consumer(models_dir=tmp_path).ready()
    write_value_model(tmp_path / "other" / "tiny" / "2" / "model.onnx", channels=1)
    other = processes.start("consumers", models_dir=tmp_path / "other")
    assert other.wait() == 2
    assert "gives values, but version 1, in service now, gives classes: stop that first" in other.text
    assert "Traceback" not in other.text


async def test_an_idle_model_gives_its_memory_back_and_returns(processes: Processes, client: Redis) -> None:
    """After unload_after_s without work; the next image loads it again."""
    consumer = processes.consumer(version=1, unload_after_s=0.2, lease_s=1.5, redis_timeout_s=1).ready()

    async def unloaded() -> bool:
        return [one.state for one in await Presence(client, TINY).consumers()] == ["unloaded"]

    await eventually(unloaded, "the model is unloaded")
    images = random_images(3)
    for outcome, image in zip(await outcomes(client, await send(client, images)), images, strict=True):
        assert_right(outcome, image)
    assert "loaded again" in consumer.text
