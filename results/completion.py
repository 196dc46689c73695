"""Completes a batch of entries: removes them from the group, stores and announces their outcomes, in one round trip."""

from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from results.outcome import Failed, Outcome, encode
from stream.keys import GROUP, Partition
from stream.scripts import load

#: Entries kept for one ingest process, about, each with a batch's outcomes. Ten times what its reader takes at once; an
#: outcome that was dropped here is still found under its request's id.
_LONGEST_REPLY_STREAM = 10_000


@dataclass(frozen=True, slots=True)
class Completed:
    """One entry's end. `reply` names the ingest that waits, or is empty; `dead_letter_reason` is the reason why the
    entry becomes a dead letter, or empty."""

    entry_id: str
    outcome: Outcome
    reply: str
    dead_letter_reason: str = ""
    deliveries: int = 1


class Completion:
    """Completes the entries of one partition."""

    def __init__(
        self, redis: Redis, partition: Partition, *, consumer: str, result_ttl_s: float, max_dead_letters: int
    ) -> None:
        self._partition = partition
        self._arguments: list[bytes | str | int] = [
            GROUP,
            int(result_ttl_s * 1000),
            max_dead_letters,
            _LONGEST_REPLY_STREAM,
            partition.replies(""),
            consumer,
        ]
        self._script = load(redis, "results", "complete")

    async def complete(self, batch: Sequence[Completed]) -> list[bool]:
        """Complete each entry; False if another consumer had done so before, and then nothing changed."""
        of = self._partition
        keys = [of.entries, of.holders, of.dead_letters, of.counters]
        arguments: list[bytes | str | int] = [*self._arguments, len(batch)]
        special: list[str | int] = []
        for number, one in enumerate(batch, 1):
            keys += (of.request(one.outcome.id), of.replies(one.reply))
            arguments += (one.entry_id, encode(one.outcome))
            failure = one.outcome.reason if isinstance(one.outcome, Failed) else ""
            if failure or one.dead_letter_reason:
                special += (number, failure, one.dead_letter_reason, one.deliveries)
        arguments += special
        return [bool(mine) for mine in await self._script(keys, arguments)]
