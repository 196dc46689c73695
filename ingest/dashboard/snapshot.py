"""Reads a snapshot of the service from Redis and this process, for the page."""

from dataclasses import asdict
from typing import Any, Final

from redis.exceptions import RedisError

from ingest.backpressure import BacklogLimit
from ingest.dashboard.request_window import WINDOW_S, RateEstimator
from ingest.dashboard.shared_window import Requests, SharedWindow, total
from results.dead_letters import AllDeadLetters, DeadLetter
from stream.connection.clients import Connections
from stream.keys import PRIORITIES, Partition, added_ms
from stream.presence import CachedPartitionCounts
from stream.server_check import reason_of
from stream.settings import IngestSettings
from stream.status.reader import read_model
from stream.status.report import ConsumerStatus, Status

#: Consumers report their images twice a second, and after whole batches. A short window would show steps.
_CONSUMER_WINDOW_S: Final = 10.0

#: Most dead letters in a snapshot, the newest ones. `python -m results dead-letters` lists all.
_MAX_DEAD_LETTERS: Final = 20

#: These counters change with every image and never with a dead letter.
_COMMON_EVENTS: Final = frozenset({"completed", "superseded", "expired", "cancelled"})


class SnapshotReader:
    """Reads one snapshot a second, and keeps from one to the next what the rates need."""

    def __init__(self, connections: Connections, settings: IngestSettings, window: SharedWindow) -> None:
        self._connections = connections
        self._settings = settings
        self._window = window
        self._counts = CachedPartitionCounts(connections.shared, timeout_s=settings.redis_timeout_s)
        self._models: dict[str, _Model] = {}

    async def read(self) -> dict[str, Any]:
        """The snapshot, ready for JSON. Times are in seconds unless a name ends in `ms`; rates are per second."""
        try:
            counts = await self._counts.counts()
            models = [await self._model(name).read(count) for name, count in counts.items()]
        except (RedisError, TimeoutError) as error:
            outage = f"{reason_of(error)}."
            return {"outage": outage, "requests": self._requests(total([self._window.own()])), "models": None}
        return {"outage": None, "requests": self._requests(await self._all_requests()), "models": models}

    async def _all_requests(self) -> Requests:
        """The responses of all processes; of this one, if the server that holds the counts is unavailable."""
        try:
            return await self._window.read()
        except (RedisError, TimeoutError):
            return total([self._window.own()])

    def _model(self, name: str) -> "_Model":
        return self._models.setdefault(name, _Model(self._connections, self._settings, name))

    def _requests(self, requests: Requests) -> dict[str, Any]:
        """The responses of all processes; in an outage, of this one. `workers` is the number that share its port."""
        last_minute = requests.summary
        return {
            "workers": self._settings.worker_count,
            "keys": self._settings.asks_for_keys,
            "window_s": WINDOW_S,
            "answered_per_s": requests.answered_per_s,
            "refused_per_s": requests.refused_per_s,
            "statuses": last_minute.statuses,
            "p50_ms": last_minute.p50_ms,
            "p95_ms": last_minute.p95_ms,
            "p99_ms": last_minute.p99_ms,
            "batches": last_minute.batches,
        }


class _Model:
    """One model's partitions together."""

    def __init__(self, connections: Connections, settings: IngestSettings, name: str) -> None:
        self._connections = connections
        self._name = name
        self._limits = {
            priority: BacklogLimit(max_backlog=settings.max_backlog, max_wait_s=settings.max_wait_s)
            for priority in PRIORITIES
        }
        # The same as in `python -m consumers status`: late enough to be no accident, and before clients give up.
        self._max_age_s = settings.request_timeout_s / 2
        self._timeout_s = settings.redis_timeout_s
        self._completed = RateEstimator(window_s=1.0)
        self._images: dict[str, RateEstimator] = {}
        self._dead_letters: tuple[object, list[DeadLetter]] = (None, [])

    async def read(self, partitions: int) -> dict[str, Any]:
        status = await read_model(self._connections, self._name, partitions, timeout_s=self._timeout_s)
        now_s = status.now_ms / 1000
        self._limits["interactive"].set_rate(status.images_per_s)
        self._limits["bulk"].set_rate(status.bulk_images_per_s)
        completed_per_s = self._completed.note(now_s, status.counters.get("completed", 0))
        self._images = {member.name: self._images.get(member.name, _per_consumer()) for member in status.members}
        return {
            "model": status.model,
            "now_ms": status.now_ms,
            "images_per_s": completed_per_s,
            # The consumers measured it a moment ago, and can do at least what they do.
            "capacity_per_s": max(status.images_per_s, completed_per_s or 0.0) if status.living else 0.0,
            "backlog": status.backlog,
            "classes": {
                priority: {"backlog": one.backlog, "limit": self._limits[priority].limit, "oldest_s": one.oldest_s}
                for priority, one in status.classes.items()
            },
            "pending": status.pending,
            "oldest_s": status.oldest_s,
            "drain_s": status.drain_s,
            "release": {"text": status.release.line(), **status.release.document()} if status.release else None,
            "problems": status.problems(max_age_s=self._max_age_s),
            "consumers": [self._consumer(member, now_s) for member in status.members],
            **asdict(status.sending),
            "dead_letters": status.dead_letters,
            "newest_dead_letters": [_describe(dead) for dead in await self._newest(status)],
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
            "passed_over": report.passed_over if report and member.alive else "",
            "state": report.state if report and member.alive else "dead",
            "images_per_s": images_per_s if member.alive else 0.0,
            "capacity_per_s": max(report.images_per_s, images_per_s or 0.0) if report else None,
            "images": report.images if report else None,
            "last_batch": report.last_batch if report else None,
            "reclaimed": report.reclaimed if report else None,
            "held": member.held,
            "silent_s": member.silent_s,
        }

    async def _newest(self, status: Status) -> list[DeadLetter]:
        # To list dead letters, Redis has to read the pixels of each. So they are read only when something has changed.
        counted = {event: count for event, count in status.counters.items() if event not in _COMMON_EVENTS}
        state = (status.dead_letters, counted, status.unavailable)
        if state != self._dead_letters[0]:
            available = (number for number, backlog in enumerate(status.backlogs) if backlog is not None)
            partitions = [Partition(self._name, number) for number in available]
            newest = await AllDeadLetters(self._connections, partitions).all() if status.dead_letters else []
            self._dead_letters = (state, newest[-_MAX_DEAD_LETTERS:])
        return self._dead_letters[1]


def _per_consumer() -> RateEstimator:
    return RateEstimator(window_s=_CONSUMER_WINDOW_S)


def _describe(dead: DeadLetter) -> dict[str, Any]:
    # Without the request's id, because that is all it takes to fetch the result.
    return {
        "id": dead.id,
        "failed_ms": added_ms(dead.id),
        "reason": dead.reason,
        "deliveries": dead.deliveries,
        "holders": dead.holders,
        "replayable": dead.is_replayable,
    }
