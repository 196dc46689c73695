"""An observer of connections that keeps what it is notified of."""

from redis.exceptions import RedisError


class RecordingObserver:
    """Each connection as `connected`, each failure by its error's name, in their order."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def connected(self) -> None:
        self.events.append("connected")

    def failed(self, error: RedisError) -> None:
        self.events.append(type(error).__name__)
