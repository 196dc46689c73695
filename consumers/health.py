"""Health of one consumer, and the endpoints where orchestrators ask for it.

`/healthz` answers whether a restart could help, `/readyz` whether the consumer takes work: a consumer that has lost
Redis is alive and not ready.
"""

import time
from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from stream.presence import HEARTBEAT_SHARE

#: Leases without a tick of the lease keeper after which it hangs. A tick comes every quarter of a lease. While Redis is
#: unavailable it takes three time-outs more, each at most three quarters of a lease, and each perhaps tried twice.
_STUCK_LEASES = 6


class Health:
    """When the lease keeper last ticked, and when it last sent a heartbeat."""

    def __init__(self, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease_s = lease_s
        self._clock = clock
        self._ticked_s: float | None = None
        self._heartbeat_s: float | None = None
        self._failed = False

    def ticked(self) -> None:
        """The lease keeper has gone through its loop once more, with or without Redis."""
        self._ticked_s = self._clock()

    def heartbeat_sent(self) -> None:
        """Redis has accepted a heartbeat."""
        self._heartbeat_s = self._clock()

    def failed(self) -> None:
        """The consumer cannot work any more, and is about to exit."""
        self._failed = True

    @property
    def alive(self) -> bool:
        """Whether the lease keeper ticks. Not before the consumer has joined: it may wait long for Redis."""
        return self._ticked_s is None or self._clock() - self._ticked_s < _STUCK_LEASES * self._lease_s

    @property
    def ready(self) -> bool:
        """Whether ingest counts on this consumer: its heartbeat has not expired."""
        if self._failed:
            return False
        return self._heartbeat_s is not None and self._clock() - self._heartbeat_s < HEARTBEAT_SHARE * self._lease_s


def health_app(health: Health, otherwise: WSGIApplication) -> WSGIApplication:
    """`/healthz` and `/readyz` answer 200 or 503; any other path goes to the other application."""
    checks = {"/healthz": lambda: health.alive, "/readyz": lambda: health.ready}

    def application(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        check = checks.get(environment["PATH_INFO"])
        if check is None:
            return otherwise(environment, start)
        status = "200 OK" if check() else "503 Service Unavailable"
        start(status, [("Content-Type", "text/plain")])
        return [f"{status}\n".encode()]

    return application
