"""Asynchronous requests: the Prefer header (RFC 7240), and results that are stored under ids.

ingest/api/idempotency.py has the Idempotency-Key header, and ingest/api/webhook_requests.py the Webhook-URL header.
"""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from starlette.requests import Request
from starlette.responses import Response

from ingest.api.idempotency import IdempotencyKeys
from ingest.classification import Classifier, Target, gather_or_problem
from ingest.dispatch.model_client import ModelClient
from ingest.errors import Cancelled, Problem, problem_of
from ingest.openapi.operation import Header, Parameter
from ingest.paths import result_url
from ingest.request_body import Upload
from ingest.request_trace import current_trace
from ingest.responses import JSONResponse, Prediction, Queued, Results, Values, cache_status, failure, named, prediction
from results.outcome import UNANSWERED, Done, Failed, is_lost_in_redis
from results.store import State
from stream.keys import Priority

#: Seconds after which a client may ask again for a result that is not there yet.
POLL_S: Final = 1

PREFERENCE_APPLIED: Final = Header("Preference-Applied", "Which preferences were applied")
POLL_HEADER: Final = Header("Retry-After", "Seconds until the client should ask again", always=True)
PREFER: Final = Parameter(
    "Prefer",
    "header",
    "respond-async, or wait=N with N in whole seconds (RFC 7240). Other preferences are ignored",
    {"type": "string"},
)

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~\w-]+", re.ASCII)

#: Characters of Prefer that are read. Clients send some twenty.
_MAX_PREFER: Final = 4096


@dataclass(frozen=True, slots=True)
class Preferences:
    """`respond_async`: a response before the result is welcome. `wait_s`: how long to wait for the result first."""

    respond_async: bool = False
    wait_s: float | None = None

    @classmethod
    def parse(cls, headers: Iterable[str]) -> Self:
        """All Prefer headers together. Unknown and malformed ones are ignored, and the first of a name counts."""
        found: dict[str, str] = {}
        for preference in _split(", ".join(headers)[:_MAX_PREFER], ","):
            name, _, value = _split(preference, ";")[0].partition("=")
            if _TOKEN.fullmatch(name.strip()):
                found.setdefault(name.strip().lower(), value.strip().strip('"'))
        wait = found.get("wait", "")
        wait_s = float(wait) if wait.isascii() and wait.isdecimal() and len(wait) < 10 else None
        return cls("respond-async" in found, wait_s)

    @classmethod
    def of(cls, request: Request) -> Self:
        """Those of a request."""
        return cls.parse(request.headers.getlist(PREFER.name))

    @property
    def accepts_202(self) -> bool:
        """Whether the client can handle a response without the result."""
        return self.respond_async or self.wait_s is not None

    def wait_at_most_s(self, timeout_s: float) -> float:
        """How long to wait before responding without the result."""
        return min(self.wait_s or 0.0, timeout_s)

    def applied(self) -> str:
        """The Preference-Applied header."""
        names = ["respond-async"] if self.respond_async else []
        return ", ".join(names if self.wait_s is None else [*names, f"wait={self.wait_s:.0f}"])


def _split(text: str, separator: str) -> list[str]:
    """The parts between separators that are not in quotation marks."""
    parts: list[list[str]] = [[]]
    for number, piece in enumerate(text.split('"')):
        if number % 2:
            parts[-1].append(f'"{piece}"')
            continue
        first, *others = piece.split(separator)
        parts[-1].append(first)
        parts.extend([other] for other in others)
    return ["".join(part) for part in parts]


