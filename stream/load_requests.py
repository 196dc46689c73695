"""Requests of an operator to load a model again, or to unload it. Ingest writes them, consumers carry them out."""

from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from stream import unreadable
from stream.keys import LOADS

#: The number of a request is below this: a report of a consumer can hold it.
_NUMBERS_END: Final = 2**53


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
        field = f"{model}:number"
        # Redis's clock is beyond every number that consumers may have carried out, if the last one was lost.
        seconds, microseconds = await self._redis.time()
        first = int(seconds) * 1_000_000 + int(microseconds)
        await self._redis.hsetnx(LOADS, field, first)
        try:
            number = int(await self._redis.hincrby(LOADS, field, 1))
        except ResponseError:  # It was no number, or the largest.
            number = 0
        if not 0 < number < _NUMBERS_END:
            await self._redis.hset(LOADS, field, number := first)
        return number

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
        if number is not None and not (number.isdigit() and len(number) < 17 and int(number) < _NUMBERS_END):
            unreadable.skip("load request", LOADS, ValueError(repr(number[:40])))
            number = None
        return LoadRequest(int(number or 0), unloaded is not None)
