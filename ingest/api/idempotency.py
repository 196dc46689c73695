"""The Idempotency-Key header: a key leads to one request id for as long as results are kept.

So a client that lost the response and sends the request again gets the first result. idempotency.lua keeps the id that
belongs to a key. ingest/api/async_requests.py asks for it once the image is decoded, and has the image accepted under
it: `stream/scripts/admit.lua` adds no second entry for an id that it has seen.
"""

import hashlib
from typing import Final

from starlette.requests import Request

from ingest.auth.owner import owner
from ingest.classification import Target
from ingest.errors import BadParameter, IdempotencyKeyReused, redis_errors_as_503
from ingest.openapi.operation import Parameter
from ingest.request_body import Upload, in_thread_if_large
from stream.connection.clients import Connections
from stream.keys import Partition, new_id
from stream.scripts import load

_MAX_LENGTH: Final = 255

#: Bytes that are hashed in the time in which one byte of JSON is parsed.
_HASHED_PER_PARSED: Final = 16

IDEMPOTENCY_KEY: Final = Parameter(
    "Idempotency-Key",
    "header",
    "The same key with the same image, top and webhook gives the same result, while results are kept",
    {"type": "string", "minLength": 1, "maxLength": _MAX_LENGTH},
)


class IdempotencyKeys:
    """The keys of all clients, each kept for `ttl_s`."""

    def __init__(self, connections: Connections, *, ttl_s: float) -> None:
        self._connections = connections
        self._ttl_ms = int(ttl_s * 1000)
        self._script = load(connections.shared, "ingest.api", "idempotency")

    def of(self, request: Request) -> str | None:
        """The key that a request has, None if it has none; raises BadParameter."""
        key: str | None = request.headers.get(IDEMPOTENCY_KEY.name)
        if key is not None and not 0 < len(key) <= _MAX_LENGTH:
            raise BadParameter(f"Idempotency-Key must have 1 to {_MAX_LENGTH} characters, for example a UUID.")
        return key

    async def request_id(self, key: str, upload: Upload, number: int, target: Target) -> str:
        """The id of the image with this number in the request: a new one, or that of the first time.

        Raises IdempotencyKeyReused and StreamUnavailable.
        """
        fingerprint = await _fingerprint(upload, target)
        # Two owners may choose the same key and must not meet. The name of an owner has no space.
        digest = hashlib.sha256(f"{number} {owner.get()} {key}".encode()).hexdigest()
        takers = target.client.partitions.candidates(target.model.preparation)
        offered = new_id(takers[0].number, owner.get())
        # All keys are in the first partition: they must be found again after the number of partitions has changed.
        first = Partition(target.client.name)
        with redis_errors_as_503():
            request_id, known = await self._script(
                [first.idempotency(digest)],
                [offered, fingerprint, self._ttl_ms],
                client=self._connections.client_for(first),
            )
        if known.decode() != fingerprint:
            raise IdempotencyKeyReused(
                f"This Idempotency-Key was used with another image at this position ({number}, counted from 0), or "
                "with another top or webhook. Send the whole request again, or send this image with a new key."
            )
        return str(request_id.decode())


async def _fingerprint(upload: Upload, target: Target) -> str:
    """What must be the same each time: the image, and what else decides the outcome."""

    def fingerprint() -> str:
        digest = hashlib.sha256(b"%d " % target.top)
        if target.webhook_url:
            digest.update(f"{target.webhook_url} ".encode())
        digest.update(upload.data)
        return digest.hexdigest()

    return await in_thread_if_large(fingerprint, size=len(upload.data) // _HASHED_PER_PARSED)
