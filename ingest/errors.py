"""The problems that a request can end with, and which failure of a consumer or of Redis becomes which problem.

Problem
 ├─ NoImage 400              ├─ PayloadTooLarge 413
 ├─ MalformedUpload 400      ├─ TooManyPixels 413
 ├─ BadParameter 400         ├─ UnsupportedMediaType 415
 ├─ UrlNotAllowed 400        ├─ DamagedImage 422
 ├─ Unauthorized 401         ├─ ImageNotFetched 422
 ├─ CrossOriginRequest 403   ├─ IdempotencyKeyReused 422
 ├─ AdminKeyNeeded 403       ├─ TooManyRequests 429
 ├─ BulkKey 403              ├─ InferenceFailed 500
 ├─ UnknownModel 404         ├─ DamagedInRedis 500
 ├─ UnknownResult 404        ├─ Overloaded 503
 ├─ UnknownDeadLetter 404    ├─ NoConsumer 503
 ├─ RequestTimeout 408       ├─ ModelUnloaded 503
 ├─ LoadRefused 409          ├─ MixedVersions 503
 └─ Cancelled 410            ├─ PreparedForAnother 503
                             ├─ StreamUnavailable 503
                             └─ DeadlinePassed 504
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Final, Literal, NotRequired

from typing_extensions import TypedDict

from ingest.auth.schemes import CHALLENGES
from results.outcome import UNANSWERED, VANISHED, Failed

if TYPE_CHECKING:
    from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"

#: Retry-After in seconds where the time of recovery is unknown.
RETRY_S: Final = 2.0


class ProblemDocument(TypedDict):
    """The problem details object of RFC 9457, with `success` and, once the image was accepted, `id`.

    `retry_after` is the time in whole seconds after which a temporary problem may be over. One image of several has no
    header for it.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    success: Literal[False]
    id: NotRequired[str]
    retry_after: NotRequired[int]


