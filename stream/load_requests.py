"""Requests of an operator to load a model again, or to unload it. Ingest writes them, consumers carry them out."""

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from stream import unreadable
from stream.keys import LOADS

#: Digits of a number of requests; what is longer would be none of ours.
_LONGEST_COUNT = 15


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """The newest request for a model. `number` counts those to load it; `unloaded`: it was to be unloaded since."""

    number: int = 0
    unloaded: bool = False


class LoadRequests:
    """The requests for all models; `shared` is the client for keys that belong to no partition."""

    def __init__(self, shared: Redis) -> None:
        self._redis = shared

    async def load(self, model: str) -> int:
        """Ask for a model to be loaded; returns the number of this request."""
        await self._redis.hdel(LOADS, f"{model}:unloaded")
        return int(await self._redis.hincrby(LOADS, f"{model}:number", 1))

    async def unload(self, model: str) -> None:
        """Ask for a model to be unloaded, until it is loaded again."""
        await self._redis.hset(LOADS, f"{model}:unloaded", "1")

    async def unloaded(self) -> set[str]:
        """The models that are to be unloaded."""
        found: Any = await self._redis.hkeys(LOADS)
        names = (field.decode(errors="replace").rpartition(":") for field in found)
        return {model for model, _, kind in names if kind == "unloaded"}

    async def newest(self, model: str) -> LoadRequest:
        """The newest request for a model."""
        found: Any = await self._redis.hmget(LOADS, [f"{model}:number", f"{model}:unloaded"])
        number, unloaded = found
        if number is not None and not (number.isdigit() and len(number) <= _LONGEST_COUNT):
            unreadable.skip("load request", LOADS, ValueError(repr(number[:40])))
            number = None
        return LoadRequest(int(number or 0), unloaded is not None)
