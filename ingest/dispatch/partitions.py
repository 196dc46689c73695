"""The partitions of one model, and which of them takes the next image."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final, TypeVar

from ingest.dispatch.partition_client import PartitionClient
from ingest.errors import NoConsumer, Overloaded, Problem, StreamUnavailable
from stream.connection.clients import Connections
from stream.keys import Partition, partition_of
from stream.settings import IngestSettings

T = TypeVar("T")

#: Problems of one partition that another may not have.
_TRY_NEXT: Final = (NoConsumer, Overloaded, StreamUnavailable)


class Partitions:
    """A client for each partition that this ingest sends to, and for those that other ingests use or used.

    An image goes to any of the first `partitions`. Unavailable partitions, and those without a consumer, are skipped.
    """

    def __init__(self, connections: Connections, settings: IngestSettings, model: str, *, ingest: str) -> None:
        self._connections = connections
        self._settings = settings
        self._model = model
        self._ingest = ingest
        self._all: list[PartitionClient] = []

    def __iter__(self) -> Iterator[PartitionClient]:
        return iter(self._all)

    @property
    def first(self) -> PartitionClient:
        """The partition of what is not spread: idempotency keys and cached predictions."""
        return self._all[0]

    def ensure(self, count: int) -> list[PartitionClient]:
        """Have at least this many partitions, and those of the settings. Returns the new ones."""
        numbers = range(len(self._all), max(count, self._settings.partitions))
        new = [
            PartitionClient(self._connections, self._settings, Partition(self._model, number), ingest=self._ingest)
            for number in numbers
        ]
        self._all += new
        return new

    async def refresh(self) -> None:
        """Refresh all at once; raises redis-py's error, or TimeoutError, if none can be reached."""
        errors = await asyncio.gather(*(partition.refresh() for partition in self._all))
        if all(errors) and errors[0]:
            raise errors[0]

    def of_request(self, request_id: str) -> PartitionClient | None:
        """The partition that a request was sent to; None if there is no such partition."""
        number = partition_of(request_id)
        return self._all[number] if number < len(self._all) else None

    def candidates(self) -> list[PartitionClient]:
        """The partitions that may take an image, in random order. If none may, one that says why."""
        sending = self._all[: self._settings.partitions]
        usable = [partition for partition in sending if self._usable(partition)]
        if len(usable) > 1:
            random.shuffle(usable)
        return usable or sending[:1]

    def _usable(self, partition: PartitionClient) -> bool:
        return not partition.unavailable_reason and bool(partition.consumers or self._settings.accept_without_consumers)

    @property
    def degraded(self) -> list[tuple[int, str]]:
        """Partitions that take no image at present, and why."""
        return [
            (partition.number, partition.unavailable_reason or "no consumer is alive")
            for partition in self._all[: self._settings.partitions]
            if not self._usable(partition)
        ]


async def first_to_take(partitions: Iterable[PartitionClient], take: Callable[[PartitionClient], Awaitable[T]]) -> T:
    """The result of the first partition that takes an image; raises the last one's problem if none does."""
    refusal: Problem | None = None
    for partition in partitions:
        try:
            return await take(partition)
        except _TRY_NEXT as problem:
            refusal = problem
    assert refusal
    raise refusal
