"""`python -m ingest`: serve HTTP until SIGTERM. Reads the settings and binds the port."""

import errno
import functools
import logging
import socket
import sys

import uvicorn
from uvicorn.supervisors import Multiprocess

from ingest.app import create_app
from stream.logs import configure
from stream.settings import Settings, from_command_line

logger = logging.getLogger("ingest")


def main() -> int:
    settings = from_command_line("python -m ingest", sys.argv[1:])
    configure(settings.log_level)
    try:
        listening = _listen(settings)
    except OSError as error:
        print(f"python -m ingest: {_why(error, settings)}", file=sys.stderr)
        return 2
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
    else:
        uvicorn.Server(config).run(sockets=[listening])
    return 0


def _application(settings: Settings) -> object:
    # Called in each worker process, which starts without the logging of its parent.
    configure(settings.log_level)
    return create_app(settings)


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return socket.create_server((settings.host, settings.port), family=family, backlog=2048)


def _why(error: OSError, settings: Settings) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {settings.port} is in use, perhaps by another run; choose another with --port"
    return f"cannot listen on {settings.host}:{settings.port}: {error.strerror}"


if __name__ == "__main__":
    sys.exit(main())
