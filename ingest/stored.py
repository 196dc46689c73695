"""`/results/{id}`: come back for a result after a broken connection, or cancel a request. Knows no picture."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ingest.answers import prediction
from ingest.catalog import Catalog
from ingest.dispatch import done_or_problem
from ingest.problems import Cancelled
from results.outcome import Done, Failed

#: Seconds after which a client may ask again for a result that is not there yet.
_RETRY_S = 1


class Stored:
    """The endpoints of results that are kept under their id."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def get(self, request: Request) -> Response:
        """200 with the answer, the problem where it failed, 202 while it is queued."""
        request_id = request.path_params["id"]
        dispatch, state = await self._catalog.locate(request_id)
        match state:
            case Done() | Failed():
                done = done_or_problem(state)
                labels = await dispatch.labels(done.version)
                return JSONResponse(prediction(done, model=dispatch.name, labels=labels))
            case "cancelled":
                raise Cancelled("The request was cancelled. Send the image again.")
            case _:
                return _pending(request_id)

    async def delete(self, request: Request) -> Response:
        """204 where the request was queued and is cancelled now; else what `get` answers."""
        request_id = request.path_params["id"]
        dispatch, _ = await self._catalog.locate(request_id)
        if await dispatch.cancel(request_id):
            return Response(status_code=204)
        return await self.get(request)


def _pending(request_id: str) -> Response:
    body = {"success": True, "status": "queued", "id": request_id}
    return JSONResponse(body, status_code=202, headers={"Retry-After": str(_RETRY_S)})
