"""`python -m ingest`: serve HTTP until SIGTERM. Reads the settings and binds the port."""

import errno
import sys

from ingest.auth.api_keys import BadKey
from ingest.auth.keyfile import keys_of
from ingest.auth.open_bind import why_not_open
from ingest.server import listen, serve
from stream.host.logs import configure, refuse
from stream.settings import Settings, from_command_line

_PROGRAM = "python -m ingest"


def main() -> int:
    settings = from_command_line(_PROGRAM, sys.argv[1:])
    configure(settings.log_level, settings.log_format)
    try:
        if refusal := why_not_open(settings):
            return refuse(_PROGRAM, refusal, settings.log_format)
        keys_of(settings)  # Read again by each worker; a fault is found here, where it can be told.
    except (BadKey, OSError) as error:
        return refuse(_PROGRAM, f"API keys: {error}", settings.log_format)
    try:
        listening = listen(settings)
    except OSError as error:
        return refuse(_PROGRAM, _why(error, settings), settings.log_format)
    serve(settings, listening)
    return 0


def _why(error: OSError, settings: Settings) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {settings.port} is in use, perhaps by another run; choose another with --port"
    return f"cannot listen on {settings.host}:{settings.port}: {error.strerror}"


if __name__ == "__main__":
    sys.exit(main())
