"""Makes the blocking reads of a consumer group, on a connection and in a thread of their own.

A full batch is 4.8 MB. redis-py receives and parses it in that thread, while the event loop goes on.
"""

import asyncio
import io
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, NamedTuple, Self

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.connection.client import ConnectionObserver, NullObserver, pack
from stream.connection.clients import connect_blocking
from stream.connection.resolver import REDIRECTS, Resolve, translate
from stream.connection.rights import with_command
from stream.keys import Partition
from stream.settings import RedisSettings

_PIXELS: Final = b"px"

Fields = dict[bytes, bytes]


class RawEntry(NamedTuple):
    """An entry as received. `value` has its pixels, in their row if they fit it; None: they are in `fields` or gone."""

    stream: bytes
    entry_id: bytes
    fields: dict[bytes, bytes]
    value: bytes | memoryview | None


class Reader:
    """Reads entries, one command at a time. Connects when it is first used, and again after an error."""

    def __init__(
        self, settings: RedisSettings, observer: ConnectionObserver | None = None, partition: Partition | None = None
    ) -> None:
        self._connection, self._resolve = connect_blocking(settings, partition)
        self._observer = observer or NullObserver()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._socket: socket.socket | None = None
        self._replies: io.BufferedReader | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def entries(
        self,
        words: Sequence[str | int],
        rows: Sequence[memoryview] = (),
        key_of: Callable[[str], str] | None = None,
    ) -> list[RawEntry]:
        """Send a group read and wait for its entries. Pixels with the size of a row are copied into the row.

        Pixels that are no field of their entry are fetched from the key that `key_of` names for a request.
        Raises RedisError. Cancelled, it closes the connection, so that the thread ends its wait.
        """
        if self._resolve and not self._socket:
            await self._aim(self._resolve)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._entries, words, rows, key_of)
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

    def _entries(
        self, words: Sequence[str | int], rows: Sequence[memoryview], key_of: Callable[[str], str] | None
    ) -> list[RawEntry]:
        try:
            found = list(_decode(self._exchange(words)))
            values = self._values([fields for *_, fields in found], rows, key_of) if key_of else {}
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

        return [_placed(*entry, values.get(at), rows[at : at + 1]) for at, entry in enumerate(found)]

    def _values(
        self, entries: Sequence[Fields], rows: Sequence[memoryview], key_of: Callable[[str], str]
    ) -> dict[int, bytes | memoryview]:
        """The pixels that are under keys of their own, by the number of the entry."""
        apart = [at for at, fields in enumerate(entries) if lacks_pixels(fields)]
        if not apart:
            return {}
        keys = [key_of(request_id_of(entries[at])) for at in apart]
        into = [rows[at] if at < len(rows) else None for at in apart]
        found = zip(apart, self._exchange(["MGET", *keys], lambda: self._read_values(into)), strict=True)
        return {at: value for at, value in found if value is not None}

    def _read_values(self, rows: Sequence[memoryview | None]) -> Any:  # noqa: ANN401 (a reply of redis-py)
        """The reply of MGET. A value with the size of its row is received there.

        redis-py would copy it three times: 33 us for 150 kB.
        """
        assert self._socket
        if self._replies is None or self._socket.recv(1, socket.MSG_PEEK) != b"*":
            return self._connection.read_response()  # Encrypted data, or an error.
        return receive_values(self._replies, rows)

    def _exchange(self, words: Sequence[str | int], read: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401 (a reply)
        if not self._socket:
            self._connect()
        try:
            command, *rest = words
            packed = pack(str(command), *rest, encode=self._connection.encoder.encode)
            self._connection.send_packed_command(packed, check_health=False)  # type: ignore[no-untyped-call]
            return read() if read else self._connection.read_response()
        except ResponseError as error:
            raise with_command(error, words) from None
        except TimeoutError as error:
            raise RedisTimeoutError("Redis did not answer in time") from error
        except OSError as error:
            raise RedisConnectionError(f"the connection was lost: {error}") from error

    def _connect(self) -> None:
        self._connection.connect()  # type: ignore[no-untyped-call]
        self._observer.connected()
        connected = self._connection._get_socket()  # noqa: SLF001 (redis-py's own mix-ins ask for it so)
        assert connected
        self._socket = connected
        self._replies = None if isinstance(connected, ssl.SSLSocket) else connected.makefile("rb")

    def _disconnect(self) -> None:
        self._socket = None
        if self._replies:
            self._replies.close()
            self._replies = None
        self._connection.disconnect()  # type: ignore[no-untyped-call]


def receive_values(replies: io.BufferedReader, rows: Sequence[memoryview | None]) -> list[bytes | memoryview | None]:
    """The values of an array of strings in RESP, each in its row if it has the size of one.

    Raises ConnectionError if the reply breaks off, or is none that MGET gives.
    """
    values: list[bytes | memoryview | None] = []
    if _number(replies, b"*") != len(rows):
        raise RedisConnectionError("the reply has another number of values")
    for row in rows:
        size = _number(replies, b"$")
        if size < 0:
            values.append(None)
            continue
        value = row if row is not None and len(row) == size else memoryview(bytearray(size))
        if replies.readinto(value) != size or replies.read(2) != b"\r\n":
            raise RedisConnectionError("the connection was closed")
        values.append(value)
    return values


def _number(replies: io.BufferedReader, kind: bytes) -> int:
    line = replies.readline(32)
    if line[:1] != kind or line[-2:] != b"\r\n":
        raise RedisConnectionError(f"the connection was closed, or the reply is not RESP: {line!r}")
    return int(line[1:-2])


def _decode(reply: Any) -> Iterator[tuple[bytes, bytes, Fields]]:  # noqa: ANN401 (a reply of redis-py)
    """The entries of a reply in RESP2, stream by stream: `[[name, [[id, [field, value, ...]], ...]], ...]`, or None."""
    for stream, entries in reply or ():
        for entry_id, flat in entries:
            yield stream, entry_id, fields_of(flat)


def fields_of(flat: list[bytes] | None) -> Fields:
    """The fields of an entry, from a reply with name, value, name, value... None: the entry was deleted."""
    return dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}


def lacks_pixels(fields: Fields) -> bool:
    """Whether the pixels of this entry are under a key of their own."""
    return bool(fields) and _PIXELS not in fields


def request_id_of(fields: Fields) -> str:
    """The id that names the key of the pixels; without meaning if the entry has none."""
    return fields.get(b"id", b"").decode(errors="replace")


def _placed(
    stream: bytes, entry_id: bytes, fields: Fields, value: bytes | memoryview | None, row: Sequence[memoryview]
) -> RawEntry:
    if value is not None and row and value is row[0]:
        return RawEntry(stream, entry_id, fields, value)
    pixels = fields.get(_PIXELS) if value is None else value
    if pixels is None or not row or len(pixels) != len(row[0]):
        return RawEntry(stream, entry_id, fields, value)
    row[0][:] = pixels
    fields.pop(_PIXELS, None)
    return RawEntry(stream, entry_id, fields, row[0])
