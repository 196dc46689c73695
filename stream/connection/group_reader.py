"""The reader: a group's blocking reads, on a connection and in a thread of their own. Knows no key.

A full batch is 4.8 MB. In its thread it is copied once, from the socket to where the model takes it, and nobody
waits for Python meanwhile; through an event loop's streams and a parser's buffers it would be copied six times.
"""

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BufferedReader
from typing import Self

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.connection.clients import connect_blocking
from stream.connection.observer import ConnectionObserver, NullObserver
from stream.connection.resolver import REDIRECTS, Resolve, translate
from stream.connection.resp import RawEntry, entries, socket_file
from stream.keys import Partition
from stream.settings import RedisSettings


class Reader:
    """Reads entries, one command at a time. Connects when it is first used, and again after an error."""

    def __init__(
        self, settings: RedisSettings, observer: ConnectionObserver | None = None, partition: Partition | None = None
    ) -> None:
        self._connection, self._resolve = connect_blocking(settings, partition)
        self._observer = observer or NullObserver()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._socket: socket.socket | None = None
        self._file: BufferedReader | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def entries(self, words: Sequence[str | int], rows: Sequence[memoryview] = ()) -> list[RawEntry]:
        """Send a group read and wait for its entries; pixels of a row's size lie in the rows then.

        Raises RedisError. Cancelled, it closes the connection: the thread must not wait for what nobody wants.
        """
        if self._resolve and not self._file:
            await self._aim(self._resolve)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._entries, words, rows)
        except asyncio.CancelledError:
            self._interrupt()
            raise

    async def _aim(self, resolve: Resolve) -> None:
        try:
            self._connection.host, self._connection.port = await resolve()  # type: ignore[attr-defined]
        except RedisError as error:
            self._observer.failed(error)
            raise

    async def aclose(self) -> None:
        """End the thread and close the connection."""
        self._interrupt()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    def _interrupt(self) -> None:
        if connected := self._socket:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    # What follows runs in the thread.

    def _entries(self, words: Sequence[str | int], rows: Sequence[memoryview]) -> list[RawEntry]:
        try:
            return self._exchange(words, rows)
        except REDIRECTS as error:
            translated = translate(error)
            if isinstance(translated, RedisConnectionError):
                self._disconnect()
            self._observer.failed(translated)
            raise translated from error
        except ResponseError as error:
            self._observer.failed(error)
            raise
        except RedisError as error:
            self._disconnect()
            self._observer.failed(error)
            raise

    def _exchange(self, words: Sequence[str | int], rows: Sequence[memoryview]) -> list[RawEntry]:
        file = self._file or self._connect()
        try:
            self._connection.send_command(*words)  # type: ignore[no-untyped-call]
            return entries(file, rows)
        except TimeoutError as error:
            raise RedisTimeoutError("Redis did not answer in time") from error
        except OSError as error:
            raise RedisConnectionError(f"the connection was lost: {error}") from error

    def _connect(self) -> BufferedReader:
        self._connection.connect()  # type: ignore[no-untyped-call]
        self._observer.connected()
        connected = self._connection._get_socket()  # noqa: SLF001 (redis-py's own mix-ins ask for it so)
        assert connected
        self._socket = connected
        self._file = socket_file(connected)
        return self._file

    def _disconnect(self) -> None:
        self._socket = None
        if self._file:
            self._file.close()
            self._file = None
        self._connection.disconnect()  # type: ignore[no-untyped-call]
