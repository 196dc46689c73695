"""What an answer of the service means for one picture and for the run. Pure: sends and waits for nothing."""

import json
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from ingest.client.connection import Response

#: The service is busy or away, whatever the picture: RFC 9110 and 6585, and what proxies say of a service behind them.
_UNAVAILABLE = frozenset((429, 502, 503))
#: It failed with this picture, perhaps by chance: tried again a few times.
_RETRY_FEW = frozenset((408, 500, 504))
#: No picture of this run would be taken: the key, the model's name or an option is wrong.
_FATAL = frozenset((401, 403, 404, 405))
_FATAL_CODES = frozenset(("bad_parameter", "unknown_model"))

Label = tuple[str, float]


@dataclass(frozen=True, slots=True)
class Classified:
    """Labels with their probabilities, most probable first, and who gave them."""

    labels: tuple[Label, ...]
    model: str
    version: str
    id: str


@dataclass(frozen=True, slots=True)
class ItemFailed:
    """This picture has no labels, and will not have any: the reason goes into its row."""

    reason: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Worth another try, not before `after_s`. `may_be_image`: it may be this picture's doing."""

    reason: str
    after_s: float = 0.0
    may_be_image: bool = False


@dataclass(frozen=True, slots=True)
class Abort:
    """The run ends here: all other pictures would fare the same."""

    reason: str


Decision = Classified | ItemFailed | Retry | Abort


def decide(answer: Response) -> Decision:
    document = _document(answer.body)
    if answer.status == 200:
        return _classified(document)
    reason = _reason(answer.status, document)
    if answer.status in _UNAVAILABLE:
        return Retry(reason, _seconds(answer.retry_after))
    if answer.status in _RETRY_FEW:
        return Retry(reason, _seconds(answer.retry_after), may_be_image=True)
    if answer.status < 400:
        return Abort(f"{reason}; the service may be at {answer.location or 'another URL'}")
    if answer.status in _FATAL or document.get("code") in _FATAL_CODES:
        return Abort(reason)
    return ItemFailed(reason)


def _classified(document: dict[str, Any]) -> Classified | Abort:
    try:
        labels = tuple((str(one["label"]), float(one["probability"])) for one in document["predictions"])
        return Classified(labels, str(document["model"]), str(document["version"]), str(document["id"]))
    except (KeyError, TypeError, ValueError):
        return Abort("what answers there is not Sluice")


def _document(body: bytes) -> dict[str, Any]:
    """The answer's JSON object; an empty one where it has none, as the pages of proxies."""
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _reason(status: int, document: dict[str, Any]) -> str:
    """`422 Damaged image: ...`, as far as the problem says it."""
    told = [str(document[name]) for name in ("title", "detail") if document.get(name)]
    return f"{status} " + (": ".join(told) or "without an explanation")


def _seconds(retry_after: str) -> float:
    """Retry-After is a number of seconds or a date (RFC 9110, 10.2.3); 0 for neither."""
    if retry_after.isascii() and retry_after.isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
