"""The Idempotency-Key header: a key leads to one request id for as long as results are kept.

Admission recognises ids that it has seen. So a client that lost the response and sends the request again gets the first
result, and no second entry is added. `results/scripts/idempotency.lua` keeps the key.
"""

import hashlib
from typing import Final

from starlette.requests import Request

from ingest.auth.owner import owner
from ingest.classification import Target, in_thread_if_large
from ingest.errors import BadParameter, IdempotencyKeyReused
from ingest.openapi.operation import Parameter
from ingest.request_body import Upload

_MAX_LENGTH: Final = 255

IDEMPOTENCY_KEY: Final = Parameter(
    "Idempotency-Key",
    "header",
    "The same key with the same image gives the same result, however often it is sent",
    {"type": "string", "minLength": 1, "maxLength": _MAX_LENGTH},
)


def idempotency_key(request: Request) -> str | None:
    """The key, None if there is none; raises BadParameter."""
    key: str | None = request.headers.get(IDEMPOTENCY_KEY.name)
    if key is not None and not 0 < len(key) <= _MAX_LENGTH:
        raise BadParameter(f"Idempotency-Key must have 1 to {_MAX_LENGTH} characters, for example a UUID.")
    return key


async def reserve(key: str, upload: Upload, number: int, target: Target) -> str:
    """The request id of the image with this number, new or that of the first time; raises IdempotencyKeyReused."""
    # Two owners may choose the same key and must not meet. The name of an owner has no space.
    digest = hashlib.sha256(f"{number} {owner.get()} {key}".encode()).hexdigest()
    webhook = f"{target.webhook_url} ".encode() if target.webhook_url else b""
    fingerprint = await _fingerprint(b"%d " % target.top + webhook, upload.data)
    preparation = target.model.preparation
    request_id, first = await target.client.requests.reserve(digest, fingerprint, preparation=preparation)
    if first != fingerprint:
        raise IdempotencyKeyReused(
            "This Idempotency-Key was used with another image, top or webhook. Use a new key for each image."
        )
    return request_id


async def _fingerprint(about: bytes, image: bytes) -> str:
    """Of a request."""

    def fingerprint() -> str:
        digest = hashlib.sha256(about)
        digest.update(image)
        return digest.hexdigest()

    return await in_thread_if_large(fingerprint, size=len(image))
