"""`POST /v2/repository/models/{model}/load` and `/unload`, for those with an admin key."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Final, NotRequired

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from ingest.auth.api_keys import ADMIN
from ingest.auth.owner import marks
from ingest.dispatch.model_client import ModelClient
from ingest.dispatch.registry import ModelRegistry
from ingest.errors import (
    RETRY_S,
    AdminKeyNeeded,
    BadParameter,
    DeadlinePassed,
    LoadRefused,
    NoConsumer,
    StreamUnavailable,
    UnknownModel,
    redis_errors_as_503,
)
from ingest.oip.inference import refuse_form
from ingest.openapi.operation import JSON, Body, DocumentedResponse, DocumentedRoute, Operation
from ingest.openapi.problems import BODY_PROBLEMS
from ingest.openapi.schemas import inline
from ingest.request_body import Limits, read_body
from ingest.responses import JSONResponse
from stream.load_requests import LoadRequests
from stream.presence import ConsumerReport

#: Seconds between two looks at what the consumers report.
_POLL_S: Final = 0.2


class LoadOptions(TypedDict, total=False):
    """The protocol's request. Consumers load files of their own repository, so it can give none."""

    parameters: dict[str, bool | int | float | str]


class Loaded(TypedDict):
    """A model and the versions that its consumers serve now. `passed_over`: higher ones, and why they do not."""

    name: str
    versions: list[str]
    passed_over: NotRequired[list[str]]


_OPTIONS: Final = TypeAdapter(LoadOptions)

#: The protocol's only parameter of a request to unload. No model here depends on another.
_DEPENDENTS: Final = "unload_dependents"

_PROBLEMS: Final = (AdminKeyNeeded, UnknownModel, NoConsumer, StreamUnavailable, DeadlinePassed, *BODY_PROBLEMS)
_BODY: Final = Body(
    "No body is the same as {}. Parameters that give files or a configuration are refused.",
    {JSON: {"schema": inline(LoadOptions)}},
    required=False,
)
LOAD: Final = Operation(
    "Load a model: its consumers look for a newer version, and load it if it passes their checks",
    {200: DocumentedResponse("All consumers have looked, and serve these versions.", Loaded)},
    (*_PROBLEMS, LoadRefused),
    body=_BODY,
)
UNLOAD: Final = Operation(
    "Unload a model: its images are refused, and its consumers free its memory, until it is loaded",
    {200: DocumentedResponse("All consumers have freed the memory.", Loaded)},
    _PROBLEMS,
    body=_BODY,
)


class ModelRepository:
    """Loads and unloads models for operators, whichever protocol they use. Each call returns when all consumers have
    reported, within `timeout_s`."""

    def __init__(self, registry: ModelRegistry, requests: LoadRequests, *, timeout_s: float) -> None:
        self._registry = registry
        self._requests = requests
        self._timeout_s = timeout_s

    def find(self, name: str) -> ModelClient:
        """The model, if this caller may change it; raises AdminKeyNeeded, UnknownModel or NoConsumer."""
        if ADMIN not in marks.get():
            raise AdminKeyNeeded(
                "Only an admin key may load and unload models. Make one with: python -m ingest.keys add NAME --admin "
                "--file FILE, and start ingest with SLUICE_API_KEYS_FILE=FILE if it has no keys yet"
            )
        client = self._registry.find(name)
        if not client.versions.consumers:
            raise NoConsumer(f"No consumer serves {client.name} at present.", retry_after_s=RETRY_S)
        return client

    async def load(self, client: ModelClient, parameters: Collection[str]) -> Loaded:
        """Raises BadParameter, LoadRefused, DeadlinePassed or StreamUnavailable."""
        _refuse_unknown(parameters)
        with redis_errors_as_503():
            number = await self._requests.load(client.name)
        await self._until(client, lambda report: report.load_requests >= number, "look for a newer version")
        if refused := [report.refused for report in client.versions.consumers if report.refused]:
            raise LoadRefused(f"{client.name} stays as it was, because of version {refused[0]}.")
        loaded = Loaded(name=client.name, versions=client.versions.served)
        if passed_over := {report.passed_over for report in client.versions.consumers if report.passed_over}:
            loaded["passed_over"] = sorted(passed_over)
        return loaded

    async def unload(self, client: ModelClient, parameters: Collection[str]) -> Loaded:
        """Raises BadParameter, DeadlinePassed or StreamUnavailable."""
        _refuse_unknown(parameters, _DEPENDENTS)
        with redis_errors_as_503():
            await self._requests.unload(client.name)
        await self._until(client, lambda report: report.state == "unloaded", "finish the images that they have")
        return Loaded(name=client.name, versions=client.versions.served)

    async def _until(self, client: ModelClient, holds: Callable[[ConsumerReport], bool], what: str) -> None:
        """Wait until it holds for all live consumers; raises DeadlinePassed."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    with redis_errors_as_503():
                        await client.versions.refresh()
                    if all(holds(report) for report in client.versions.consumers):
                        break
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise DeadlinePassed(
                f"Consumers of {client.name} still {what} after {self._timeout_s:g} s. They go on; "
                "POST /v2/repository/index shows the versions."
            ) from error
        with redis_errors_as_503():
            client.unloaded = client.name in await self._requests.unloaded()


def _refuse_unknown(parameters: Collection[str], *known: str) -> None:
    if unknown := set(parameters) - set(known):
        raise BadParameter(
            f"The parameter {min(unknown)[:40]!r} is not supported: consumers load from their own repository."
        )


class RepositoryEndpoints:
    """The endpoints."""

    def __init__(self, repository: ModelRepository, limits: Limits) -> None:
        self._repository = repository
        self._limits = limits

    def routes(self) -> list[DocumentedRoute]:
        path = "/v2/repository/models/{model}"
        return [
            DocumentedRoute(f"{path}/load", self.load, {"POST": LOAD}),
            DocumentedRoute(f"{path}/unload", self.unload, {"POST": UNLOAD}),
        ]

    async def load(self, request: Request) -> Response:
        return JSONResponse(await self._repository.load(*await self._asked(request)))

    async def unload(self, request: Request) -> Response:
        return JSONResponse(await self._repository.unload(*await self._asked(request)))

    async def _asked(self, request: Request) -> tuple[ModelClient, Collection[str]]:
        """The model that may be changed, and the names of the parameters."""
        client = self._repository.find(request.path_params["model"])
        refuse_form(request)
        body = await read_body(request, self._limits)
        try:
            parameters: dict[str, Any] = _OPTIONS.validate_json(body or b"{}").get("parameters", {})
        except ValidationError as error:
            raise BadParameter(
                "The request must be {} or have parameters, each a number, a text, true or false."
            ) from error
        return client, parameters
