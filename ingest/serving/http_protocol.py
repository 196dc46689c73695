"""Uvicorn's HTTP/1.1 protocol with six corrections.

It also says in the scope when a whole body has arrived.

- Uvicorn with httptools accepts heads of any size, at any speed. Here a head has limits of size, number and time.
- A body in chunks may be followed by headers (trailers), and a chunk by extensions, both without end. httptools copies
  all it has of one for each read, and uvicorn adds trailers to the headers of the request. Here both have a limit of
  size and are ignored (RFC 9110, 6.5.1).
- If a request offers to upgrade its connection, the parser takes the body for the new protocol, and the body is lost.
  `curl --http2` and Java's HttpClient offer `Upgrade: h2c` with every request. A server may ignore the offer
  (RFC 9110, 7.8), and this one does.
- Uvicorn reads and keeps requests without limit that a client sends before it has the responses to earlier ones, and
  does not tell the running one when the client has gone. Here they wait in the connection.
- Uvicorn logs a warning for each malformed request, which lets any client fill the log. Here there is one a minute.
- When the process must stop, uvicorn closes connections between two requests at once. A request that is on its way
  then meets a reset, and its client cannot know whether it was accepted. Here it gets a response.
"""

import asyncio
import logging
import time
from collections.abc import Sized
from typing import Any, Final

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

logger = logging.getLogger(__name__)

#: Most bytes of a request's target and headers, and most headers. Browsers and proxies send one or two kilobytes. It is
#: also the limit for what comes within a body and is none of its contents.
_MAX_HEAD: Final = 64 * 1024
_MAX_HEADERS: Final = 128
#: Seconds until the head of a request must be there, once its first byte is.
_HEAD_S: Final = 10.0

#: Seconds for which a connection without a request stays open once the process must stop.
_LAST_REQUEST_S: Final = 0.3

#: Seconds between two warnings about malformed requests.
_WARN_EVERY_S: Final = 60.0

#: Key in a request's scope, which is there as soon as the whole body is.
BODY_ARRIVED: Final = "sluice.body_arrived"

_REASONS: Final = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large"}

#: These say where the body of a request ends.
_LENGTH_HEADERS: Final = (b"content-length", b"transfer-encoding")


class _Refused(Exception):
    """The request's head is too large. Raised to stop the parser."""


class _Warnings:
    """Counts malformed requests, and logs one line for all of a minute."""

    def __init__(self) -> None:
        self._count = 0
        self._next_s = 0.0

    def note(self, reason: str, client: tuple[str, int] | None) -> None:
        self._count += 1
        if time.monotonic() < self._next_s:
            return
        address = "{}:{}".format(*client) if client else "an unknown address"
        logger.warning("refused %d malformed requests, the last one from %s: %s", self._count, address, reason)
        self._count = 0
        self._next_s = time.monotonic() + _WARN_EVERY_S


_warnings = _Warnings()


