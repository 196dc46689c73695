"""A real HTTP server on loopback that records each connection, and answers a path as a test says."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True, slots=True)
class Post:
    """What was sent to a path."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Recorded:
    """Where it listens, who connected, the names that TLS clients asked for, and what they sent."""

    port: int = 0
    connections: list[Any] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    heads: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def body(data: bytes, kind: str = "image/png", *, status: int = 200, **headers: str) -> Answer:
    """An answer with this body and these headers; an underscore stands for a hyphen."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        given = {"Content-Type": kind, "Content-Length": str(len(data))}
        for name, value in (given | {name.replace("_", "-"): value for name, value in headers.items()}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def redirect(location: str, status: int = 302) -> Answer:
    return body(b"", status=status, Location=location)


@contextmanager
def serve(
    answers: Mapping[str, Answer], *, address: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Recorded]:
    """The server, in threads of its own, until the block ends. A path without an answer is a 404."""
    recorded = Recorded()
    missing = body(b"", status=404)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            recorded.heads.append((self.path, dict(self.headers)))
            with suppress(ConnectionError):
                answers.get(self.path.partition("?")[0], missing)(self)

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            data = self.rfile.read(length)
            if len(data) < length:
                self.close_connection = True  # The client died within its request, which is then none.
                return
            recorded.posts.append(Post(self.path, dict(self.headers), data))
            self.do_GET()

        def log_message(self, *_arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        daemon_threads = True

        def get_request(self) -> tuple[Any, Any]:
            connection, peer = super().get_request()
            recorded.connections.append(peer)
            return connection, peer

        def handle_error(self, _request: object, _client: object) -> None:
            pass  # The client broke off, as some tests want.

        def finish_request(self, request: Any, client_address: Any) -> None:
            if not tls:
                super().finish_request(request, client_address)
                return
            with (
                suppress(OSError),
                tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as wrapped,
            ):
                wrapped.do_handshake()
                super().finish_request(wrapped, client_address)

    if tls:
        tls.sni_callback = lambda _socket, name, _context: recorded.names.append(name)
    with Server((address, port), Handler) as server:
        recorded.port = server.server_port
        with in_thread(server):
            yield recorded


class Failing:
    """Answers with these statuses, one after the other, and then with 204."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = iter(statuses)

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        body(b"", status=next(self._statuses, 204))(handler)


def silent(handler: BaseHTTPRequestHandler) -> None:
    """Never answers, until the client goes."""
    handler.rfile.read(1)


@contextmanager
def in_thread(server: BaseServer) -> Iterator[None]:
    """The server answers within this block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
