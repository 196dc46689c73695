"""A real HTTP server on a loopback port that answers as a test tells it to: the client's counterpart in trouble."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.recorded_server import in_thread


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. Status 0: the connection is closed without any; `hangs_up`: it is closed after this answer."""

    status: int
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    hangs_up: bool = False


@dataclass(slots=True)
class Script:
    """What it answers, by the body that was sent, and what it got: path, headers, body."""

    reply: Callable[[bytes], Reply]
    url: str = ""
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def serve(reply: Callable[[bytes], Reply]) -> Iterator[Script]:
    """The server, in threads of its own, until the block ends."""
    script = Script(reply)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.got.append((self.path, dict(self.headers), body))
            answer = script.reply(body)
            self.close_connection = answer.hangs_up or not answer.status
            if answer.status:
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

        do_GET = do_POST  # noqa: N815 (the name that http.server calls)

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        script.url = f"http://127.0.0.1:{server.server_port}"
        with in_thread(server):
            yield script
