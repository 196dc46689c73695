"""Outages: what it is to a client that Redis fails or keeps silent. Knows no key and no command."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError

from ingest.errors import StreamUnavailable
from stream.connection.clients import is_temporary

logger = logging.getLogger(__name__)

#: Retry-After, in seconds: nothing is known of when it will be better.
RETRY_S = 2.0


@contextmanager
def told() -> Iterator[None]:
    """An error of Redis within, or its silence, becomes a StreamUnavailable."""
    try:
        yield
    except (RedisError, TimeoutError) as error:
        if isinstance(error, RedisError) and not is_temporary(error):
            # Nothing of ours has failed, so where it happened says nothing.
            logger.error("Redis refuses what ingest asks: %s", error)  # noqa: TRY400
        raise StreamUnavailable(
            f"Redis cannot answer at present ({type(error).__name__}). Send the request again later.",
            retry_after_s=RETRY_S,
        ) from error
