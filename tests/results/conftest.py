"""The commands of `python -m results` on a server, and dead letters to use them on."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis

from results.__main__ import main
from stream.connection.group_reader import Reader
from stream.keys import Partition
from stream.model import ModelDescription, Resize
from stream.presence import Presence
from tests.results.test_dead_letters import Graveyard
from tests.support.redis.servers import Server


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Operator = Callable[..., Awaitable[Answer]]


@pytest.fixture
def operator(server: Server, capsys: pytest.CaptureFixture[str]) -> Operator:
    """Runs one command on the test's server, as `python -m results` would."""

    async def run(*words: str) -> Answer:
        capsys.readouterr()
        try:
            status = await asyncio.to_thread(main, [*words, "--redis-url", server.url])
        except SystemExit as ended:
            status = int(ended.code or 0)
        return Answer(status, *capsys.readouterr())

    return run


@pytest.fixture
async def graveyard(client: Redis, reader: Reader, partition: Partition) -> Graveyard:
    """A partition whose model is announced, with labels a, b, c, d."""
    await Presence(client, partition).announce(description(partition.model))
    graveyard = Graveyard(client, reader, partition)
    await graveyard.open()
    return graveyard


def description(name: str) -> ModelDescription:
    return ModelDescription(name, "1", "0" * 64, 1, 2, Resize(), ("a", "b", "c", "d"))
