"""`python -m ingest`: read the settings, bind the ports, and serve HTTP and gRPC until SIGTERM."""

import errno
import os
import sys

from ingest.auth.api_keys import BadKey, configured_keys, why_unreadable
from ingest.server import listen, serve
from ingest.start_checks import refuse_grpc, refuse_open_bind, refuse_urls
from stream.cli import from_command_line, refuse
from stream.host.logs import configure
from stream.settings import IngestSettings
from stream.settings.variables import warn_of_unknown_variables

_PROGRAM = "python -m ingest"


def main() -> int:
    settings = from_command_line(IngestSettings, _PROGRAM, sys.argv[1:])
    configure(settings.log_level, settings.log_format)
    warn_of_unknown_variables(os.environ)
    try:
        if refusal := refuse_open_bind(settings):
            return refuse(_PROGRAM, refusal, settings.log_format)
        configured_keys(settings)  # Each worker reads them again. A fault must show here, before the port is bound.
    except (BadKey, OSError) as error:
        return refuse(_PROGRAM, f"API keys: {why_unreadable(error)}", settings.log_format)
    if refusal := refuse_grpc(settings) or refuse_urls(settings):
        return refuse(_PROGRAM, refusal, settings.log_format)
    try:
        listening = listen(settings)
    except OSError as error:
        return refuse(_PROGRAM, _why(error, settings), settings.log_format)
    return serve(settings, listening)


def _why(error: OSError, settings: IngestSettings) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {settings.port} is in use, perhaps by another run; choose another one with --port"
    return f"cannot listen on {settings.host}:{settings.port}: {error.strerror}"


if __name__ == "__main__":
    sys.exit(main())
