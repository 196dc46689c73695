"""The prediction cache: images that were classified before are answered from Redis.

A prediction is found by the digest of the model file and of the pixels, so a replaced file never answers for its
predecessor. It holds as many classes as were asked for, and serves any request for as many or fewer. The cache is an
optimisation: if Redis fails here, the image is classified.
"""

import asyncio
import hashlib
import logging
from dataclasses import replace
from typing import Any, Final

from redis.exceptions import RedisError

from ingest import metrics
from results.outcome import Done, Failed, decode, encode
from results.store import Store
from stream.connection.clients import Connections
from stream.keys import Partition, partition_of
from stream.model import ModelDescription
from stream.settings import IngestSettings

logger = logging.getLogger(__name__)

#: The share of redis_timeout_s that the cache may take. The client waits for the cache and for what follows.
_TIMEOUT_SHARE: Final = 0.5


class Cache:
    """The predictions of one model, each kept for `cache_ttl_s`, which is more than 0."""

    def __init__(self, connections: Connections, settings: IngestSettings, partition: Partition) -> None:
        self._connections = connections
        self._redis = connections.client_for(partition)
        self._settings = settings
        self._partition = partition

    async def recall(
        self, model: ModelDescription, pixels: bytes | memoryview, *, top: int, request_id: str
    ) -> Done | None:
        """A known prediction, stored as the result of this request; None if the image must be classified."""
        try:
            async with asyncio.timeout(self._settings.redis_timeout_s * _TIMEOUT_SHARE):
                done = await self._recall(model, pixels, top, request_id)
        except (RedisError, TimeoutError, TypeError, ValueError) as error:
            logger.debug("the cache cannot be read: %s", error)
            metrics.CACHE_LOOKUPS.labels("failed").inc()
            return None
        metrics.CACHE_LOOKUPS.labels("hit" if done else "miss").inc()
        return done

    async def _recall(
        self, model: ModelDescription, pixels: bytes | memoryview, top: int, request_id: str
    ) -> Done | None:
        value: Any = await self._redis.get(self._key(model.digest, pixels))
        if value is None:
            return None
        known = decode(value)
        if isinstance(known, Failed):
            raise TypeError("failures are not kept")
        ranked = _cut(known, top, classes=len(model.labels))
        if ranked is None:
            return None
        # The same file may be served under another version by now. Nothing ran for this request.
        done = replace(ranked, id=request_id, version=model.version, batch=0, queue_ms=0.0, run_ms=0.0)
        # An id that is known already belongs to a request that was sent before, and its own outcome stands.
        partition = Partition(self._partition.model, partition_of(request_id))
        store = Store(self._connections.client_for(partition), partition)
        return done if await store.put_if_absent(done, ttl_s=self._settings.result_ttl_s) else None

    async def keep(self, pixels: bytes | memoryview, done: Done) -> None:
        """Keep a prediction for these pixels. One that came from the cache does not start a new time to live."""
        if done.cached or not done.digest:
            return
        try:
            async with asyncio.timeout(self._settings.redis_timeout_s * _TIMEOUT_SHARE):
                ttl_ms = max(1, int(self._settings.cache_ttl_s * 1000))
                await self._redis.set(self._key(done.digest, pixels), encode(replace(done, id="")), px=ttl_ms)
        except (RedisError, TimeoutError) as error:
            logger.debug("the cache cannot be written: %s", error)

    def _key(self, digest: str, pixels: bytes | memoryview) -> str:
        # The model's digest is the hash's key: 64 hexadecimal digits, the most that BLAKE2b takes (RFC 7693, 2.1).
        return self._partition.cache(hashlib.blake2b(pixels, key=digest.encode(), digest_size=32).hexdigest())


def _cut(known: Done, top: int, *, classes: int) -> Done | None:
    """The wanted number of classes, in the order that consumers give them; None if fewer are known.

    Values have no rank: they come all together, in the order of the model.
    """
    if known.output_kind == "values":
        return known
    if len(known.indices) < (top or classes):
        return None
    pairs = zip(known.indices, known.probabilities, strict=True)
    chosen = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:top] if top else sorted(pairs)
    return replace(known, indices=tuple(pair[0] for pair in chosen), probabilities=tuple(pair[1] for pair in chosen))
