"""Requests whose client can come back: Prefer (RFC 7240) and Idempotency-Key. Knows no format.

An idempotency key leads to one request id for as long as results are kept. Admission knows its ids, so that the
same request sent again, by a client that lost the answer, finds the first one's result and adds no second entry,
whichever ingest it reaches and whenever the first attempt broke off.
"""

import hashlib
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ingest import request_trace
from ingest.api.preferences import Preferences
from ingest.auth.owner import owner
from ingest.concurrency import each_or_problem
from ingest.dispatch.model_client import Dispatch, Picture
from ingest.errors import BadParameter, Cancelled, DeadlinePassed, KeyReused, Problem
from ingest.failures import done_or_problem
from ingest.images.decoder import Decoder
from ingest.place import place_of
from ingest.responses import cache_status, prediction
from ingest.shapes import Failure, Named, Prediction, Queued, Results, named
from ingest.uploads import Upload
from results.outcome import Done, Failed
from results.store import State
from stream.model import ModelDescription

LONGEST_KEY = 255

#: Seconds after which a client may ask again for a result that is not there yet.
RETRY_S = 1


class Deferred:
    """Answers the images of one request, with their results or with the places where these will be."""

    def __init__(self, request: Request, dispatch: Dispatch, decoder: Decoder, *, longest_s: float) -> None:
        self._dispatch = dispatch
        self._decoder = decoder
        self._longest_s = longest_s
        self._answers: list[Done] = []
        self._preferences = Preferences.parse(request.headers.getlist("prefer"))
        self._key = request.headers.get("idempotency-key")
        if self._key is not None and not 0 < len(self._key) <= LONGEST_KEY:
            raise BadParameter(f"Idempotency-Key must have 1 to {LONGEST_KEY} characters, a UUID for example.")

    @property
    def wanted(self) -> bool:
        """Whether the client asked for any of this."""
        return self._preferences.deferred or self._key is not None

    async def answer(self, model: ModelDescription, uploads: Sequence[Upload], top: int) -> Response:
        """One image: its answer, or 202 with a Location. Several: a list, 202 where any is not answered yet."""
        work = [self._one(model, upload, top, number) for number, upload in enumerate(uploads)]
        if len(work) == 1:
            only = await work[0]
            queued = "status" in only
            return self._response(only, 202 if queued else 200, place=place_of(only["id"]) if queued else None)
        documents = [_in_its_place(result) for result in await each_or_problem(work)]
        status = 202 if any("status" in document for document in documents) else 200
        results: list[Named] = [
            named(upload.filename, document) for upload, document in zip(uploads, documents, strict=True)
        ]
        return self._response(Results(success=True, results=results), status)

    async def _one(self, model: ModelDescription, upload: Upload, top: int, number: int) -> Prediction | Queued:
        request_id = await self._reserve(upload, top, number) if self._key is not None else ""
        pixels = await self._decoder.decode(upload, model)
        picture = Picture(pixels, top, self._decoder.remaining_s)
        request_id = await self._dispatch.submit(model, picture, request_id=request_id)
        deferred = self._preferences.deferred
        wait_s = self._preferences.wait_at_most_s(self._longest_s) if deferred else self._longest_s
        state = await self._dispatch.wait(request_id, wait_s)
        if state == "queued" and not deferred:
            raise DeadlinePassed("No consumer answered in time.", request_id=request_id)
        if isinstance(state, Done):
            self._answers.append(state)
            request_trace.mark_answered(state)
            await self._dispatch.remember(picture, state)
        return await document(self._dispatch, request_id, state)

    async def _reserve(self, upload: Upload, top: int, number: int) -> str:
        # Two owners may choose the same key and must not meet; an owner's name has no space.
        digest = hashlib.sha256(f"{number} {owner()} {self._key}".encode()).hexdigest()
        fingerprint = hashlib.sha256(b"%d " % top + upload.data).hexdigest()
        request_id, first = await self._dispatch.reserve(digest, fingerprint)
        if first != fingerprint:
            raise KeyReused("This Idempotency-Key was used with another image. Take a new key for each image.")
        return request_id

    def _response(self, body: Prediction | Queued | Results, status: int, *, place: str | None = None) -> Response:
        headers = {"Preference-Applied": self._preferences.applied()} if self._preferences.deferred else {}
        headers |= cache_status(self._answers, on=self._dispatch.caches)
        if status == 202:
            headers["Retry-After"] = str(RETRY_S)
        if place:
            headers["Location"] = place
        return JSONResponse(body, status_code=status, headers=headers)


def _in_its_place(result: Prediction | Queued | Problem) -> Prediction | Queued | Failure:
    return {"success": False, "error": result.document()} if isinstance(result, Problem) else result


async def document(dispatch: Dispatch, request_id: str, state: State) -> Prediction | Queued:
    """The answer to a request in this state, or where it will be; raises the Problem that it ended with."""
    match state:
        case Done() | Failed():
            done = done_or_problem(state)
            return prediction(done, model=dispatch.name, labels=await dispatch.labels(done.version))
        case "cancelled":
            raise Cancelled("The request was cancelled. Send the image again.")
        case _:
            return {"success": True, "status": "queued", "id": request_id, "location": place_of(request_id)}
