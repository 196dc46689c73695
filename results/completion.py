"""Completes a batch of entries: removes them from the group, stores and announces their outcomes, in one round trip."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from results.outcome import Failed, Outcome, encode
from stream.keys import GROUP, Partition, split_name
from stream.scripts import load

#: Entries kept for one ingest process, about, each with a batch's outcomes. Ten times what its reader takes at once; an
#: outcome that was dropped here is still found under its request's id.
_LONGEST_REPLY_STREAM = 10_000


@dataclass(frozen=True, slots=True)
class Completed:
    """One entry's end; `entry_id` is the entry's name.

    `reply` names the ingest that waits, or is empty; `dead_letter_reason` is the reason why the entry becomes a dead
    letter, or empty. `webhook` is the entry's.
    """

    entry_id: str
    outcome: Outcome
    reply: str
    dead_letter_reason: str = ""
    deliveries: int = 1
    webhook: str = ""


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
        self._script = load(redis, "results.scripts", "complete")

    async def complete(self, batch: Sequence[Completed]) -> list[bool]:
        """Complete each entry; False if another consumer had done so before, and then nothing changed.

        One round trip for each stream that the entries are from.
        """
        parts: defaultdict[str, list[Completed]] = defaultdict(list)
        for one in batch:
            parts[split_name(one.entry_id)[0]].append(one)
        if len(parts) == 1:
            return await self._complete(batch)
        mine: dict[str, bool] = {}
        for part in parts.values():
            mine |= zip((one.entry_id for one in part), await self._complete(part), strict=True)
        return [mine[one.entry_id] for one in batch]

    async def _complete(self, batch: Sequence[Completed]) -> list[bool]:
        """Complete entries of one stream."""
        of = self._partition
        stream = of.stream_of(batch[0].entry_id)
        keys = [stream.key, of.holders, of.dead_letters, of.counters]
        arguments: list[bytes | str | int] = [*self._arguments, stream.prefix, len(batch)]
        special: list[str | int] = []
        for number, one in enumerate(batch, 1):
            keys += (of.request(one.outcome.id), of.replies(one.reply), of.pixels(one.outcome.id))
            arguments += (split_name(one.entry_id)[1], encode(one.outcome))
            failure = one.outcome.reason if isinstance(one.outcome, Failed) else ""
            if failure or one.dead_letter_reason or one.webhook:
                special += (number, failure, one.dead_letter_reason, one.deliveries, one.webhook)
        arguments += special
        if any(one.webhook for one in batch):
            keys.append(of.webhooks)
        return [bool(mine) for mine in await self._script(keys, arguments)]
