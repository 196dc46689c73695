"""Admission: an image becomes a stream entry, or is refused. Knows no HTTP and no consumer."""

from redis.asyncio import Redis

from stream.entry import Entry
from stream.keys import Partition
from stream.scripts import load


class Refused(Exception):
    """The stream did not take the entry.

    Refused
    ├── Full        it holds as many entries as it may
    └── Unattended  no consumer is alive to take it
    """

    def __init__(self, backlog: int) -> None:
        super().__init__(f"refused at a backlog of {backlog}")
        self.backlog = backlog


class Full(Refused):
    pass


class Unattended(Refused):
    pass


class Admission:
    """The entrance of one partition."""

    def __init__(self, redis: Redis, partition: Partition, *, result_ttl_s: float) -> None:
        self._partition = partition
        self._result_ttl_s = result_ttl_s
        self._script = load(redis, "stream", "admit")

    async def admit(self, entry: Entry, *, timeout_s: float, max_backlog: int, unattended: bool = False) -> int:
        """Append the entry, due in `timeout_s` by Redis's clock; returns the backlog, this entry included.

        It is refused where `max_backlog` entries are in the stream, whichever ingest admitted them, and where nobody is
        alive unless it may wait `unattended`.

        Admitting the same request id again changes nothing. Raises Full or Unattended, or redis-py's errors;
        after a lost answer it is not known whether the entry is in the stream.
        """
        keys = [self._partition.entries, self._partition.request(entry.id), self._partition.alive]
        ttl_ms = int((self._result_ttl_s + timeout_s) * 1000)
        arguments = [max_backlog, ttl_ms, int(timeout_s * 1000), int(unattended), *entry.fields()]
        verdict, backlog = await self._script(keys, arguments)
        match verdict:
            case b"full":
                raise Full(backlog)
            case b"unattended":
                raise Unattended(backlog)
            case _:
                assert verdict in {b"admitted", b"known"}, verdict
                return int(backlog)
