"""Consumers of the interleavings, each with the hands it believes to be full, and the world they live in."""

import asyncio
import itertools
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.asyncio import Redis

from results.completion import Completion
from stream.connection.group_reader import Reader
from stream.group import Delivery, Group
from stream.keys import Partition
from tests.support.redis.partition_state import LEASE_S

T = TypeVar("T")

_numbers = itertools.count()


@dataclass
class World:
    """One server and one event loop for all interleavings."""

    runner: asyncio.Runner
    redis: Redis
    reader: Reader

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)


class Actor:
    """A consumer: its name in the group, and what it believes to hold, which others may have claimed since."""

    def __init__(self, world: World, partition: Partition) -> None:
        self.name = f"consumer-{next(_numbers)}"
        self.hands: dict[str, Delivery] = {}
        self.group = Group(world.redis, world.reader, partition, consumer=self.name, lease_s=LEASE_S)
        self.completion = Completion(
            world.redis, partition, consumer=self.name, result_ttl_s=600, max_dead_letters=10_000
        )

    def take(self, deliveries: list[Delivery]) -> None:
        self.hands.update((one.entry_id, one) for one in deliveries)
