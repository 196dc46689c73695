"""The memory of a consumer beside its model, and of an image while it waits."""

import uuid
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from redis.asyncio import Redis

from stream.admission import Admission
from stream.entry import Entry
from stream.keys import Partition
from stream.presence import Presence
from tests.stream.test_group import report
from tests.support.models import tiny_model
from tests.support.processes import Processes, needs_proc
from tests.support.redis.requests_direct import assert_right, outcomes, random_images, send

pytestmark = pytest.mark.anyio

#: Bound for a consumer; the model of the tests takes almost no memory.
_MOST_BYTES = 200 * 10**6

_SIZE = 224
_PIXELS = _SIZE * _SIZE * 3


#: An image's values between two layers of a wide network: the 32nd part of a full batch that would run at once. Three
#: images may, since they are too few for two threads.
_WIDE_BYTES = 10 * 2**20


@needs_proc
async def test_a_consumer_stays_small(processes: Processes, client: Redis) -> None:
    """Also after many full batches."""
    process = processes.consumer().ready()
    images = random_images(200)
    await outcomes(client, await send(client, images))
    assert process.resident_bytes < _MOST_BYTES


@needs_proc
async def test_a_wide_network_stays_small_too(processes: Processes, client: Redis, tmp_path: Path) -> None:
    """A batch runs in chunks: the values between two layers are in memory for a few images only."""
    models_dir = _widened(tiny_model.build(tmp_path)).parents[2]
    process = processes.consumer(models_dir=models_dir, inference_threads=2, provider="cpu").ready()
    images = random_images(100)
    for outcome, image in zip(await outcomes(client, await send(client, images)), images, strict=True):
        assert_right(outcome, image)
    assert process.resident_bytes < _MOST_BYTES < 32 * _WIDE_BYTES


def _widened(path: Path) -> Path:
    """The same answers, with _WIDE_BYTES for each image on the way to them."""
    model = onnx.load(path)
    graph = model.graph
    index, flatten = next((index, node) for index, node in enumerate(graph.node) if node.input[0] == "scaled")
    ones = np.ones((_WIDE_BYTES // 4 // 12, 1, 1, 1, 1), np.float32)
    graph.initializer.append(numpy_helper.from_array(ones, "ones"))
    graph.node.insert(index, helper.make_node("Mul", ["scaled", "ones"], ["wide"]))
    graph.node.insert(index + 1, helper.make_node("ReduceMax", ["wide"], ["narrow"], axes=[0], keepdims=0))
    flatten.input[0] = "narrow"
    onnx.save(model, path)
    return path


async def test_a_queued_image_costs_little_more_than_its_pixels(client: Redis, partition: Partition) -> None:
    """Including the entry's fields, the mark of its request, and the allocator's rounding."""
    await Presence(client, partition).heartbeat(report("somebody"), lease_s=60)
    admission = Admission(client, partition, result_ttl_s=60)

    async def used_with(count: int) -> int:
        for _ in range(count):
            entry = Entry(uuid.uuid4().hex, "", 5, _SIZE, _SIZE, bytes(_PIXELS))
            await admission.admit(entry, timeout_s=60, max_backlog=1000)
        return int((await client.info("memory"))["used_memory"])

    # The first few include what the connection and the keys need once.
    before = await used_with(10)
    assert (await used_with(200)) - before < 1.1 * 200 * _PIXELS
