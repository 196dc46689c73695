"""One kept-open connection to the service: a picture's bytes out, an answer in. Knows neither retries nor JSON.

http.client and threads, as measured against one service with photographs of 48 KB (time of the client's CPU per
picture at 16 connections): http.client 0.27 ms, urllib3 0.54, requests 0.94, httpx 1.1 in threads and 2.6 in asyncio.
"""

import http.client
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

#: Longer than the service's own deadline (30 s by default), so that its answer comes first.
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where the pictures go, taken apart; `shown` is for messages."""

    shown: str
    secure: bool
    host: str
    port: int | None
    path: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """What came back. `retry_after` and `location` are those headers, empty where there were none."""

    status: int
    body: bytes
    retry_after: str = ""
    location: str = ""


def target(url: str, *, model: str, top: int | None, api_key: str) -> Target:
    """Raises ValueError with the reason where a part cannot be used."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not a URL such as http://127.0.0.1:5000")
    if not re.fullmatch(r"[\x21-\x7e]*", api_key):
        raise ValueError("the API key has characters that no header can carry")
    headers = {"Content-Type": "application/octet-stream", "Accept": "application/json"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    path = parts.path.rstrip("/") + "/predict" + (f"/{quote(model, safe='')}" if model else "")
    query = f"?top={top}" if top else ""
    return Target(url, parts.scheme == "https", parts.hostname, parts.port, path + query, headers)


class HttpConnection:
    """Connects at the first picture, and again after every failure."""

    def __init__(self, to: Target, *, timeout_s: float = TIMEOUT_S) -> None:
        kind = http.client.HTTPSConnection if to.secure else http.client.HTTPConnection
        self._connection = kind(to.host, to.port, timeout=timeout_s)
        self._target = to

    def post(self, body: bytes) -> Response:
        """Raises OSError and http.client.HTTPException; both leave the line ready for the next try."""
        used_before = self._connection.sock is not None
        try:
            return self._exchange(body)
        except (http.client.RemoteDisconnected, ConnectionError):
            # A server closes what was idle for some seconds. That is no failure, and nothing was answered yet.
            if not used_before:
                raise
        return self._exchange(body)

    def _exchange(self, body: bytes) -> Response:
        try:
            # By itself, since a connection that breaks while it is made has no answer to be read.
            if self._connection.sock is None:
                self._connection.connect()
            # A service that refuses a picture by its size stops reading; then its answer is there already.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._connection.request("POST", self._target.path, body, self._target.headers)
            response = self._connection.getresponse()
            answer = Response(
                response.status,
                response.read(),
                response.getheader("Retry-After", ""),
                response.getheader("Location", ""),
            )
        except BaseException:
            self.close()
            raise
        return answer

    def abort(self) -> None:
        """From another thread: whoever waits for an answer is told at once that none comes."""
        sock: socket.socket | None = self._connection.sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.close()
