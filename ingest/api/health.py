"""`/healthz` and `/readyz`: whether the process lives, and whether it takes images. Knows no HTTP but the answer."""

from typing import Literal, NotRequired

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict

from ingest.dispatch.registry import Catalog, Degraded
from ingest.errors import NoConsumer
from ingest.outage import RETRY_S


class Alive(TypedDict):
    """The process answers."""

    status: Literal["alive"]


class Ready(TypedDict):
    """Images are taken for these models."""

    status: Literal["ready"]
    models: list[str]
    degraded: NotRequired[list[Degraded]]


async def alive(_request: Request) -> Response:
    return JSONResponse(Alive(status="alive"))


class Readiness:
    """The endpoint of `/readyz`."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def __call__(self, _request: Request) -> Response:
        ready = Ready(status="ready", models=accepting(self._catalog))
        if degraded := self._catalog.degraded:
            ready["degraded"] = degraded
        return JSONResponse(ready)


def accepting(catalog: Catalog) -> list[str]:
    """The models that images are taken for, one at least; raises StreamUnavailable, NoConsumer."""
    catalog.refuse_in_outage()
    if not catalog.accepting:
        raise NoConsumer("No consumer with a warm model is alive.", retry_after_s=RETRY_S)
    return catalog.accepting
