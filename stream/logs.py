"""One shape for every log line of every process. Knows no event."""

import logging
import sys

_LINE = "%(asctime)s %(levelname)-7s %(name)s  %(message)s"


def configure(level: str) -> None:
    """Log to standard error, one line an event, from `level` on; uvicorn's loggers included."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_LINE))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
