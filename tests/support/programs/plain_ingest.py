"""An ingest on uvicorn's own event loop and protocol, without what ingest/serving adds."""

import sys

from ingest.server import listen, serve
from stream.cli import from_command_line
from stream.host.logs import configure
from stream.settings import IngestSettings

if __name__ == "__main__":
    settings = from_command_line(IngestSettings, "plain_ingest", sys.argv[1:])
    configure(settings.log_level, settings.log_format)
    serve(settings, listen(settings), plain=True)
