"""`GET /models`: what is served, and by whom. Knows no image."""

from typing import Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict

from ingest.dispatch.model_client import Dispatch
from ingest.dispatch.registry import Catalog


class Size(TypedDict):
    """Of the pictures that a model takes, in pixels; those that are sent are resized to it."""

    height: int
    width: int


class ServedModel(TypedDict):
    """One version of one model."""

    name: str
    version: str
    input: Size
    labels: int
    provider: str
    consumers: int


class ModelList(TypedDict):
    """All that is served."""

    success: Literal[True]
    models: list[ServedModel]


class Models:
    """The endpoint: an entry for each version of each model that a living consumer serves."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def __call__(self, _request: Request) -> Response:
        self._catalog.refuse_in_outage()
        listed = [entry for name in self._catalog.served for entry in await _entries(self._catalog.find(name))]
        return JSONResponse(ModelList(success=True, models=listed))


async def _entries(dispatch: Dispatch) -> list[ServedModel]:
    """The versions of one model, oldest first. All have one input size: consumers refuse any other beside it."""
    model = dispatch.model
    entries: list[ServedModel] = []
    for version in sorted({one.version for one in dispatch.consumers}, key=int):
        serving = [one for one in dispatch.consumers if one.version == version]
        entries.append(
            {
                "name": dispatch.name,
                "version": version,
                "input": {"height": model.height, "width": model.width},
                "labels": len(await dispatch.labels(version)),
                "provider": ", ".join(sorted({one.provider for one in serving})),
                "consumers": len(serving),
            }
        )
    return entries
