"""Decides what a response means: a result, an error of this image, a retry, or the end of the run."""

import json
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple

from ingest.client.connection import Response

#: The service is busy or unavailable, whatever the image: RFC 9110 and 6585, and the statuses of proxies.
_UNAVAILABLE: Final = frozenset((429, 502, 503))
#: The service failed with this image, perhaps by chance. A few retries are worth it.
_RETRY_FEW: Final = frozenset((408, 500, 504))
#: Every image would be refused: the key, the model's name or an option is wrong.
_FATAL: Final = frozenset((401, 403, 404, 405))
_FATAL_CODES: Final = frozenset(("bad_parameter", "unknown_model"))
_UNAUTHORIZED: Final = 401
_KEY_ADVICE: Final = "Put the key into the variable SLUICE_API_KEY."
#: Only this one result is missing.
_MISSING_RESULT: Final = "unknown_result"


class Prediction(NamedTuple):
    """One label with its probability, from 0 to 1."""

    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Result:
    """The predictions for one image, most probable first, with the model that made them and the request id.

    A model that gives values instead of labels fills `values`, in the order of its outputs.
    """

    predictions: tuple[Prediction, ...]
    model: str
    version: str
    id: str
    values: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Queued:
    """The service has accepted the image and has no result yet."""

    id: str


@dataclass(frozen=True, slots=True)
class ItemFailed:
    """This image has no predictions, and a retry would not help. `status` and `code` are those of the response."""

    reason: str
    status: int = 0
    code: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again, but not before `after_s` seconds. `may_be_image`: this image may be the cause.

    `status` and `code` are those of the response, 0 and empty if there was none.
    """

    reason: str
    after_s: float = 0.0
    may_be_image: bool = False
    status: int = 0
    code: str = ""


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop: every other image would fail for the same reason."""

    reason: str


Settled = Result | Queued | ItemFailed
Decision = Settled | Retry | Abort


def decide(response: Response) -> Decision:
    document = _document(response.body)
    if response.status in (200, 202):
        return _result(document) if response.status == 200 else _queued(document)
    reason, code = _reason(response.status, document), str(document.get("code", ""))
    if response.status in _UNAVAILABLE:
        return Retry(reason, _seconds(response.retry_after))
    if response.status in _RETRY_FEW:
        return Retry(reason, _seconds(response.retry_after), True, response.status, code)
    if response.status < 400:
        return Abort(f"{reason}; the service may be at {response.location or 'another URL'}")
    if code != _MISSING_RESULT and (response.status in _FATAL or code in _FATAL_CODES):
        return Abort(f"{reason.rstrip('.')}. {_KEY_ADVICE}" if response.status == _UNAUTHORIZED else reason)
    return ItemFailed(reason, response.status, code)


def decide_stored(response: Response) -> Decision:
    """The same for a stored result: if the request itself has failed, its failure is final."""
    document = _document(response.body)
    if response.status >= 400 and "id" in document:
        return ItemFailed(_reason(response.status, document), response.status, str(document.get("code", "")))
    return decide(response)


def label_count(response: Response, model: str) -> int | None:
    """How many labels the model has by this response of `GET /models`; None if it does not say.

    An empty name means the only model.
    """
    try:
        listed = {str(one["name"]): int(one["labels"]) for one in _document(response.body)["models"]}
    except (KeyError, TypeError, ValueError):
        return None
    if model:
        return listed.get(model)
    return next(iter(listed.values())) if len(listed) == 1 else None


def _result(document: dict[str, Any]) -> Result | Abort:
    try:
        by = str(document["model"]), str(document["version"]), str(document["id"])
        if "values" in document:
            return Result((), *by, tuple(map(float, document["values"])))
        predictions = tuple(Prediction(str(one["label"]), float(one["probability"])) for one in document["predictions"])
        return Result(predictions, *by)
    except (KeyError, TypeError, ValueError):
        return Abort("the server at this address is not Sluice")


def _queued(document: dict[str, Any]) -> Queued | Abort:
    return Queued(str(document["id"])) if "id" in document else Abort("the server at this address is not Sluice")


def _document(body: bytes) -> dict[str, Any]:
    """The response's JSON object; empty if the body is something else, such as a proxy's error page."""
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _reason(status: int, document: dict[str, Any]) -> str:
    """`422 Damaged image: ...`, from the fields of the problem."""
    parts = [str(document[name]) for name in ("title", "detail") if document.get(name)]
    return f"{status} " + (": ".join(parts) or "without an explanation")


def _seconds(retry_after: str) -> float:
    """Retry-After holds seconds or a date (RFC 9110, 10.2.3); 0 if it holds neither."""
    if retry_after.isascii() and retry_after.isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
