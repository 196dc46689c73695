"""Routes: the partitions of one model, and which of them takes the next image. Knows no image."""

import asyncio
import random
from collections.abc import Iterator

from ingest.dispatch.partition_client import Route
from stream.connection.clients import Connections
from stream.keys import Partition
from stream.request_id import partition_of
from stream.settings import IngestSettings


class Routes:
    """One for each partition that this ingest sends to, and for those that others do or did.

    An image goes to any of the first `partitions`; those that are away, or that nobody serves, are passed over.
    """

    def __init__(self, connections: Connections, settings: IngestSettings, model: str, *, ingest: str) -> None:
        self._connections = connections
        self._settings = settings
        self._model = model
        self._ingest = ingest
        self._all: list[Route] = []

    def __iter__(self) -> Iterator[Route]:
        return iter(self._all)

    @property
    def first(self) -> Route:
        """Where what is not spread has its place: idempotency keys and known answers."""
        return self._all[0]

    def grow(self, count: int) -> list[Route]:
        """Have at least so many routes, and those of the settings; returns the new ones."""
        numbers = range(len(self._all), max(count, self._settings.partitions))
        new = [
            Route(self._connections, self._settings, Partition(self._model, number), ingest=self._ingest)
            for number in numbers
        ]
        self._all += new
        return new

    async def refresh(self) -> None:
        """Look at all at once; raises redis-py's error, or TimeoutError, where none can be reached."""
        errors = await asyncio.gather(*(route.refresh() for route in self._all))
        if all(errors) and errors[0]:
            raise errors[0]

    def of(self, request_id: str) -> Route | None:
        """The route that a request was sent on, None where there is no such partition."""
        number = partition_of(request_id)
        return self._all[number] if number < len(self._all) else None

    def spread(self) -> list[Route]:
        """Those that may take an image, in random order; where none may, one that says why."""
        sending = self._all[: self._settings.partitions]
        usable = [route for route in sending if self._usable(route)]
        if len(usable) > 1:
            random.shuffle(usable)
        return usable or sending[:1]

    def _usable(self, route: Route) -> bool:
        return not route.away and bool(route.consumers or self._settings.accept_without_consumers)

    @property
    def degraded(self) -> list[tuple[int, str]]:
        """Partitions that take no image at present, and why."""
        return [
            (route.number, route.away or "no consumer is alive")
            for route in self._all[: self._settings.partitions]
            if not self._usable(route)
        ]
