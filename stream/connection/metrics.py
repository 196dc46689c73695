"""The observer of processes that have metrics: counts connections to Redis and their failures. Knows no Redis."""

from prometheus_client import CollectorRegistry, Counter
from redis.exceptions import RedisError

from stream.connection.observer import is_failure


class ConnectionMetrics:
    """Declares the two counters in the registry of its process; one observer serves all connections of the process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._connections = Counter(
            "sluice_redis_connections_total", "Connections made to Redis; those beyond the first few are reconnects.",
            registry=registry,
        )  # fmt: skip
        self._errors = Counter(
            "sluice_redis_errors_total", "Commands and connections to Redis that failed, by the error's name.",
            ["error"], registry=registry,
        )  # fmt: skip

    def connected(self) -> None:
        self._connections.inc()

    def failed(self, error: RedisError) -> None:
        if is_failure(error):
            self._errors.labels(type(error).__name__).inc()