class AsyncRequest:
    """A request whose results are stored under ids that the client can come back to."""

    def __init__(
        self, preferences: Preferences, key: str | None, idempotency: IdempotencyKeys, *, timeout_s: float
    ) -> None:
        self._preferences = preferences
        self._key = key
        self._idempotency = idempotency
        self._timeout_s = timeout_s
        self._done: list[Done] = []

    @classmethod
    def parse(cls, request: Request, idempotency: IdempotencyKeys, *, timeout_s: float) -> Self | None:
        """None if the client asks neither by Prefer nor by Idempotency-Key. Raises BadParameter."""
        preferences, key = Preferences.of(request), idempotency.of(request)
        if key is None and not preferences.accepts_202:
            return None
        return cls(preferences, key, idempotency, timeout_s=timeout_s)

    @property
    def default_priority(self) -> Priority:
        """The class of its images if the client names none: nobody waits for a response without the result."""
        return "bulk" if self._preferences.respond_async else "interactive"

    async def respond(self, uploads: Sequence[Upload], target: Target, classifier: Classifier) -> Response:
        """One image: its prediction, or 202 with a Location. Several: a list, with 202 if any has no result yet."""
        work = [self._one(upload, number, target, classifier) for number, upload in enumerate(uploads)]
        if len(work) == 1:
            only = await work[0]
            location: Any = only.get("location")
            return self._response(only, 202 if location else 200, target, location=location)
        outcomes = await gather_or_problem(work)
        results = [failure(one) if isinstance(one, Problem) else one for one in outcomes]
        status = 202 if any("status" in result for result in results) else 200
        body = Results(
            success=True,
            results=[named(upload.filename, result) for upload, result in zip(uploads, results, strict=True)],
        )
        return self._response(body, status, target)

    async def _one(
        self, upload: Upload, number: int, target: Target, classifier: Classifier
    ) -> Prediction | Values | Queued:
        client = target.client
        # A damaged image must not use up the key, so the image is decoded first.
        image = await classifier.prepare(upload, target)
        reserved = "" if self._key is None else await self._idempotency.request_id(self._key, upload, number, target)
        accepts_202 = self._preferences.accepts_202
        wait_s = self._preferences.wait_at_most_s(self._timeout_s) if accepts_202 else self._timeout_s
        began_s = time.monotonic()
        request_id = await client.submit(image, request_id=reserved)
        state = await client.requests.wait(request_id, wait_s)
        replaced = isinstance(state, Failed) and state.reason == "other_preparation"
        # It had the deadline of an earlier request with the same key.
        is_due = time.monotonic() - began_s >= self._timeout_s
        expired_earlier = isinstance(state, Failed) and state.reason == "expired" and not is_due
        if state == "unknown" or is_lost_in_redis(state) or replaced or expired_earlier:
            image = await classifier.prepare_again(upload, target) if replaced else image
            await client.requests.delete(request_id)
            await client.submit(image, request_id=request_id)
            state = await client.requests.wait(request_id, wait_s - (time.monotonic() - began_s))
        if state == "queued" and wait_s >= self._timeout_s:
            state = Failed(request_id, "expired", UNANSWERED)
        if isinstance(state, Done):
            self._done.append(state)
            if trace := current_trace.get():
                trace.mark_answered(state)
            await client.note_answer(image, state)
        return await state_document(client, request_id, state, threshold=target.threshold)

    def _response(
        self, body: Prediction | Values | Queued | Results, status: int, target: Target, *, location: str | None = None
    ) -> Response:
        headers = {"Preference-Applied": self._preferences.applied()} if self._preferences.accepts_202 else {}
        headers |= cache_status(self._done, enabled=target.client.caches)
        if status == 202:
            headers["Retry-After"] = str(POLL_S)
        if location:
            headers["Location"] = location
        return JSONResponse(body, status_code=status, headers=headers)


async def state_document(
    client: ModelClient, request_id: str, state: State, *, threshold: float | None = None
) -> Prediction | Values | Queued:
    """The result of a request in this state, or the URL where it will be; raises the Problem that it ended with."""
    match state:
        case Done():
            labels = await client.versions.labels_of(state)
            return prediction(state, model=client.name, labels=labels, threshold=threshold)
        case Failed():
            raise problem_of(state)
        case "cancelled":
            raise Cancelled(
                "The request was cancelled. Send the image again, with a new Idempotency-Key if it had one.",
                request_id=request_id,
            )
        case _:
            location = result_url(request_id, threshold)
            return {"success": True, "status": "queued", "id": request_id, "location": location}
