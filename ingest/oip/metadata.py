"""What the protocol tells of the server and of a model. Pure, knows no Redis."""

from typing import Any, Final

from typing_extensions import TypedDict

from ingest.oip.infer_request import MOST_IMAGES
from ingest.oip.tensors import INPUT, OUTPUT
from ingest.version import own_version

#: What Triton calls a model that ONNX Runtime runs; clients look for it.
_PLATFORM: Final = "onnxruntime_onnx"

#: By the names under which Triton reports them. Its model repository extension has loading and unloading as well.
_EXTENSIONS: Final = ("binary_tensor_data", "classification", "model_configuration")


class Server(TypedDict):
    """The server, and the protocol's extensions that it has."""

    name: str
    version: str
    extensions: list[str]


class Tensor(TypedDict):
    """A tensor's name, type and shape; -1 is any number."""

    name: str
    datatype: str
    shape: list[int]


class Model(TypedDict):
    """A model, the versions of it that are served, its input and its output."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


def of_server() -> Server:
    return {"name": "sluice", "version": own_version(), "extensions": list(_EXTENSIONS)}


def of_model(name: str, *, versions: list[str], height: int, width: int, classes: int) -> Model:
    """Shapes with the number of images, which is variable, as their first dimension."""
    return {
        "name": name,
        "versions": versions,
        "platform": _PLATFORM,
        "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, height, width, 3]}],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, classes]}],
    }


def configuration(name: str, *, versions: list[str], height: int, width: int, classes: int) -> dict[str, Any]:
    """What of Triton's model configuration holds here too; shapes without the number of images."""
    return {
        "name": name,
        "platform": _PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"specific": {"versions": [int(one) for one in versions]}},
        "max_batch_size": MOST_IMAGES,
        "input": [{"name": INPUT, "data_type": "TYPE_UINT8", "format": "FORMAT_NHWC", "dims": [height, width, 3]}],
        "output": [{"name": OUTPUT, "data_type": "TYPE_FP32", "dims": [classes]}],
        "dynamic_batching": {},
    }