class _Flow(FlowControl):
    """Reads no more of a connection while requests wait on it for the response to an earlier one.

    Uvicorn would read on as soon as the application waits for more of a body, or for the end of the connection.
    """

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class HttpProtocol(HttpToolsProtocol):
    """One HTTP/1.1 connection."""

    #: The request that the application works on. `cycle` is the newest, which may wait behind it.
    _running: RequestResponseCycle | None = None
    _in_head = False
    #: Bytes of the chunk that is parsed now, and of the head in the chunks after the one in which it began.
    _chunk_bytes = 0
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    #: Bytes that have arrived within a body since the last of its contents.
    _bytes_between = 0
    #: Whether the parser reads a head that was made here, whose request has begun already.
    _resuming = False
    #: Whether the next request is the last one of the connection.
    _stops = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn's."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)

    def data_received(self, data: bytes) -> None:
        """As uvicorn's."""
        self._unset_keepalive_if_required()
        continues = self._in_head
        self._chunk_bytes = len(data)
        self._bytes_between += len(data)
        try:
            self._parse(memoryview(data))
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(431 if isinstance(cause, _Refused) else 400, str(cause or error))
        if self._in_head:
            self._limit_head(len(data) if continues else _begun(data))
        elif self._is_in_body():
            if self._bytes_between > _MAX_HEAD:
                self._refuse(400, "too much follows a chunk")
            elif len(self.cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()  # The application has taken less than has arrived.

    def _is_in_body(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and cycle.more_body

    def _parse(self, data: memoryview) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :] if self._ignore_upgrade() else data[:0]

    def _limit_head(self, more: int) -> None:
        self._head_bytes += more
        if self._head_bytes > _MAX_HEAD:
            self._refuse(431, "the head is too large")
        elif self._head_timer is None and not self.pipeline:
            self._head_timer = self.loop.call_later(_HEAD_S, self._refuse, 408, "the head takes too long")

    def _refuse(self, status: int, reason: str) -> None:
        """Respond and close the connection."""
        self._end_head()
        if self.transport.is_closing():
            return
        _warnings.note(reason, self.client)
        text = f"{_REASONS[status]}: {reason}.\n".encode("ascii", "replace")
        head = f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: text/plain\r\ncontent-length: {len(text)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + text)
        self.transport.close()

    def _end_head(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's, which tells only the newest request that its client has gone."""
        self._end_head()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The process must stop: respond to the request that is there, or comes within a moment, and close."""
        self._stops = True
        if self._is_idle():
            self.loop.call_later(_LAST_REQUEST_S, self._close_if_idle)
        else:
            super().shutdown()

    def _close_if_idle(self) -> None:
        if self._is_idle() and not self._in_head:
            self.transport.close()

    def _is_idle(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401 (uvicorn's type)
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """A request has its response, perhaps before its whole body was read."""
        # Otherwise what was not read would stay until the next request, up to 256 KiB for each connection.
        if self.cycle.body and self.cycle.response_complete:
            self.cycle.body = bytearray()
        super().on_response_complete()

    def on_message_begin(self) -> None:
        """A request begins."""
        if not self._resuming:
            self._in_head = True
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request's target has arrived."""
        if not self._resuming:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has arrived, or a trailer."""
        if self._in_head and not self._resuming:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head of a request has arrived."""
        if self._resuming:
            return
        # Most heads come in one small chunk.
        if (
            self._head_bytes + self._chunk_bytes > _MAX_HEAD
            and len(self.url) + sum(map(_size, self.headers)) > _MAX_HEAD
        ):
            raise _Refused("the head is too large")
        if len(self.headers) > _MAX_HEADERS:
            raise _Refused("there are too many headers")
        self._end_head()
        self._bytes_between = 0
        super().on_headers_complete()
        if self._stops:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of a body has arrived."""
        self._bytes_between = 0
        cycle = self.cycle
        if not cycle.body and not cycle.response_complete:
            # Most bodies are this one part. Uvicorn would copy it into a buffer and out of it, and stop reading for it.
            cycle.body = body  # type: ignore[assignment]
            cycle.message_event.set()
            return
        if isinstance(cycle.body, bytes):
            cycle.body = bytearray(cycle.body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request has arrived, unless the parser took its body for another protocol."""
        if not self.parser.should_upgrade():
            self.cycle.scope[BODY_ARRIVED] = True  # type: ignore[typeddict-unknown-key]
            super().on_message_complete()

    def _ignore_upgrade(self) -> bool:
        """Make the parser continue after an offer to upgrade. Returns whether the rest is for this server."""
        is_connect = self.parser.get_method() == b"CONNECT"
        body = [] if is_connect else [(name, value) for name, value in self.headers if name in _LENGTH_HEADERS]
        if is_connect:
            self.cycle.keep_alive = False
        self.parser = httptools.HttpRequestParser(self)
        self._resuming = True
        try:
            self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(map(_line, body)) + b"\r\n")
        finally:
            self._resuming = False
        return not is_connect


def _begun(data: bytes) -> int:
    """How many bytes at the end of the data belong to a head that has begun in it."""
    end = data.rfind(b"\r\n\r\n")
    return len(data) - end - 4 if end >= 0 else len(data)


def _size(header: tuple[bytes, bytes]) -> int:
    return len(header[0]) + len(header[1])


def _line(header: tuple[bytes, bytes]) -> bytes:
    return header[0] + b": " + header[1] + b"\r\n"
