"""The HTTP server around the application: uvicorn, in one process or several that share the port."""

import functools
import signal
import socket

import uvicorn
from starlette.applications import Starlette
from uvicorn.supervisors import Multiprocess

from ingest.app import create_app
from stream.logs import configure
from stream.settings import Settings


def listen(settings: Settings) -> socket.socket:
    """The socket that all workers accept on; raises OSError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return socket.create_server((settings.host, settings.port), family=family, backlog=2048)


def serve(settings: Settings, listening: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, then answer what was accepted, within the grace."""
    config = uvicorn.Config(
        functools.partial(_application, settings),
        factory=True,
        loop="uvloop",
        http="httptools",
        ws="none",
        workers=settings.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=int(settings.grace_s),
    )
    if settings.workers > 1:
        Multiprocess(config, sockets=[listening]).run()
        return
    # Uvicorn raises the signal that ended it once more when all is done; being told to stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listening])


def _application(settings: Settings) -> Starlette:
    # Called in each worker process, which starts without the logging of its parent.
    configure(settings.log_level)
    return create_app(settings)
