"""Health of one consumer, and where orchestrators ask for it. Knows no Redis and no inference.

`/healthz` says whether starting it anew could help, `/readyz` whether it takes work: a consumer that has lost Redis
is alive and not ready.
"""

import time
from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from stream.presence import HEARTBEAT_HOLDS

#: Leases without one turn of the keeper after which it hangs. A turn takes a quarter of one and, where Redis is away,
#: three times its time-out, which is at most three quarters of one, each perhaps tried twice.
_STUCK_LEASES = 6


class Health:
    """What the keeper says of itself."""

    def __init__(self, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease_s = lease_s
        self._clock = clock
        self._turned_s: float | None = None
        self._beaten_s: float | None = None

    def turned(self) -> None:
        """The keeper has come round, with or without Redis."""
        self._turned_s = self._clock()

    def beaten(self) -> None:
        """Redis has taken a heartbeat."""
        self._beaten_s = self._clock()

    @property
    def alive(self) -> bool:
        """Whether the keeper comes round. Before it joins it can't: it may wait for Redis for ever."""
        return self._turned_s is None or self._clock() - self._turned_s < _STUCK_LEASES * self._lease_s

    @property
    def ready(self) -> bool:
        """Whether ingest counts on this consumer: its heartbeat holds."""
        return self._beaten_s is not None and self._clock() - self._beaten_s < HEARTBEAT_HOLDS * self._lease_s


def answering(health: Health, otherwise: WSGIApplication) -> WSGIApplication:
    """`/healthz` and `/readyz` answer 200 or 503; any other path is for the other application."""
    asked = {"/healthz": lambda: health.alive, "/readyz": lambda: health.ready}

    def application(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        ask = asked.get(environment["PATH_INFO"])
        if ask is None:
            return otherwise(environment, start)
        status = "200 OK" if ask() else "503 Service Unavailable"
        start(status, [("Content-Type", "text/plain")])
        return [f"{status}\n".encode()]

    return application
