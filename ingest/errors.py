"""What may go wrong with a request, and how a client is told (RFC 9457). Knows no web framework, no picture.

Problem
 ├─ NoImage 400                 ├─ DamagedImage 422
 ├─ MalformedUpload 400         ├─ InferenceFailed 500
 ├─ BadParameter 400            ├─ Overloaded 503
 ├─ Unauthorized 401            ├─ NoConsumer 503
 ├─ ForeignOrigin 403
 ├─ UnknownModel 404            ├─ KeyReused 422
 ├─ UnknownResult 404           ├─ TooManyRequests 429
 ├─ UnknownLetter 404
 ├─ Cancelled 410
 ├─ RequestTimeout 408          ├─ StreamUnavailable 503
 ├─ PayloadTooLarge 413         └─ DeadlinePassed 504
 ├─ TooManyPixels 413
 └─ UnsupportedMediaType 415
"""

import math
from typing import ClassVar, Literal, NotRequired

from typing_extensions import TypedDict

from ingest.place import place_of

MEDIA_TYPE = "application/problem+json"


class ProblemDocument(TypedDict):
    """The problem details object of RFC 9457, with `success` and, once accepted, `id` as in every answer."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    success: Literal[False]
    id: NotRequired[str]


class Problem(Exception):
    """The one way a request fails; the web boundary turns it into an answer.

    `detail` is one sentence or two for the client: what was wrong, and what to do about it. `request_id` is that of a
    request that was accepted: its state can be asked for.
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
        return document

    def headers(self) -> dict[str, str]:
        """What the answer needs beside its body; Retry-After counts whole seconds (RFC 9110, 10.2.3)."""
        headers = {}
        if self.closes:
            headers["Connection"] = "close"
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.request_id is not None:
            headers["Location"] = place_of(self.request_id)
        return headers


class NoImage(Problem):
    status, code, title = 400, "no_image", "No image"


class MalformedUpload(Problem):
    status, code, title = 400, "malformed_upload", "Malformed upload"


class BadParameter(Problem):
    status, code, title = 400, "bad_parameter", "Bad parameter"


class Unauthorized(Problem):
    status, code, title = 401, "unauthorized", "Unauthorized"

    def headers(self) -> dict[str, str]:
        """A 401 names the ways to authenticate (RFC 9110, 11.6.1). Basic first: Chromium asks its user for no other."""
        return {**super().headers(), "WWW-Authenticate": 'Basic realm="sluice", charset="UTF-8", Bearer realm="sluice"'}


class ForeignOrigin(Problem):
    status, code, title = 403, "foreign_origin", "Foreign origin"


class UnknownModel(Problem):
    status, code, title = 404, "unknown_model", "Unknown model"


class RequestTimeout(Problem):
    status, code, title = 408, "request_timeout", "The request took too long to arrive"
    closes = True  # the rest may arrive at any time, or never (RFC 9110, 15.5.9)


class KeyReused(Problem):
    status, code, title = 422, "key_reused", "Idempotency-Key used before"


class UnknownResult(Problem):
    status, code, title = 404, "unknown_result", "Unknown result"


class UnknownLetter(Problem):
    status, code, title = 404, "unknown_letter", "Unknown dead letter"


class Cancelled(Problem):
    status, code, title = 410, "cancelled", "Cancelled"


class PayloadTooLarge(Problem):
    status, code, title = 413, "payload_too_large", "Payload too large"


class TooManyPixels(Problem):
    status, code, title = 413, "too_many_pixels", "Too many pixels"


class UnsupportedMediaType(Problem):
    status, code, title = 415, "unsupported_media_type", "Not an image format that is taken"


class DamagedImage(Problem):
    status, code, title = 422, "damaged_image", "Damaged image"


class TooManyRequests(Problem):
    status, code, title = 429, "too_many_requests", "Too many requests"


class InferenceFailed(Problem):
    status, code, title = 500, "inference_failed", "Inference failed"


class Overloaded(Problem):
    status, code, title = 503, "overloaded", "Overloaded"


class NoConsumer(Problem):
    status, code, title = 503, "no_consumer", "No consumer is ready"


class StreamUnavailable(Problem):
    status, code, title = 503, "stream_unavailable", "The stream is unavailable"


class DeadlinePassed(Problem):
    status, code, title = 504, "deadline_passed", "Deadline passed"
