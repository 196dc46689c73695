"""`GET /healthz` and `GET /readyz`: whether the process is alive, and whether it accepts images."""

from typing import Final, Literal, NotRequired

from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from ingest.dispatch.registry import Degraded, ModelRegistry
from ingest.errors import NoConsumer, StreamUnavailable
from ingest.openapi.operation import DocumentedResponse, Operation
from ingest.responses import JSONResponse


class Alive(TypedDict):
    """The process answers."""

    status: Literal["alive"]


class Ready(TypedDict):
    """Images are accepted for these models."""

    status: Literal["ready"]
    models: list[str]
    degraded: NotRequired[list[Degraded]]


async def alive(_request: Request) -> Response:
    return JSONResponse(Alive(status="alive"))


class ReadyEndpoint:
    """The endpoint of `/readyz`."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    async def __call__(self, _request: Request) -> Response:
        ready = Ready(status="ready", models=self._registry.require_ready())
        if degraded := self._registry.degraded:
            ready["degraded"] = degraded
        return JSONResponse(ready)


ALIVE: Final = Operation("Is the process alive?", {200: DocumentedResponse("It answers.", Alive)})
READY: Final = Operation(
    "Is the service ready?",
    {200: DocumentedResponse("It accepts images.", Ready)},
    (NoConsumer, StreamUnavailable),
)
