"""`/results/{id}`: fetch a result, wait for it, cancel its request, or delete it."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from ingest.api.async_requests import (
    POLL_HEADER,
    POLL_S,
    PREFER,
    PREFERENCE_APPLIED,
    Preferences,
    state_document,
)
from ingest.api.option_names import THRESHOLD
from ingest.api.predict_request import THRESHOLD_PARAMETER, parse_threshold
from ingest.dispatch.registry import ModelRegistry
from ingest.errors import BadParameter, Cancelled, StreamUnavailable, UnknownResult
from ingest.openapi.operation import DocumentedResponse, Operation, Parameter
from ingest.openapi.problems import ACCEPTED_PROBLEMS
from ingest.request_json import refuse_unknown
from ingest.responses import JSONResponse, Prediction, Queued, Values


class ResultEndpoint:
    """The endpoint for results that are kept under their request's id."""

    def __init__(self, registry: ModelRegistry, *, timeout_s: float) -> None:
        self._registry = registry
        self._timeout_s = timeout_s

    async def __call__(self, request: Request) -> Response:
        return await (self.delete(request) if request.method == "DELETE" else self.get(request))

    async def get(self, request: Request) -> Response:
        """200 with the prediction, 202 while it is queued, or the request's problem. `Prefer: wait=N` waits."""
        refuse_unknown(request.query_params, (THRESHOLD,))
        threshold = parse_threshold(request.query_params)
        request_id = request.path_params["id"]
        client, state = await self._registry.locate(request_id)
        preferences = Preferences.parse(request.headers.getlist("prefer"))
        wait_s = preferences.wait_at_most_s(self._timeout_s)
        if state == "queued" and wait_s:
            state = await client.requests.wait(request_id, wait_s)
        headers = {"Preference-Applied": preferences.applied()} if wait_s else {}
        if state == "queued":
            headers["Retry-After"] = str(POLL_S)
        status = 202 if state == "queued" else 200
        document = await state_document(client, request_id, state, threshold=threshold)
        return JSONResponse(document, status_code=status, headers=headers)

    async def delete(self, request: Request) -> Response:
        """204 if the request was queued and is now cancelled, or if it had ended and what was kept of it is deleted."""
        request_id = request.path_params["id"]
        try:
            client, state = await self._registry.locate(request_id)
        except UnknownResult:
            # Its dead letter may outlive its result.
            if not await self._registry.delete(request_id):
                raise
            return Response(status_code=204)
        if await client.requests.cancel(request_id) or await client.requests.delete(request_id):
            return Response(status_code=204)
        if state == "cancelled":
            raise Cancelled("The request was cancelled before.", request_id=request_id)
        raise UnknownResult("The result has just expired.")


_WAIT: Final = Parameter(PREFER.name, "header", "wait=N: how many whole seconds to wait for the result", PREFER.schema)

FETCH: Final = Operation(
    "Fetch a result",
    {
        200: DocumentedResponse("The prediction.", Prediction | Values, headers=(PREFERENCE_APPLIED,)),
        202: DocumentedResponse("Still queued.", Queued, headers=(POLL_HEADER, PREFERENCE_APPLIED)),
    },
    (BadParameter, UnknownResult, *ACCEPTED_PROBLEMS),
    (THRESHOLD_PARAMETER, _WAIT),
)
CANCEL: Final = Operation(
    "Cancel a request, or delete its result",
    {204: DocumentedResponse("The request is cancelled, or its result is deleted.", media_type=None)},
    (UnknownResult, Cancelled, StreamUnavailable),
)
