"""`python -m tests.support.programs.failing_registry`: an ingest whose catalog fails in a way that nobody foresaw."""

import sys

from ingest.__main__ import main
from ingest.dispatch.registry import Catalog


async def _fail(self: Catalog) -> None:
    raise RuntimeError("nobody foresaw this")


if __name__ == "__main__":
    Catalog._refresh = _fail  # type: ignore[method-assign]
    sys.exit(main())
