"""`python -m tests.support.programs.failing_registry`: an ingest whose model registry fails unexpectedly."""

import sys

from ingest.__main__ import main
from ingest.dispatch.registry import ModelRegistry


async def _fail(self: ModelRegistry) -> None:
    raise RuntimeError("nobody foresaw this")


if __name__ == "__main__":
    ModelRegistry._refresh = _fail  # type: ignore[method-assign]
    sys.exit(main())
