"""Models that fail while they serve: the right one of consumer and image is at fault, and nothing is lost."""

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from redis.asyncio import Redis

from consumers.batch import invalid_rows
from consumers.onnx.model import Model, ModelFailed
from consumers.onnx.providers import Execution
from results.outcome import Failed
from stream.presence import Presence
from tests.support.models import tiny_model
from tests.support.processes import Processes
from tests.support.redis.requests_direct import TINY, assert_right, held, marked, outcomes, random_images, send
from tests.support.redis.servers import free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

#: Longer than a test waits: entries that others answer in time were handed back, and did not expire.
LONG: dict[str, Any] = {"lease_s": 600, "redis_timeout_s": 1}


@pytest.mark.parametrize("kind", ["classes", "binary"])
def test_probabilities_of_classes_add_up_to_one(kind: str) -> None:
    """Rounding is allowed, also that of fp16 over 1,000 classes; logits and single sigmoids are not."""
    rows = np.array([[0.3, 0.7], [0.301, 0.702], [80.0, -3.0], [0.9, 0.9], [np.nan, 1.0], [np.inf, 0.0]], np.float32)
    found = invalid_rows(rows, kind)  # type: ignore[arg-type]
    assert sorted(found) == [2, 3, 4, 5]
    assert found[2] == "the model's outputs, -3 to 80, which add up to 77, are no probabilities"
    assert "not finite" in found[4]
    assert "not finite" in found[5]


def test_labels_are_probabilities_each() -> None:
    """They need not add up to 1."""
    rows = np.array([[0.9, 0.9], [0.0, 0.0], [1.2, 0.0], [np.nan, 0.5]], np.float32)
    assert sorted(invalid_rows(rows, "labels")) == [2, 3]


def test_values_are_finite() -> None:
    """And that is all they must be."""
    rows = np.array([[-80.0, 1e30], [np.inf, 0.0], [0.0, np.nan]], np.float32)
    assert sorted(invalid_rows(rows, "values")) == [1, 2]


@pytest.mark.parametrize(("rogue", "problem"), [("raise", "fails on this image"), ("nan", "not finite")])
async def test_an_image_that_the_model_fails_on_fails_alone(
    processes: Processes, client: Redis, rogue: str, problem: str
) -> None:
    """It becomes a dead letter. The others in the batch get their predictions: the golden input shows that the model
    is well."""
    processes.consumer(version=1).ready().kill()
    images = [*random_images(8), marked(), *random_images(8, seed=1)]
    ids = await send(client, images)
    consumer = processes.consumer(rogue=rogue, version=1).ready()
    found = await outcomes(client, ids)
    guilty = found.pop(8)
    assert isinstance(guilty, Failed)
    assert guilty.reason == "inference_failed"
    assert problem in guilty.detail
    for outcome, image in zip(found, [*images[:8], *images[9:]], strict=True):
        assert_right(outcome, image)
    assert await client.xlen(TINY.dead_letters) == 1
    assert consumer.status is None


async def test_a_model_that_broke_is_not_blamed_on_images(processes: Processes, client: Redis) -> None:
    """Its golden input fails, too: the consumer exits, others get its entries at once, and no image is given up."""
    processes.consumer(version=1).ready().kill()
    images = [*random_images(40), marked(), *random_images(40, seed=1)]
    ids = await send(client, images)
    broken = processes.consumer(rogue="break", version=1, **LONG).ready()
    assert await asyncio.to_thread(broken.wait) == os.EX_TEMPFAIL
    assert "the model fails on an input that it computed correctly before" in broken.text
    assert "Traceback" not in broken.text
    assert await client.xlen(TINY.dead_letters) == 0
    processes.consumer(version=1, **LONG).ready()
    for outcome, image in zip(await outcomes(client, ids), images, strict=True):
        assert_right(outcome, image)
    assert await client.xlen(TINY.dead_letters) == 0


@pytest.mark.parametrize("replacement", ["another network", "no model"])
async def test_an_unloaded_model_returns_as_itself_or_not_at_all(
    processes: Processes, client: Redis, tmp_path: Path, replacement: str
) -> None:
    """A file that was replaced meanwhile would answer as the version that was announced, or fail each image."""
    path = tiny_model.build(tmp_path)
    kept = shutil.copytree(tmp_path, tmp_path / "kept")
    port = free_port()
    settings = {**LONG, "lease_s": 1.5, "models_dir": tmp_path, "metrics_port": port}
    consumer = processes.consumer(version=1, unload_after_s=0.2, **settings).ready()

    async def unloaded() -> bool:
        return [report.state for report in await Presence(client, TINY).consumers()] == ["unloaded"]

    await eventually(unloaded, "the model is unloaded")
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
    if replacement == "no model":
        path.write_bytes(b"no model")
    else:
        path.write_bytes(tiny_model.build(tmp_path / "other", seed=1).read_bytes())
    images = random_images(3)
    consumer.send(signal.SIGSTOP)
    ids = await send(client, images)
    consumer.send(signal.SIGCONT)
    assert await asyncio.to_thread(consumer.wait) == os.EX_TEMPFAIL
    assert "is not the file any more that was announced as 1" in consumer.text
    assert "Traceback" not in consumer.text
    assert (await client.xlen(TINY.dead_letters), await client.xlen(TINY.entries)) == (0, 3)
    pending = await client.xpending_range(TINY.entries, "consumers", "-", "+", 10)
    assert {entry["times_delivered"] for entry in pending} <= {0}, "a delivery that was not run does not count"
    processes.consumer(version=1, models_dir=kept, **LONG).ready()
    for outcome, image in zip(await outcomes(client, ids), images, strict=True):
        assert_right(outcome, image)
    assert await client.xlen(TINY.dead_letters) == 0
    assert await held(client) == 0


def test_a_model_is_checked_at_every_load(tmp_path: Path) -> None:
    """The same file returns; one whose content changed does not, whatever its metadata say."""
    path = tiny_model.build(tmp_path)
    model = Model(path, Execution("cpu", threads=1, max_batch=2))
    images = random_images(2)
    before = model.run(images, 2)
    model.unload()
    path.write_bytes(bytes(path.read_bytes()))
    np.testing.assert_array_equal(model.run(images, 2), before)
    model.unload()
    tiny_model.damaged(path).replace(path)
    with pytest.raises(ModelFailed, match="not the file any more"):
        model.run(images, 2)
    path.unlink()
    with pytest.raises(ModelFailed, match="cannot be loaded again"):
        model.run(images, 2)