class Problem(Exception):
    """The one way in which a request fails. `ingest.responses` turns it into a response.

    `detail` tells the client in one or two sentences what was wrong and what to do about it. `request_id` names a
    request that was accepted, whose state can be fetched.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    closes: ClassVar[bool] = False

    def __init__(self, detail: str, *, retry_after_s: float | None = None, request_id: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.request_id = request_id

    def document(self) -> ProblemDocument:
        document: ProblemDocument = {
            "type": f"urn:sluice:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "success": False,
        }
        if self.request_id is not None:
            document["id"] = self.request_id
        if (seconds := self._retry_after()) is not None:
            document["retry_after"] = seconds
        return document

    def _retry_after(self) -> int | None:
        return None if self.retry_after_s is None else max(1, math.ceil(self.retry_after_s))

    def headers(self) -> dict[str, str]:
        """Those of each response with it. Retry-After is in whole seconds (RFC 9110, 10.2.3)."""
        headers = {}
        if self.closes:
            headers["Connection"] = "close"
        if (seconds := self._retry_after()) is not None:
            headers["Retry-After"] = str(seconds)
        return headers


class NoImage(Problem):
    status, code, title = 400, "no_image", "No image"


class MalformedUpload(Problem):
    status, code, title = 400, "malformed_upload", "Malformed upload"


class BadParameter(Problem):
    status, code, title = 400, "bad_parameter", "Bad parameter"


class UrlNotAllowed(Problem):
    status, code, title = 400, "url_not_allowed", "URL is not allowed"


class Unauthorized(Problem):
    status, code, title = 401, "unauthorized", "Unauthorized"

    def headers(self) -> dict[str, str]:
        """A 401 offers the authentication schemes."""
        return {**super().headers(), "WWW-Authenticate": CHALLENGES}


class CrossOriginRequest(Problem):
    status, code, title = 403, "cross_origin_request", "Cross-origin request"


class AdminKeyNeeded(Problem):
    status, code, title = 403, "admin_key_needed", "An admin key is needed"


class BulkKey(Problem):
    status, code, title = 403, "bulk_key", "The key is limited to bulk images"


class UnknownModel(Problem):
    status, code, title = 404, "unknown_model", "Unknown model"


class UnknownResult(Problem):
    status, code, title = 404, "unknown_result", "Unknown result"


class UnknownDeadLetter(Problem):
    status, code, title = 404, "unknown_dead_letter", "Unknown dead letter"


class RequestTimeout(Problem):
    status, code, title = 408, "request_timeout", "The request took too long to arrive"
    closes = True  # the rest may arrive at any time, or never (RFC 9110, 15.5.9)


class LoadRefused(Problem):
    status, code, title = 409, "load_refused", "A version was refused"


class Cancelled(Problem):
    status, code, title = 410, "cancelled", "Cancelled"


class PayloadTooLarge(Problem):
    status, code, title = 413, "payload_too_large", "Payload too large"


class TooManyPixels(Problem):
    status, code, title = 413, "too_many_pixels", "Too many pixels"


class UnsupportedMediaType(Problem):
    status, code, title = 415, "unsupported_media_type", "Not a supported format"


class DamagedImage(Problem):
    status, code, title = 422, "damaged_image", "Damaged image"


class ImageNotFetched(Problem):
    status, code, title = 422, "image_not_fetched", "The image could not be fetched"


class IdempotencyKeyReused(Problem):
    status, code, title = 422, "idempotency_key_reused", "Idempotency-Key was used before"


class TooManyRequests(Problem):
    status, code, title = 429, "too_many_requests", "Too many requests"


class InferenceFailed(Problem):
    status, code, title = 500, "inference_failed", "Inference failed"


class DamagedInRedis(Problem):
    status, code, title = 500, "damaged_in_redis", "Damaged in Redis"


class Overloaded(Problem):
    status, code, title = 503, "overloaded", "Overloaded"


class PreparedForAnother(Overloaded):
    """The model was replaced while the image waited. It has to be prepared again."""

    status, code, title = 503, "model_replaced", "The model is being replaced"


class NoConsumer(Problem):
    status, code, title = 503, "no_consumer", "No consumer is ready"


class ModelUnloaded(Problem):
    status, code, title = 503, "model_unloaded", "The model is unloaded"


class MixedVersions(Problem):
    status, code, title = 503, "mixed_versions", "Several versions are served"


class StreamUnavailable(Problem):
    status, code, title = 503, "stream_unavailable", "The stream is unavailable"


class DeadlinePassed(Problem):
    status, code, title = 504, "deadline_passed", "Deadline passed"


def problem_of(failed: Failed) -> Problem:
    """What the failure of an image is to its client."""
    match failed.reason:
        case "expired":
            # What a consumer has dropped is not answered later.
            later = {VANISHED: "", UNANSWERED: " Send it again, or look later whether it was answered after all."}
            return DeadlinePassed(failed.detail + later.get(failed.detail, " Send it again."), request_id=failed.id)
        case "cancelled":
            return Cancelled(failed.detail, request_id=failed.id)
        case "other_preparation":
            return PreparedForAnother(f"The model is being replaced: {failed.detail}", retry_after_s=RETRY_S)
        case "damaged":
            return DamagedInRedis(failed.detail, request_id=failed.id)
        case _:
            return InferenceFailed(failed.detail, request_id=failed.id)


@contextmanager
def redis_errors_as_503() -> Iterator[None]:
    """Turn an error of Redis, or its silence, into StreamUnavailable."""
    try:
        yield
    except Exception as error:
        # Not at the top: decode workers import the problems, and would take twice as long to start.
        from redis.exceptions import RedisError

        if not isinstance(error, RedisError | TimeoutError):
            raise
        raise unavailable(error) from error


def unavailable(error: "RedisError | TimeoutError") -> StreamUnavailable:
    """What an error of Redis, or its silence, is to a client."""
    from redis.exceptions import RedisError

    from stream.connection.clients import is_temporary
    from stream.server_check import reason_of
    from stream.unreadable import with_remedy

    if isinstance(error, RedisError) and not is_temporary(error):
        # The traceback would show our code, and nothing of ours has failed.
        logger.error("Redis refuses a command of ingest: %s", with_remedy(error))
    return StreamUnavailable(f"{reason_of(error)}. Send the request again later.", retry_after_s=RETRY_S)
