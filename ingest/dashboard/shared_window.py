"""The responses of the last minute over all ingest processes, which share their counts through Redis.

Each process writes its counts into one hash, every second in which it has any. The page shows the sum.

    HSET sluice:{all}:requests <process> {"at_ms": 1764407000000, "answered_per_s": 9.0, "refused_per_s": 0.0,
                                          "statuses": {"200": 9}, "latencies": {"46": 9}, "batches": {"4": 9}}
"""

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.dashboard.request_window import WINDOW_S, Counts, RateEstimator, RequestWindow, Summary
from stream import unreadable
from stream.keys import REQUESTS

_INTERVAL_S: Final = 1.0

#: The counts of a process that has been silent this long are left out: it has ended, or its last minute was empty.
_STALE_MS: Final = 3_000

#: More than any process counts in a minute.
_MOST_COUNTED: Final = 10**12


@dataclass(frozen=True, slots=True)
class Requests:
    """All processes together. The rates are per second over about the last second."""

    summary: Summary
    answered_per_s: float
    refused_per_s: float


class SharedWindow:
    """Writes the counts of this process, and reads the sum over all."""

    def __init__(self, redis: Redis, window: RequestWindow, *, timeout_s: float) -> None:
        self._redis = redis
        self._window = window
        self._timeout_s = timeout_s
        self._process = uuid.uuid4().hex
        self._rates = RateEstimator(window_s=_INTERVAL_S), RateEstimator(window_s=_INTERVAL_S)
        self._published = False

    async def run(self) -> None:
        """Write the counts every second, until cancelled. If Redis does not answer, skip a second."""
        while True:
            own = self.own()
            if own["statuses"] or self._published:
                with suppress(RedisError, TimeoutError):
                    async with asyncio.timeout(self._timeout_s):
                        await self._publish(own)
            await asyncio.sleep(_INTERVAL_S)

    def own(self) -> dict[str, Any]:
        """The counts of this process, as they are written."""
        now_s = asyncio.get_running_loop().time()
        answered, refused = self._rates
        counts = self._window.counts()
        return {
            "answered_per_s": answered.note(now_s, self._window.answered) or 0.0,
            "refused_per_s": refused.note(now_s, self._window.refused) or 0.0,
            "statuses": counts.statuses,
            "latencies": counts.latencies,
            "batches": counts.batches,
        }

    async def _publish(self, own: dict[str, Any]) -> None:
        at_ms = await self._now_ms()
        async with self._redis.pipeline(transaction=False) as commands:
            commands.hset(REQUESTS, self._process, json.dumps({"at_ms": at_ms, **own}))
            commands.expire(REQUESTS, WINDOW_S)
            await commands.execute()
        self._published = bool(own["statuses"])

    async def read(self) -> Requests:
        """The sum over all processes: the others as they wrote, this one as it is now.

        Raises RedisError and TimeoutError.
        """
        async with asyncio.timeout(self._timeout_s):
            now_ms = await self._now_ms()
            written: Any = await self._redis.hgetall(REQUESTS)
            found = dict(_readable(written))
            ended = [name for name, one in found.items() if one["at_ms"] < now_ms - WINDOW_S * 1000]
            if ended:
                await self._redis.hdel(REQUESTS, *ended)
        others = [one for name, one in found.items() if name != self._process and one["at_ms"] >= now_ms - _STALE_MS]
        return total([self.own(), *others])

    async def _now_ms(self) -> int:
        """The clock of Redis: those of the hosts may differ."""
        seconds, microseconds = await self._redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000


def _readable(written: Mapping[bytes, bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each process wrote; anything else in the hash is skipped."""
    for name, text in written.items():
        try:
            one = unreadable.parse_json(text)
            one["at_ms"] = int(one["at_ms"])
            total([one])
            yield name.decode(), one
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            unreadable.skip("request count", REQUESTS, error)


def total(processes: Iterable[Mapping[str, Any]]) -> Requests:
    """The sum of what processes wrote."""
    counts, answered_per_s, refused_per_s = Counts(), 0.0, 0.0
    for one in processes:
        counts.add(Counts(*(_numbers(one[name]) for name in ("statuses", "latencies", "batches"))))
        answered_per_s += _count(one["answered_per_s"])
        refused_per_s += _count(one["refused_per_s"])
    return Requests(counts.summary(), answered_per_s, refused_per_s)


def _numbers(counts: Mapping[Any, int]) -> Counter[int]:
    """JSON has no numbers as keys."""
    return Counter({int(key): int(_count(count)) for key, count in counts.items()})


def _count(value: float) -> float:
    """Raises ValueError if a process cannot have counted that: NaN, a negative number, or one that overflows sums."""
    if not 0 <= value <= _MOST_COUNTED:
        raise ValueError(f"{value} is no count")
    return value
