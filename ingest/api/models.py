"""`GET /models` and `GET /models/{model}/labels`: the models and versions that are served, and what they can see."""

from typing import Annotated, Final, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from ingest.dispatch.model_client import ModelClient
from ingest.dispatch.registry import ModelRegistry
from ingest.errors import NoConsumer, StreamUnavailable, UnknownModel
from ingest.openapi.operation import DocumentedResponse, Operation
from ingest.responses import JSONResponse


class Size(TypedDict):
    """The model's input size in pixels. Images are resized to it."""

    height: int
    width: int


class ServedModel(TypedDict):
    """One version of one model."""

    name: str
    version: str
    input: Size
    labels: Annotated[int, Field(examples=[1000])]
    provider: Annotated[str, Field(examples=["CPUExecutionProvider"])]
    consumers: int


class ModelList(TypedDict):
    """All that is served."""

    success: Literal[True]
    models: list[ServedModel]


class Labels(TypedDict):
    """All labels of one version, in the order of the model's outputs."""

    success: Literal[True]
    model: str
    version: str
    labels: list[str]


class ModelsEndpoint:
    """The endpoint. It lists each version of each model that a live consumer serves."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    async def __call__(self, _request: Request) -> Response:
        self._registry.refuse_in_outage()
        listed = [entry for name in self._registry.served for entry in await _entries(self._registry.find(name))]
        return JSONResponse(ModelList(success=True, models=listed))


class LabelsEndpoint:
    """The endpoint. It returns the labels of the newest version that is served."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    async def __call__(self, request: Request) -> Response:
        client = self._registry.find(request.path_params["model"])
        newest = await client.described()
        return JSONResponse(Labels(success=True, model=client.name, version=newest.version, labels=list(newest.labels)))


async def _entries(client: ModelClient) -> list[ServedModel]:
    """The versions of one model, oldest first. Each has its own input size and labels."""
    entries: list[ServedModel] = []
    for version in client.versions.served:
        model = await client.described(version)
        serving = [one for one in client.versions.consumers if one.version == version]
        entries.append(
            {
                "name": client.name,
                "version": version,
                "input": {"height": model.height, "width": model.width},
                "labels": len(model.labels),
                "provider": ", ".join(sorted({one.provider for one in serving})),
                "consumers": len(serving),
            }
        )
    return entries


MODELS: Final = Operation(
    "List the models", {200: DocumentedResponse("Each version.", ModelList)}, (StreamUnavailable,)
)

LABELS: Final = Operation(
    "List the labels of a model",
    {200: DocumentedResponse("Its labels.", Labels)},
    (StreamUnavailable, UnknownModel, NoConsumer),
)
