"""A real server on a loopback port that reads uploads and says what it read: uvicorn, Starlette, and `PredictBody`."""

import asyncio
import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingest.api.predict_request import Options, PredictBody
from ingest.errors import MEDIA_TYPE, Problem
from ingest.images.decode import to_pixels
from ingest.request_body import Limits
from ingest.upload_memory import UploadMemory
from tests.support.images import model

LIMITS = Limits(max_bytes=200_000, max_images=4, body_timeout_s=0.5, memory=UploadMemory(10**9))


@dataclass(slots=True)
class UploadServer:
    """Where it listens, and what went on in it. `POST /` names the uploads, `POST /decode` decodes them as well."""

    url: str
    gone: threading.Event = field(default_factory=threading.Event)
    mistakes: list[Exception] = field(default_factory=list)

    def exchange(self, request: bytes) -> bytes:
        """Send these very bytes, and read until the server closes. uvicorn takes a half-closed client for gone."""
        with self.connect() as connection:
            with suppress(OSError):  # the server may answer before it has read everything, and close
                connection.sendall(request)
            return answer(connection)

    def connect(self) -> socket.socket:
        at = urlsplit(self.url)
        assert at.hostname
        assert at.port
        return socket.create_connection((at.hostname, at.port), timeout=20)


def answer(connection: socket.socket) -> bytes:
    """Everything that the server sends before it closes."""
    received = b""
    with suppress(ConnectionResetError):  # it closed without reading what else was sent
        while more := connection.recv(65_536):
            received += more
    return received


@contextmanager
def serve(limits: Limits = LIMITS) -> Iterator[UploadServer]:
    """The server, in a thread of its own, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = UploadServer(f"http://127.0.0.1:{listener.getsockname()[1]}")
        config = uvicorn.Config(
            _app(served, limits), log_level="critical", ws="none", lifespan="off", loop="uvloop", http="httptools"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield served
        finally:
            server.should_exit = True
            thread.join()


def _app(served: UploadServer, limits: Limits) -> Starlette:
    body = PredictBody(limits)

    async def names(request: Request) -> Response:
        uploads, _, _ = await body.read(request, Options())
        return JSONResponse([[one.filename, len(one.data), hashlib.sha256(one.data).hexdigest()] for one in uploads])

    async def decodes(request: Request) -> Response:
        uploads, _, _ = await body.read(request, Options())
        pixels = [await asyncio.to_thread(to_pixels, one.data, model(), 1_000_000) for one in uploads]
        return JSONResponse([len(each) for each in pixels])

    async def report(_request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return JSONResponse(error.document(), error.status, error.headers(), MEDIA_TYPE)

    async def left(_request: Request, _error: Exception) -> Response:
        served.gone.set()
        return Response(status_code=499)

    async def mistaken(_request: Request, error: Exception) -> Response:
        served.mistakes.append(error)
        return Response(status_code=500)

    return Starlette(
        routes=[Route("/", names, methods=["POST"]), Route("/decode", decodes, methods=["POST"])],
        exception_handlers={Problem: report, ClientDisconnect: left, Exception: mistaken},
    )
