"""The audit: what Redis holds when all is over, whatever any process believes. Knows no process and no fault."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from results.outcome import Done, Failed, Outcome, decode, is_lost_in_redis
from results.store import State, Store
from stream.keys import GROUP, Partition


@dataclass(slots=True)
class Audit:
    """What is left of a run.

    Every admitted request has a key; `outcomes` are those that ended, `open` those that did not, with what a client
    hears of them. `replies` are all outcomes that any ingest received, in order, by request id.
    """

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    open: dict[str, str] = field(default_factory=dict)
    replies: dict[str, list[Outcome]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    in_stream: int = 0
    pending: int = 0
    dead_letters: int = 0

    @property
    def accepted(self) -> int:
        return len(self.outcomes) + len(self.open)

    def note(self, request_id: str, state: State) -> None:
        """What a client hears of its request. A key that SCAN names twice changes nothing."""
        if isinstance(state, Done | Failed):
            self.outcomes[request_id] = state
        else:
            self.open[request_id] = state

    def note_reply(self, value: bytes) -> None:
        """An outcome in a reply stream. Its reader skips one that is damaged, and looks under the id."""
        with suppress(ValueError):
            outcome = decode(value)
            self.replies.setdefault(outcome.id, []).append(outcome)

    def waiting(self) -> list[str]:
        """Requests of which Sluice says that their images still wait."""
        return [request_id for request_id, state in self.open.items() if state == "queued"]

    def reasons(self) -> Counter[str]:
        """How often each reason stands in a failed outcome."""
        return Counter(one.reason for one in self.outcomes.values() if isinstance(one, Failed))

    def done(self) -> Iterator[Done]:
        return (one for one in self.outcomes.values() if isinstance(one, Done))

    def replied_twice(self) -> list[str]:
        return [request_id for request_id, replied in self.replies.items() if len(replied) > 1]

    def changed(self) -> list[str]:
        """Requests whose stored outcome is another one than that in the reply.

        One that Sluice calls damaged or lost is no second one, and neither is one that is gone.
        """
        return [
            request_id
            for request_id, replied in self.replies.items()
            if (stored := self.outcomes.get(request_id)) is not None
            and not is_lost_in_redis(stored)
            and any(outcome != stored for outcome in replied)
        ]


def is_damaged(outcome: Outcome | None) -> bool:
    """Whether the image or its stored outcome was damaged, and Sluice says so."""
    return isinstance(outcome, Failed) and outcome.reason == "damaged"


async def outstanding(redis: Redis, partition: Partition) -> int:
    """Accepted images that have no outcome yet."""
    return sum([int(await redis.xlen(stream.key)) for stream in partition.streams()])


async def audit(redis: Redis, partition: Partition) -> Audit:
    """Ask for all requests, as their clients may, and read the rest, through a connection that no fault touches."""
    found = Audit(in_stream=await outstanding(redis, partition))
    for stream in partition.streams():
        found.pending += int((await redis.xpending(stream.key, GROUP))["pending"])
    found.dead_letters = int(await redis.xlen(partition.dead_letters))
    prefix, store = partition.request(""), Store(redis, partition)
    async for name in redis.scan_iter(f"{_literal(prefix)}*", count=1000):
        request_id = name.decode().removeprefix(prefix)
        found.note(request_id, await store.state(request_id))
    counters: Any = await redis.hgetall(partition.counters)
    found.counters = {name.decode(): int(count) for name, count in counters.items()}
    async for name in redis.scan_iter(f"{_literal(partition.replies(''))}*", count=1000):
        replies: Any = await redis.xrange(name)
        for value in (value for _, fields in replies for value in fields.values()):
            found.note_reply(value)
    return found


def _literal(text: str) -> str:
    """For a pattern of SCAN: only square brackets, stars and question marks mean something there."""
    assert not set(text) & set("[]*?\\")
    return text
