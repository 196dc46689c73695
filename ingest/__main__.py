"""`python -m ingest`: serve HTTP until SIGTERM. Reads the settings and binds the port."""

import errno
import sys

from ingest.server import listen, serve
from stream.logs import configure
from stream.settings import Settings, from_command_line


def main() -> int:
    settings = from_command_line("python -m ingest", sys.argv[1:])
    configure(settings.log_level)
    try:
        listening = listen(settings)
    except OSError as error:
        print(f"python -m ingest: {_why(error, settings)}", file=sys.stderr)
        return 2
    serve(settings, listening)
    return 0


def _why(error: OSError, settings: Settings) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {settings.port} is in use, perhaps by another run; choose another with --port"
    return f"cannot listen on {settings.host}:{settings.port}: {error.strerror}"


if __name__ == "__main__":
    sys.exit(main())
