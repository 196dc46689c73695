"""A service that speaks gRPC, for the tests, and what its clients send."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tritonclient import grpc as triton

from tests.support.inference_protocol import Service
from tests.support.models import tiny_model
from tests.support.processes import Process, Processes
from tests.support.redis.servers import Server, free_port


@dataclass(frozen=True, slots=True)
class GrpcService:
    """`address` is that of gRPC; `http` is the same service over HTTP."""

    address: str
    http: Service


@contextmanager
def serving_grpc(folder: Path) -> Iterator[GrpcService]:
    """One ingest before two consumers: `tiny` takes 16 x 16 pixels, `photo` 224 x 224 as real models do."""
    models_dir = folder / "models"
    tiny_model.build(models_dir)
    tiny_model.build(models_dir, name="photo", size=224, classes=1000, seed=3)
    server = Server(folder)
    server.start()
    try:
        with Processes(folder, redis_url=server.url, models_dir=models_dir) as processes:
            for model in ("tiny", "photo"):
                processes.consumer(model=model)
            _, address, url = ingest(processes, upload_timeout_s=2, max_upload_bytes=16 * 2**20)
            yield GrpcService(address, Service(url.removeprefix("http://"), models_dir))
    finally:
        server.kill()


def ingest(processes: Processes, *, ready: bool = True, **settings: object) -> tuple[Process, str, str]:
    """An ingest, the address of its gRPC port, and its URL."""
    port = free_port()
    process, url = processes.ingest(ready=ready, grpc_port=port, **settings)
    return process, f"127.0.0.1:{port}", url


def tensor(images: NDArray[np.uint8]) -> list[triton.InferInput]:
    """The images as a UINT8 tensor."""
    return [triton.InferInput("images", list(images.shape), "UINT8").set_data_from_numpy(images)]


def files(encoded: list[bytes]) -> list[triton.InferInput]:
    """Encoded images as a BYTES tensor."""
    given = np.array(encoded, np.object_)
    return [triton.InferInput("images", [len(encoded)], "BYTES").set_data_from_numpy(given)]


def wanted(classes: int) -> list[triton.InferRequestedOutput]:
    return [triton.InferRequestedOutput("probabilities", class_count=classes)]
