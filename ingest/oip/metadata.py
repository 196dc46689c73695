"""What the protocol says about the server, a model and the models that are served."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field
from typing_extensions import TypedDict

from ingest.classification import MAX_IMAGES
from ingest.dispatch.model_client import ModelClient
from ingest.dispatch.registry import ModelRegistry
from ingest.oip.tensors import INPUT, output_name
from stream.host.packages import own_version

#: What Triton calls a model that ONNX Runtime runs. Clients look for it.
_PLATFORM: Final = "onnxruntime_onnx"

#: Under the names that Triton reports.
_EXTENSIONS: Final = ("binary_tensor_data", "classification", "model_configuration", "model_repository")


class Server(TypedDict):
    """The server, and the protocol's extensions that it supports."""

    name: Literal["sluice"]
    version: Annotated[str, Field(examples=[own_version()])]
    extensions: Annotated[list[str], Field(examples=[list(_EXTENSIONS)])]


class ServerLive(TypedDict):
    """The process answers."""

    live: Literal[True]


class ServerReady(TypedDict):
    """Images are accepted."""

    ready: Literal[True]


class ModelReady(TypedDict):
    """A consumer of this model is alive."""

    name: str
    ready: Literal[True]


class Tensor(TypedDict):
    """A tensor's name, type and shape; -1 is any number."""

    name: str
    datatype: str
    shape: list[int]


def _tensor(name: str, datatype: str, shape: list[int]) -> Tensor:
    return {"name": name, "datatype": datatype, "shape": [-1, *shape]}


def _policy(versions: list[int]) -> dict[str, Any]:
    return {"specific": {"versions": versions}}


def _input(dims: list[int]) -> dict[str, Any]:
    return {"name": INPUT, "data_type": "TYPE_UINT8", "format": "FORMAT_NHWC", "dims": dims}


def _output(name: str, classes: int) -> dict[str, Any]:
    return {"name": name, "data_type": "TYPE_FP32", "dims": [classes]}


class Model(TypedDict):
    """A model, its versions that are served, its input and its output."""

    name: str
    versions: list[str]
    platform: Literal["onnxruntime_onnx"]
    inputs: Annotated[list[Tensor], Field(examples=[[_tensor(INPUT, "UINT8", [224, 224, 3])]])]
    outputs: Annotated[list[Tensor], Field(examples=[[_tensor("probabilities", "FP32", [1000])]])]


class Configuration(TypedDict):
    """The part of Triton's model configuration that applies here."""

    name: str
    platform: Literal["onnxruntime_onnx"]
    backend: Literal["onnxruntime"]
    version_policy: Annotated[dict[str, Any], Field(examples=[_policy([1])])]
    max_batch_size: Annotated[int, Field(examples=[MAX_IMAGES])]
    input: Annotated[list[dict[str, Any]], Field(examples=[[_input([224, 224, 3])]])]
    output: Annotated[list[dict[str, Any]], Field(examples=[[_output("probabilities", 1000)]])]
    dynamic_batching: dict[str, Any]


class IndexRequest(TypedDict, total=False):
    """A filter for the index: `ready` leaves out models that are unloaded."""

    ready: bool


class IndexEntry(TypedDict):
    """A version of a model in the index."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: Literal["", "unloaded"]


def server_metadata() -> Server:
    return {"name": "sluice", "version": own_version(), "extensions": list(_EXTENSIONS)}


def repository_index(registry: ModelRegistry, *, ready: bool) -> list[IndexEntry]:
    """The versions that live consumers serve, or those that are `ready`: not unloaded."""
    clients = [registry.find(name) for name in registry.served]
    return [_entry(client, version) for client in clients if not (ready and client.unloaded)
            for version in client.versions.served]  # fmt: skip


def _entry(client: ModelClient, version: str) -> IndexEntry:
    if client.unloaded:
        return IndexEntry(name=client.name, version=version, state="UNAVAILABLE", reason="unloaded")
    return IndexEntry(name=client.name, version=version, state="READY", reason="")


async def model_metadata(client: ModelClient, version: str | None) -> Model:
    """The first dimension of each shape is the number of images, which is variable."""
    model = await client.described(version)
    return {
        "name": client.name,
        "versions": client.versions.served,
        "platform": _PLATFORM,
        "inputs": [_tensor(INPUT, "UINT8", [model.height, model.width, model.channels])],
        "outputs": [_tensor(output_name(model.output_kind), "FP32", [len(model.labels)])],
    }


async def model_configuration(client: ModelClient, version: str | None) -> Configuration:
    """Shapes are without the number of images."""
    model = await client.described(version)
    return {
        "name": client.name,
        "platform": _PLATFORM,
        "backend": "onnxruntime",
        "version_policy": _policy([int(one) for one in client.versions.served]),
        "max_batch_size": MAX_IMAGES,
        "input": [_input([model.height, model.width, model.channels])],
        "output": [_output(output_name(model.output_kind), len(model.labels))],
        "dynamic_batching": {},
    }
