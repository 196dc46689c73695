"""A service that speaks gRPC, for the tests, and what its clients send."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient import grpc as triton
from tritonclient.grpc import service_pb2 as pb

from tests.support.inference_protocol import Service
from tests.support.models import tiny_model
from tests.support.processes import Process, Processes, on_own_server
from tests.support.redis.servers import free_port


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
    with on_own_server(folder, models_dir) as processes:
        for model in ("tiny", "photo"):
            processes.consumer(model=model)
        _, address, url = ingest(processes, upload_timeout_s=2, max_upload_bytes=16 * 2**20)
        yield GrpcService(address, Service(url.removeprefix("http://"), models_dir))


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


def call_infer(
    channel: grpc.Channel, asked: pb.ModelInferRequest, metadata: dict[str, str] | None = None
) -> pb.ModelInferResponse:
    """ModelInfer without tritonclient, whose errors hide the metadata."""
    method = "/inference.GRPCInferenceService/ModelInfer"
    call = channel.unary_unary(method, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    return call(asked, timeout=20, metadata=tuple((metadata or {}).items()))


def refusal(
    channel: grpc.Channel, asked: pb.ModelInferRequest, metadata: dict[str, str] | None = None
) -> grpc.RpcError:
    """The error that ends this call."""
    with pytest.raises(grpc.RpcError) as raised:
        call_infer(channel, asked, metadata)
    return raised.value


def black() -> pb.ModelInferRequest:
    """A request for one black image."""
    given = pb.ModelInferRequest.InferInputTensor(name="images", datatype="UINT8", shape=(1, 16, 16, 3))
    return pb.ModelInferRequest(model_name="tiny", inputs=[given], raw_input_contents=[bytes(768)])
