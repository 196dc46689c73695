"""What TensorFlow Serving's REST API says about a model: the status of its versions, and its signature."""

from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from ingest.dispatch.model_client import ModelClient
from ingest.tfserving.predict_request import SIGNATURE
from stream.model import ModelDescription

#: The names of the only input and the only output.
_INPUT = "images"
_OUTPUT = "outputs"


class VersionError(TypedDict):
    """Why a version is not available."""

    error_code: Literal["OK"]
    error_message: Literal[""]


class VersionStatus(TypedDict):
    """The state of one version."""

    version: str
    state: Literal["AVAILABLE"]
    status: VersionError


class ModelStatus(TypedDict):
    """The versions that are served, newest first. `name` and `ready` are for clients of KServe's v1 protocol."""

    model_version_status: list[VersionStatus]
    name: str
    ready: Literal[True]


class ModelNames(TypedDict):
    """The models that are served (KServe's v1 protocol)."""

    models: list[str]


class ModelSpec(TypedDict):
    """The model and version that the metadata is of."""

    name: str
    signature_name: Literal[""]
    version: str


def _signature_def(image: list[int], outputs: int) -> dict[str, Any]:
    signature = {
        "inputs": {_INPUT: _tensor("DT_UINT8", [-1, *image], _INPUT)},
        "outputs": {_OUTPUT: _tensor("DT_FLOAT", [-1, outputs], _OUTPUT)},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    return {"signature_def": {"signature_def": {SIGNATURE: signature}}}


def _tensor(dtype: str, shape: list[int], name: str) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in shape]
    return {"dtype": dtype, "tensor_shape": {"dim": dimensions, "unknown_rank": False}, "name": name}


class Metadata(TypedDict):
    """The signature of a model, in the form of TensorFlow's MetaGraphDef."""

    model_spec: ModelSpec
    metadata: Annotated[dict[str, Any], Field(examples=[_signature_def([224, 224, 3], 1000)])]


def model_status(client: ModelClient, version: str | None) -> ModelStatus:
    versions = [version] if version else reversed(client.versions.served)
    return {
        "model_version_status": [
            {"version": one, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
            for one in versions
        ],
        "name": client.name,
        "ready": True,
    }


async def model_metadata(client: ModelClient, version: str | None) -> Metadata:
    model = await client.described(version)
    return {
        "model_spec": {"name": client.name, "signature_name": "", "version": model.version},
        "metadata": _signature_def([model.height, model.width, model.channels], output_count(model)),
    }


def output_count(model: ModelDescription) -> int:
    """How many numbers the response has for each image: one for a binary model, as its sigmoid has."""
    return 1 if model.output_kind == "binary" else len(model.labels)
