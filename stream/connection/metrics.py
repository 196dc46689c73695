"""Metrics of a process about Redis: connections, failures, and values that could not be read."""

from prometheus_client import CollectorRegistry, Counter
from redis.exceptions import RedisError

from stream import unreadable
from stream.connection.client import is_failure


class ConnectionMetrics:
    """Declares the counters in the registry of its process; one object observes all connections of the process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._connections = Counter(
            "sluice_redis_connections_total", "Connections made to Redis; those beyond the first few are reconnects.",
            registry=registry,
        )  # fmt: skip
        self._errors = Counter(
            "sluice_redis_errors_total", "Commands and connections to Redis that failed, by the error's name.",
            ["error"], registry=registry,
        )  # fmt: skip
        self._unreadable = Counter(
            "sluice_redis_unreadable_values_total", "Values in Redis that could not be read and were skipped, by kind.",
            ["kind"], registry=registry,
        )  # fmt: skip
        unreadable.listeners.append(self.skipped)

    def connected(self) -> None:
        self._connections.inc()

    def failed(self, error: RedisError) -> None:
        if is_failure(error):
            self._errors.labels(type(error).__name__).inc()

    def skipped(self, kind: str) -> None:
        self._unreadable.labels(kind).inc()
