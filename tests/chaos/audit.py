"""The audit: what Redis holds when all is over, whatever any process believes. Knows no process and no fault."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from results.outcome import DamagedOutcome, Done, Failed, Outcome, decode
from results.store import DAMAGED
from stream.keys import GROUP, Partition


@dataclass(slots=True)
class Audit:
    """What is left of a run.

    Every admitted request has a key; `outcomes` are those that ended, `open` those that did not, with the word that
    stands there. `replies` are all outcomes that any ingest received, in order, by request id.
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

    def note(self, request_id: str, value: Any) -> None:
        """What stands under the id of a request. A key that SCAN names twice changes nothing."""
        assert isinstance(value, bytes), f"{request_id} has expired: result_ttl_s is too short for this run"
        if value.startswith((b"queued", b"cancelled")):
            self.open[request_id] = value.decode()
        else:
            try:
                self.outcomes[request_id] = decode(value)
            except DamagedOutcome:
                # What its client hears.
                self.outcomes[request_id] = Failed(request_id, "damaged", DAMAGED)

    def note_reply(self, value: bytes) -> None:
        """An outcome in a reply stream. Its reader skips one that is damaged, and looks under the id."""
        with suppress(DamagedOutcome):
            outcome = decode(value)
            self.replies.setdefault(outcome.id, []).append(outcome)

    def reasons(self) -> Counter[str]:
        """How often each reason stands in a failed outcome."""
        return Counter(one.reason for one in self.outcomes.values() if isinstance(one, Failed))

    def done(self) -> Iterator[Done]:
        return (one for one in self.outcomes.values() if isinstance(one, Done))

    def replied_twice(self) -> list[str]:
        return [request_id for request_id, replied in self.replies.items() if len(replied) > 1]

    def changed(self) -> list[str]:
        """Requests whose stored outcome is another one than that in the reply.

        One that is known to be damaged counts as neither. One that is gone is no second one.
        """
        return [
            request_id
            for request_id, replied in self.replies.items()
            if (stored := self.outcomes.get(request_id)) is not None
            and not is_damaged(stored)
            and any(outcome != stored for outcome in replied)
        ]


def is_damaged(outcome: Outcome | None) -> bool:
    """Whether the image or its stored outcome was damaged, and Sluice says so."""
    return isinstance(outcome, Failed) and outcome.reason == "damaged"


async def outstanding(redis: Redis, partition: Partition) -> int:
    """Accepted images that have no outcome yet."""
    return sum([int(await redis.xlen(stream.key)) for stream in partition.streams()])


async def audit(redis: Redis, partition: Partition) -> Audit:
    """Read it all, through a connection that no fault touches."""
    found = Audit(in_stream=await outstanding(redis, partition))
    for stream in partition.streams():
        found.pending += int((await redis.xpending(stream.key, GROUP))["pending"])
    found.dead_letters = int(await redis.xlen(partition.dead_letters))
    counters: Any = await redis.hgetall(partition.counters)
    found.counters = {name.decode(): int(count) for name, count in counters.items()}
    prefix = partition.request("")
    async for name in redis.scan_iter(f"{_literal(prefix)}*", count=1000):
        found.note(name.decode().removeprefix(prefix), await redis.get(name))
    async for name in redis.scan_iter(f"{_literal(partition.replies(''))}*", count=1000):
        replies: Any = await redis.xrange(name)
        for value in (value for _, fields in replies for value in fields.values()):
            found.note_reply(value)
    return found


def _literal(text: str) -> str:
    """For a pattern of SCAN: only square brackets, stars and question marks mean something there."""
    assert not set(text) & set("[]*?\\")
    return text
