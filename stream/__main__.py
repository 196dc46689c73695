"""`python -m stream`: run the embedded server in the foreground, for users who have no Redis."""

import logging
import os
import sys

from stream.cli import from_command_line, refuse
from stream.embedded.server import FolderInUse, serve
from stream.host.logs import configure
from stream.host.private_folder import UnusableFolder
from stream.settings import RedisSettings
from stream.settings.variables import warn_of_unknown_variables


def main() -> int:
    settings = from_command_line(RedisSettings, "python -m stream", sys.argv[1:])
    configure(settings.log_level, settings.log_format)
    warn_of_unknown_variables(os.environ)
    if settings.redis_url:
        logging.getLogger("stream").warning("SLUICE_REDIS_URL is set: the embedded server will not be used")
    try:
        return serve(settings.data_dir, settings.durability)
    except (FolderInUse, UnusableFolder, OSError) as error:
        return refuse("python -m stream", error, settings.log_format)


if __name__ == "__main__":
    sys.exit(main())
