"""`sluice forget MODEL`: forgets a model that is no longer served, so that nothing lists it any more."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from redis.asyncio import Redis

from stream import model_command as console
from stream.cli import FAILED, OK, complain
from stream.connection.clients import Connections
from stream.host.text import counted
from stream.keys import LOADS, RELEASES, Partition
from stream.presence import forget_model, raise_partition_count
from stream.scripts import load

PROGRAM: Final = "sluice forget"

_EPILOG: Final = """The model's files stay. A consumer of the model that starts later announces it again.
exit status: 0 done; 1 no such model; 2 refused, wrong usage, or Redis is unavailable."""


@dataclass(frozen=True, slots=True)
class Remains:
    """What is left of a model: consumers that are alive, images and webhooks that wait, and what was given up.

    A consumer is alive in each partition that it has joined.
    """

    living: frozenset[bytes] = frozenset()
    waiting: int = 0
    dead: int = 0

    def plus(self, other: "Remains") -> "Remains":
        return Remains(self.living | other.living, self.waiting + other.waiting, self.dead + other.dead)

    def refusal(self, *, dead_too: bool) -> str:
        """Why the model cannot be forgotten; empty if it can."""
        if self.living:
            count = len(self.living)
            return f"{counted(count, 'consumer')} alive: stop {'it' if count == 1 else 'them'} first"
        if self.waiting:
            waiting = counted(self.waiting, "image or webhook", "images or webhooks")
            return f"{waiting} waiting: start a consumer or sender first"
        if self.dead and not dead_too:
            dead = counted(self.dead, "dead letter or webhook", "dead letters or webhooks")
            return f"{dead} kept: add --dead-letters to delete them"
        return ""


class Model:
    """One model in Redis."""

    def __init__(self, connections: Connections, partitions: Sequence[Partition], *, dead_too: bool) -> None:
        self._connections = connections
        self._partitions = partitions
        self._dead_too = dead_too

    async def look(self) -> str:
        """Why it cannot be forgotten; empty if it can."""
        return (await self._each("look")).refusal(dead_too=self._dead_too)

    async def forget(self) -> str:
        """Forget it, or say why not: a consumer may have joined since the look.

        The name goes first. A consumer that joins after that finds its version gone, and announces both again.
        """
        shared, name = self._connections.shared, self._partitions[0].model
        await forget_model(shared, name)
        if refusal := (await self._each("forget")).refusal(dead_too=self._dead_too):
            await raise_partition_count(shared, name, len(self._partitions))
            return refusal
        await shared.hdel(RELEASES, name)
        await shared.hdel(LOADS, f"{name}:number", f"{name}:unloaded")
        return ""

    async def _each(self, what: Literal["look", "forget"]) -> Remains:
        found = Remains()
        for partition in self._partitions:
            redis: Redis = self._connections.client_for(partition)
            found = found.plus(await _in_partition(redis, partition, what, dead_too=self._dead_too))
        return found


async def _in_partition(redis: Redis, of: Partition, what: str, *, dead_too: bool) -> Remains:
    keys = [of.alive, of.dead_letters, of.dead_webhooks, of.webhooks, of.wanted_versions]
    keys += [of.consumers, of.versions, of.counters, of.holders, *(stream.key for stream in of.streams())]
    reply: Any = await load(redis, "stream.scripts", "forget")(keys, [what, int(dead_too)])
    living, waiting, dead = reply
    return Remains(frozenset(living), int(waiting), int(dead))


def main(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)

    async def work(connections: Connections) -> int:
        model = Model(connections, await console.choose(connections, given.model), dead_too=given.dead_letters)
        if refusal := await model.look() or await model.forget():
            return complain(PROGRAM, f"{given.model} has {refusal}", FAILED)
        done = json.dumps({"model": given.model, "action": "forgot"}) if given.json else f"forgot {given.model}"
        sys.stdout.write(f"{done}\n")
        return OK

    return console.run(PROGRAM, console.settings(PROGRAM, given), work)


def _parser() -> argparse.ArgumentParser:
    about = "Forget a model that is no longer served: its name, its counters, its release and its requests to load it."
    parser = argparse.ArgumentParser(
        PROGRAM,
        description=about,
        epilog=_EPILOG,
        parents=[console.options()],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="its name")
    parser.add_argument("--dead-letters", action="store_true", help="delete its dead letters and dead webhooks, too")
    return parser
