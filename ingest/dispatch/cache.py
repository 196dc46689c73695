"""The cache: answers to pixels that were asked before. Knows no HTTP and no picture, and admits nothing.

An answer is found by the digest of the model's file and of the pixels, so that a file put in another's place is never
answered for by it. It holds as many classes as were asked for, and serves whoever wants as many or fewer. It is a help
and not a duty: where Redis fails here, the image is classified.
"""

import asyncio
import hashlib
import logging
from dataclasses import replace
from typing import Any

from redis.exceptions import RedisError

from ingest import metrics
from results.outcome import Done, decode, encode
from results.store import Store
from stream.connection.clients import Connections
from stream.entry import Entry
from stream.keys import Partition
from stream.model import ModelDescription
from stream.request_id import partition_of
from stream.settings import IngestSettings

logger = logging.getLogger(__name__)

#: The part of redis_timeout_s that may pass here: what follows has the whole of it, and a client waits for both.
_PART = 0.5


class Cache:
    """The answers of one model, each kept for `cache_ttl_s`; with 0 nothing is asked and nothing kept."""

    def __init__(self, connections: Connections, settings: IngestSettings, partition: Partition) -> None:
        self._connections = connections
        self._redis = connections.client_for(partition)
        self._settings = settings
        self._partition = partition

    @property
    def on(self) -> bool:
        return self._settings.cache_ttl_s > 0

    async def recall(self, model: ModelDescription, entry: Entry) -> Done | None:
        """The answer to this entry, kept under its id as any other; None where the entry must be admitted."""
        if not self.on:
            return None
        try:
            async with asyncio.timeout(self._settings.redis_timeout_s * _PART):
                done = await self._recall(model, entry)
        except (RedisError, TimeoutError, ValueError) as error:
            logger.debug("the cache cannot be read: %s", error)
            metrics.CACHE_LOOKUPS.labels("failed").inc()
            return None
        metrics.CACHE_LOOKUPS.labels("hit" if done else "miss").inc()
        return done

    async def _recall(self, model: ModelDescription, entry: Entry) -> Done | None:
        value: Any = await self._redis.get(self._key(model.digest, entry.pixels))
        if value is None:
            return None
        known = decode(value)
        assert isinstance(known, Done), "failures are not kept"
        ranked = _cut(known, entry.top, classes=len(model.labels))
        if ranked is None:
            return None
        # The same file may be served under another version now. Nothing ran for this request.
        done = replace(ranked, id=entry.id, version=model.version, batch=0, queue_ms=0.0, run_ms=0.0)
        # An id that is known belongs to a request that was sent before, and its own outcome stands.
        of = Partition(self._partition.model, partition_of(entry.id))
        return (
            done if await Store(self._connections.client_for(of), of).put_if_absent(done, ttl_s=self._settings.result_ttl_s) else None
        )

    async def keep(self, pixels: bytes | memoryview, done: Done) -> None:
        """Keep what a model said to these pixels; what came from here begins no new time to live."""
        if not self.on or done.cached or not done.digest:
            return
        try:
            async with asyncio.timeout(self._settings.redis_timeout_s * _PART):
                ttl_ms = max(1, int(self._settings.cache_ttl_s * 1000))
                await self._redis.set(self._key(done.digest, pixels), encode(replace(done, id="")), px=ttl_ms)
        except (RedisError, TimeoutError) as error:
            logger.debug("the cache cannot be written: %s", error)

    def _key(self, digest: str, pixels: bytes | memoryview) -> str:
        # The model's digest as the hash's key: 64 hexadecimal digits, the most that BLAKE2b takes (RFC 7693, 2.1).
        return self._partition.cache(hashlib.blake2b(pixels, key=digest.encode(), digest_size=32).hexdigest())


def _cut(known: Done, top: int, *, classes: int) -> Done | None:
    """As many classes as are wanted, in the order that consumers give them; None where not so many are known."""
    if len(known.indices) < (top or classes):
        return None
    pairs = zip(known.indices, known.probabilities, strict=True)
    chosen = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:top] if top else sorted(pairs)
    return replace(known, indices=tuple(pair[0] for pair in chosen), probabilities=tuple(pair[1] for pair in chosen))
