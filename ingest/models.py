"""`GET /models`: what is served, and by whom. Knows no image."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ingest.catalog import Catalog
from ingest.dispatch import Dispatch
from ingest.problems import StreamUnavailable


class Models:
    """The endpoint: an entry for each version of each model that a living consumer serves."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def __call__(self, _request: Request) -> Response:
        if self._catalog.outage:
            raise StreamUnavailable(f"{self._catalog.outage}.", retry_after_s=2)
        listed = [entry for name in self._catalog.served for entry in await _entries(self._catalog.find(name))]
        return JSONResponse({"success": True, "models": listed})


async def _entries(dispatch: Dispatch) -> list[dict[str, Any]]:
    """The versions of one model, oldest first. All have one input size: consumers refuse any other beside it."""
    model = dispatch.model
    entries = []
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
