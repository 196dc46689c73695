"""Admission: an image becomes a stream entry, or is refused. Knows no HTTP and no consumer."""

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from stream.entry import Entry
from stream.keys import Partition
from stream.scripts import load


class AdmissionRefused(Exception):
    """The stream did not take the entry.

    AdmissionRefused
    ├── QueueFull          it holds as many entries as it may
    ├── NoLiveConsumer    no consumer is alive to take it
    └── NotReplicated  it took it, but too few replicas have it: it is answered, or lost with its primary
    """

    def __init__(self, backlog: int) -> None:
        super().__init__(f"refused at a backlog of {backlog}")
        self.backlog = backlog


class QueueFull(AdmissionRefused):
    pass


class NoLiveConsumer(AdmissionRefused):
    pass


class NotReplicated(AdmissionRefused):
    pass


class Admission:
    """Admission to one partition. An entry counts as admitted when that many replicas have it within `wait_s`."""

    def __init__(
        self, redis: Redis, partition: Partition, *, result_ttl_s: float, replicas: int = 0, wait_s: float = 0.0
    ) -> None:
        self._redis = redis
        self._partition = partition
        self._replicas = replicas
        self._wait_ms = max(1, int(wait_s * 1000))
        self._result_ttl_s = result_ttl_s
        self._script = load(redis, "stream.scripts", "admit")

    async def admit(self, entry: Entry, *, timeout_s: float, max_backlog: int, without_consumers: bool = False) -> int:
        """Append the entry, due in `timeout_s` by Redis's clock; returns the backlog, this entry included.

        It is refused where `max_backlog` entries are in the stream, whichever ingest admitted them, and where nobody is
        alive unless it may wait `without_consumers`.

        Admitting the same request id again changes nothing. Raises one of AdmissionRefused's, or redis-py's errors;
        after a lost answer it is not known whether the entry is in the stream.
        """
        keys = [self._partition.entries, self._partition.request(entry.id), self._partition.alive]
        ttl_ms = int((self._result_ttl_s + timeout_s) * 1000)
        arguments: list[Any] = [max_backlog, ttl_ms, int(timeout_s * 1000), int(without_consumers)]
        arguments += [int(self._replicas > 0), *entry.fields()]
        (verdict, backlog), replicas = await self._decide(keys, arguments)
        match verdict:
            case b"full":
                raise QueueFull(backlog)
            case b"no_consumer":
                raise NoLiveConsumer(backlog)
            case _:
                assert verdict in {b"admitted", b"known"}, verdict
                if replicas < self._replicas:
                    raise NotReplicated(backlog)
                return int(backlog)

    async def _decide(self, keys: list[str], arguments: list[Any]) -> tuple[list[Any], int]:
        """The script's reply, and how many replicas have what it wrote, where any are asked for."""
        if not self._replicas:
            return await self._script(keys, arguments), 0
        try:
            return await self._decide_and_wait(keys, arguments)
        except NoScriptError:
            await self._redis.script_load(self._script.script)
            return await self._decide_and_wait(keys, arguments)

    async def _decide_and_wait(self, keys: list[str], arguments: list[Any]) -> tuple[list[Any], int]:
        # In one pipeline, since WAIT is about what its own connection wrote.
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.evalsha(self._script.sha, len(keys), *keys, *arguments)
            pipe.wait(self._replicas, self._wait_ms)
            decided, replicas = await pipe.execute()
            return decided, replicas
