"""`python -m bench.simulation.device`: consumers of Sluice whose model is a pretended GPU. All else of them is real.

A batch takes a given time, whatever is in it, in which the process sleeps; so a few cores carry as many consumers as
tens of GPUs would. Several share a process and its event loop, each with a group member and connections of its own.
"""

import argparse
import asyncio
import os
import signal
import time

import numpy as np
import uvloop
from numpy.typing import NDArray

from consumers.health import Health
from consumers.onnx.model import Model, ServedModel, inference_thread
from consumers.onnx.providers import Provider
from consumers.worker import Worker
from stream.model import ModelDescription, Resize
from stream.settings import ConsumerSettings

CLASSES = 10


class Device(Model):
    """A model that computes nothing, for `batch_s` at a time."""

    def __init__(self, name: str, *, size: int, batch_s: float, max_batch: int) -> None:
        labels = tuple(f"class {number}" for number in range(CLASSES))
        self.description = ModelDescription(name, "1", "", size, size, Resize(), labels)
        self.provider = Provider("pretended", "pretended", on_gpu=True)
        self.max_batch = max_batch
        self.image_s = batch_s
        self._batch_s = batch_s
        self._answer = np.full((max_batch, CLASSES), 1 / CLASSES, np.float32)

    @property
    def loaded(self) -> bool:
        return True

    def run(self, buffer: NDArray[np.uint8], count: int) -> NDArray[np.float32]:  # noqa: ARG002 (nobody looks at them)
        time.sleep(self._batch_s)
        return self._answer[:count]

    def unload(self) -> None:
        """There is nothing to unload."""


async def _serve(given: argparse.Namespace) -> None:
    settings = ConsumerSettings(redis_url=given.redis_url, partitions=given.partitions, max_batch_s=50)
    workers = [
        Worker(
            ServedModel(
                Device(given.model, size=given.size, batch_s=given.batch_ms / 1000, max_batch=settings.max_batch),
                inference_thread(),
            ),
            settings,
            Health(settings.lease_s),
            name=f"pretended-{os.getpid()}-{number}",
        )
        for number in range(given.consumers)
    ]

    def stop() -> None:
        for worker in workers:
            worker.stop()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    await asyncio.gather(*(worker.run() for worker in workers))


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.simulation.device", description=__doc__)
    add = parser.add_argument
    add("--redis-url", required=True)
    add("--model", required=True, help="its name")
    add("--partitions", type=int, default=1, help="that each consumer serves")
    add("--consumers", type=int, default=1, help="in this process")
    add("--size", type=int, default=224, help="height and width of an image")
    add("--batch-ms", type=float, default=100)
    uvloop.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
