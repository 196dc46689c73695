"""`GET /metrics`: the metrics of this ingest, and the present state of each model's consumer group.

ingest/metrics.py declares them.
"""

import asyncio
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from ingest.metrics import REGISTRY, GroupCollector
from ingest.openapi.operation import DocumentedResponse, Operation
from stream.connection.clients import Connections
from stream.presence import CachedPartitionCounts
from stream.status.reader import read_model
from stream.status.report import Status

METRICS: Final = Operation("Read the metrics", {200: DocumentedResponse("For Prometheus.", media_type="text/plain")})


class MetricsEndpoint:
    """The endpoint. `write` brings the values of this worker up to date.

    `folder` holds the values of all workers if there are several. Those of the others may be a quarter of a second old.
    """

    def __init__(
        self, connections: Connections, write: Callable[[], None], *, timeout_s: float, folder: Path | None = None
    ) -> None:
        self._connections = connections
        self._write = write
        self._timeout_s = timeout_s
        self._counts = CachedPartitionCounts(connections.shared, timeout_s=timeout_s)
        self._folder = folder

    async def __call__(self, _request: Request) -> Response:
        self._write()
        whole = CollectorRegistry()
        whole.register(self._own())
        whole.register(GroupCollector(await self._read_groups()))
        return Response(generate_latest(whole), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    def _own(self) -> Collector:
        if self._folder is None:
            return REGISTRY
        _remove_dead_workers(self._folder)
        return MultiProcessCollector(None, str(self._folder))  # type: ignore[no-untyped-call]

    async def _read_groups(self) -> list[Status] | None:
        """The status of each model's group; None if Redis does not answer in time."""
        try:
            counts = await self._counts.counts()
            return await asyncio.gather(*(self._read(name, count) for name, count in counts.items()))
        except (RedisError, TimeoutError):
            return None

    async def _read(self, model: str, partitions: int) -> Status:
        return await read_model(self._connections, model, partitions, timeout_s=self._timeout_s)


def _remove_dead_workers(folder: Path) -> None:
    """Drop the gauges of workers that were killed. Their counters stay."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = int(re.sub(r"\D", "", path.stem))
        with suppress(FileNotFoundError):  # another worker does the same
            if not _runs(pid):
                mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
