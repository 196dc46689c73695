"""`/results/{id}`: come back for a result, wait for it, or cancel the request. Knows no picture."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ingest.api.async_requests import RETRY_S, document
from ingest.api.preferences import Preferences
from ingest.dispatch.registry import Catalog


class Stored:
    """The endpoints of results that are kept under their id."""

    def __init__(self, catalog: Catalog, *, longest_s: float) -> None:
        self._catalog = catalog
        self._longest_s = longest_s

    async def __call__(self, request: Request) -> Response:
        return await (self.delete(request) if request.method == "DELETE" else self.get(request))

    async def get(self, request: Request) -> Response:
        """200 with the answer, the problem where it failed, 202 while it is queued; waits as `Prefer: wait=N` says."""
        request_id = request.path_params["id"]
        dispatch, state = await self._catalog.locate(request_id)
        preferences = Preferences.parse(request.headers.getlist("prefer"))
        wait_s = preferences.wait_at_most_s(self._longest_s)
        if state == "queued" and wait_s:
            state = await dispatch.wait(request_id, wait_s)
        headers = {"Preference-Applied": preferences.applied()} if wait_s else {}
        if state == "queued":
            headers["Retry-After"] = str(RETRY_S)
        status = 202 if state == "queued" else 200
        return JSONResponse(await document(dispatch, request_id, state), status_code=status, headers=headers)

    async def delete(self, request: Request) -> Response:
        """204 where the request was queued and is cancelled now; else what `get` answers."""
        request_id = request.path_params["id"]
        dispatch, _ = await self._catalog.locate(request_id)
        if await dispatch.cancel(request_id):
            return Response(status_code=204)
        return await self.get(request)
