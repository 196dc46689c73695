"""Eviction: whether a full server throws keys away, queued images with them. Knows no key, and changes nothing."""

from redis.asyncio import Redis
from redis.exceptions import ResponseError


async def policy(redis: Redis) -> str:
    """The policy by which this server evicts when it is full; empty where it refuses writes, as it should.

    Empty also if the user may not ask, or Redis does not say. Raises redis-py's errors.
    """
    # CONFIG GET, which says the same, is an administrator's.
    try:
        about = await redis.info("memory")
    except ResponseError:
        return ""
    name = str(about.get("maxmemory_policy", "noeviction"))
    return name if about.get("maxmemory") and name != "noeviction" else ""
