"""Connections that notify an observer when they are made and when they fail."""

from collections.abc import Iterable
from typing import Any, Protocol

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, RedisError, ResponseError


class ConnectionObserver(Protocol):
    """Is called about events of connections."""

    def connected(self) -> None:
        """A connection was made, the first one or a later one."""

    def failed(self, error: RedisError) -> None:
        """A connection could not be made, or a command on it ended with this error."""


def is_failure(error: RedisError) -> bool:
    """Whether an error counts as a failure: a script that must be loaded, or an ordinary refusal, does not."""
    return type(error) is not ResponseError and not isinstance(error, NoScriptError)


class NullObserver:
    """The observer of processes that have no metrics."""

    def connected(self) -> None:
        pass

    def failed(self, error: RedisError) -> None:
        pass


class ObservedConnection(AbstractConnection):
    """A mixin for redis-py's connections."""

    def __init__(self, *, observer: ConnectionObserver, **options: Any) -> None:  # noqa: ANN401 (redis-py's options)
        super().__init__(**options)
        self._observer = observer
        self._connecting = False

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """As redis-py's, which is where every connection is made."""
        if self.is_connected:
            return
        self._connecting = True
        try:
            await super().connect_check_health(check_health, retry_socket_connect)
        except RedisError as error:
            self._observer.failed(error)
            raise
        finally:
            self._connecting = False
        self._observer.connected()

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        """As redis-py's."""
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        try:
            await super().send_packed_command(command, check_health)
        except RedisError as error:
            self._notify(error)
            raise

    async def read_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 (any reply of Redis)
        """As redis-py's."""
        try:
            return await super().read_response(*args, **options)
        except RedisError as error:
            self._notify(error)
            raise

    def _notify(self, error: RedisError) -> None:
        # Connecting also sends and reads; its failure is reported once, as a whole.
        if not self._connecting:
            self._observer.failed(error)
