"""Snapshots: the service at one moment, as the page shows it. Reads Redis, knows neither HTTP nor who looks."""

import asyncio
from typing import Any

from redis.exceptions import RedisError

from ingest.backpressure import Gate
from ingest.dashboard.snapshot import RateEstimator
from ingest.dashboard.request_window import WINDOW_S, RequestWindow
from results.dead_letters import AllDeadLetters, DeadLetter
from stream.connection.clients import Connections
from stream.keys import Partition
from stream.presence import CachedPartitionCounts
from stream.settings import IngestSettings
from stream.status import ConsumerStatus, Status, read_model

#: Consumers count their images with each heartbeat, every quarter of a lease: a shorter window would show steps.
_WINDOW_S = 10.0

#: Most dead letters in a snapshot, the newest. `python -m results dead-letters` has all.
_MOST_LETTERS = 20

#: These say nothing of dead letters, and change with every image.
_OF_EVERY_DAY = frozenset({"completed", "superseded", "expired", "cancelled"})


class SnapshotReader:
    """Looks once a second, and remembers from look to look what rates are made of."""

    def __init__(self, connections: Connections, settings: IngestSettings, recent: RequestWindow) -> None:
        self._connections = connections
        self._settings = settings
        self._recent = recent
        self._counts = CachedPartitionCounts(connections.shared, timeout_s=settings.redis_timeout_s)
        self._models: dict[str, _Model] = {}
        self._answered = RateEstimator(window_s=1.0)
        self._refused = RateEstimator(window_s=1.0)

    async def look(self) -> dict[str, Any]:
        """The snapshot, ready for JSON; times in seconds but where a name says `ms`, rates per second."""
        try:
            counts = await self._counts.counts()
            models = [await self._model(name).look(count) for name, count in counts.items()]
        except (RedisError, TimeoutError) as error:
            return {"outage": f"Redis does not answer ({type(error).__name__}).", "here": self._here(), "models": None}
        return {"outage": None, "here": self._here(), "models": models}

    def _model(self, name: str) -> "_Model":
        return self._models.setdefault(name, _Model(self._connections, self._settings, name))

    def _here(self) -> dict[str, Any]:
        """What this process alone knows; `of` says how many share its port."""
        now_s, last = asyncio.get_running_loop().time(), self._recent.summary()
        return {
            "of": self._settings.worker_count,
            "keys": self._settings.asks_for_keys,
            "window_s": WINDOW_S,
            "answered_per_s": self._answered.note(now_s, self._recent.answered),
            "refused_per_s": self._refused.note(now_s, self._recent.refused),
            "statuses": last.statuses,
            "p50_ms": last.p50_ms,
            "p95_ms": last.p95_ms,
            "p99_ms": last.p99_ms,
            "batches": last.batches,
        }


class _Model:
    """One model's partitions together."""

    def __init__(self, connections: Connections, settings: IngestSettings, name: str) -> None:
        self._connections = connections
        self._name = name
        self._gate = Gate(max_backlog=settings.max_backlog, max_wait_s=settings.max_wait_s)
        # As `python -m consumers status` has it: late enough to be no accident, before clients give up.
        self._max_age_s = settings.request_timeout_s / 2
        self._timeout_s = settings.redis_timeout_s
        self._completed = RateEstimator(window_s=1.0)
        self._images: dict[str, RateEstimator] = {}
        self._buried: tuple[object, list[DeadLetter]] = (None, [])

    async def look(self, partitions: int) -> dict[str, Any]:
        status = await read_model(self._connections, self._name, partitions, timeout_s=self._timeout_s)
        now_s = status.now_ms / 1000
        self._gate.set_rate(status.images_per_s)
        self._images = {member.name: self._images.get(member.name, _per_consumer()) for member in status.members}
        return {
            "model": status.model,
            "now_ms": status.now_ms,
            "images_per_s": self._completed.note(now_s, status.counters.get("completed", 0)),
            "could_per_s": status.images_per_s,
            "backlog": status.backlog,
            "most": self._gate.most,
            "pending": status.pending,
            "oldest_s": status.oldest_s,
            "drain_s": status.drain_s,
            "problems": status.problems(max_age_s=self._max_age_s),
            "consumers": [self._consumer(member, now_s) for member in status.members],
            "dead_letters": status.dead_letters,
            "letters": [_letter(letter) for letter in await self._newest(status)],
        }

    def _consumer(self, member: ConsumerStatus, now_s: float) -> dict[str, Any]:
        report = member.report
        images_per_s = self._images[member.name].note(now_s, report.images) if report else None
        return {
            "name": member.name,
            "host": report.host if report else None,
            "pid": report.pid if report else None,
            "provider": report.provider if report else None,
            "version": report.version if report else None,
            "state": report.state if report and member.alive else "dead",
            "images_per_s": images_per_s if member.alive else 0.0,
            "could_per_s": report.images_per_s if report else None,
            "images": report.images if report else None,
            "last_batch": report.last_batch if report else None,
            "reclaimed": report.reclaimed if report else None,
            "held": member.held,
            "silent_s": member.silent_s,
        }

    async def _newest(self, status: Status) -> list[DeadLetter]:
        # Redis has to touch the pixels of each letter to list them, so they are listed when something has changed.
        counted = {event: count for event, count in status.counters.items() if event not in _OF_EVERY_DAY}
        now = (status.dead_letters, counted, status.away)
        if now != self._buried[0]:
            there = (number for number, backlog in enumerate(status.backlogs) if backlog is not None)
            of = [Partition(self._name, number) for number in there]
            letters = await AllDeadLetters(self._connections, of).all() if status.dead_letters else []
            self._buried = (now, letters[-_MOST_LETTERS:])
        return self._buried[1]


def _per_consumer() -> RateEstimator:
    return RateEstimator(window_s=_WINDOW_S)


def _letter(letter: DeadLetter) -> dict[str, Any]:
    # Not the request's id: whoever knows that may fetch the result.
    return {
        "id": letter.id,
        "buried_ms": int(letter.id.partition("-")[0]),
        "reason": letter.reason,
        "deliveries": letter.deliveries,
        "holders": letter.holders,
        "replayable": bool(letter.request_id),
    }
