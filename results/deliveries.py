"""Outcomes that wait for their delivery by webhook: read, claim, finish; list, replay and drop those given up.

An outcome enters the stream `webhooks` in the step that completes its entry (complete.lua):

    field      value
    ---------  ----------------------------------------------------
    entry      the name of the entry that it is the outcome of
    webhook    where to, see results/webhook.py
    outcome    see results/outcome.py

Those given up are in the stream `dead_webhooks`, with `reason` and `attempts` before these fields.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from redis.asyncio import Redis

from results.outcome import Outcome, decode
from results.webhook import Webhook
from stream import unreadable
from stream.connection.clients import BLOCK_S
from stream.group import create_group
from stream.keys import SENDERS, Partition, added_ms
from stream.scripts import load

#: Seconds after which a webhook whose receiver was busy is looked at again.
_BUSY_S: Final = 1.0

#: The share of a delay by which it may end early, at random, so that many that failed together do not return together.
_JITTER: Final = 0.25

#: Dead webhooks read at once.
_PAGE: Final = 100

_ENTRY: Final = re.compile(r"[a-z0-9:-]{1,80}")
_MILLISECONDS: Final = re.compile(r"[0-9]{1,14}")

Ending = Literal["webhook_delivered", "webhook_busy", "webhook_failed", "webhook_dead"]


@dataclass(frozen=True, slots=True)
class Pending:
    """One webhook in this sender's hands, for its `attempt`-th attempt (from 1).

    `is_spent`: the sender of that attempt died, and no other one is left. Its properties raise ValueError if what they
    read was damaged.
    """

    id: str
    fields: Mapping[bytes, bytes]
    attempt: int
    is_spent: bool = False

    @property
    def webhook(self) -> Webhook:
        return Webhook.decode(self._text(b"webhook"))

    @property
    def outcome(self) -> Outcome:
        return decode(self.fields.get(b"outcome", b""))

    @property
    def completed_ms(self) -> int:
        """When the request was completed, Unix milliseconds by Redis's clock."""
        kept = self._text(b"completed")  # by a dead webhook, since its replay has an id of its own
        if kept and not _MILLISECONDS.fullmatch(kept):
            raise ValueError(f"{kept[:40]!r} is no time")
        return int(kept) if kept else added_ms(self.id)

    @property
    def webhook_id(self) -> str:
        """The same for every attempt, also after a replay. No two outcomes share it. A full stop would be ambiguous."""
        entry = self._text(b"entry")
        if not _ENTRY.fullmatch(entry):
            raise ValueError(f"{entry[:40]!r} is no name of an entry")
        return f"msg_{self.webhook.id}_{entry}".replace(".", "_").replace(":", "_")

    def _text(self, name: bytes) -> str:
        return self.fields.get(name, b"").decode("ascii", errors="replace")


@dataclass(frozen=True, slots=True)
class DeadWebhook:
    """A delivery that was given up. `url` and `request_id` are empty if they cannot be read."""

    id: str
    partition: int
    reason: str
    attempts: int
    url: str
    request_id: str


class Deliveries:
    """The webhooks of one partition, for one sender.

    `reader` makes the blocking reads. `delays_s` are the seconds before the second attempt, the third and so on; a
    webhook is dead after one attempt more than there are delays. No attempt may take `lease_s`.
    """

    def __init__(
        self,
        redis: Redis,
        reader: Redis,
        partition: Partition,
        *,
        sender: str,
        lease_s: float,
        delays_s: Sequence[float],
        max_dead_letters: int,
    ) -> None:
        self._redis = redis
        self._reader = reader
        self._partition = partition
        self._sender = sender
        self._delays_s = (_BUSY_S, *delays_s)
        self._claiming: list[str | int] = [int(lease_s * 1000)]
        self._max_dead_letters = max_dead_letters
        self._claim = load(redis, "results.scripts", "claim_webhooks")
        self._finish = load(redis, "results.scripts", "finish_webhook")
        self._leave = load(redis, "results.scripts", "leave_webhooks")

    @property
    def _max_attempts(self) -> int:
        return len(self._delays_s)

    async def create(self) -> None:
        """Make the group, from the stream's beginning, unless it exists."""
        await create_group(self._redis, self._partition.webhooks, SENDERS)

    async def read(self, count: int) -> list[Pending]:
        """Up to `count` new webhooks; may wait up to `BLOCK_S` for the first."""
        streams: Any = {self._partition.webhooks: ">"}
        reply: Any = await self._reader.xreadgroup(
            SENDERS, self._sender, streams, count=count, block=int(BLOCK_S * 1000)
        )
        return [Pending(entry_id.decode(), fields or {}, 1) for _, found in reply or () for entry_id, fields in found]

    async def claim(self, count: int) -> list[Pending]:
        """Up to `count` webhooks that are due for another attempt, or whose sender died.

        One that waits is tried, even if `delays_s` allows no further attempt since its last one.
        """
        delays_ms = [int(delay_s * 1000) for delay_s in self._delays_s]
        arguments = [SENDERS, self._sender, *self._claiming, count, *delays_ms]
        reply: Any = await self._claim([self._partition.webhooks], arguments)
        found = []
        for entry_id, flat, attempt, sender_died in reply:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            is_spent = bool(sender_died) and attempt > self._max_attempts
            found.append(Pending(entry_id.decode(), fields, attempt - is_spent, is_spent))
        return found

    async def leave(self) -> None:
        """The sender stops, and no longer counts as alive."""
        await self._leave([self._partition.webhooks], [SENDERS, self._sender])

    async def delivered(self, pending: Pending) -> bool:
        """The receiver has it; False if another sender had finished it."""
        return await self._end(pending, "webhook_delivered")

    async def put_off(self, pending: Pending) -> None:
        """The receiver is busy: look again in a second. No attempt is counted."""
        await self._end(pending, "webhook_busy", attempt=pending.attempt)

    async def failed(self, pending: Pending, why: str, *, for_good: bool = False) -> Ending:
        """The attempt failed: it waits for the next one, or is dead if none is left or it failed for good."""
        if for_good or pending.attempt >= self._max_attempts:
            await self._end(pending, "webhook_dead", attempt=pending.attempt, why=why)
            return "webhook_dead"
        await self._end(pending, "webhook_failed", waits_with=pending.attempt, attempt=pending.attempt + 1, why=why)
        return "webhook_failed"

    async def _end(
        self, pending: Pending, ending: Ending, *, waits_with: int = 0, attempt: int = 0, why: str = ""
    ) -> bool:
        of = self._partition
        idle_ms = int(1000 * self._delays_s[waits_with] * random.uniform(0, _JITTER))  # noqa: S311 (no secret)
        arguments: list[str | int] = [SENDERS, self._sender, pending.id, ending, waits_with, attempt, idle_ms]
        arguments += [self._max_dead_letters, why]
        return bool(await self._finish([of.webhooks, of.dead_webhooks, of.counters], arguments))


class DeadWebhooks:
    """The dead webhooks of one partition."""

    def __init__(self, redis: Redis, partition: Partition) -> None:
        self._redis = redis
        self._partition = partition
        self._replay = load(redis, "results.scripts", "replay_webhook")

    async def all(self) -> list[DeadWebhook]:
        """All dead webhooks, the oldest first."""
        found: list[DeadWebhook] = []
        first = "-"
        while page := await self._page(first):
            found += [self._decode(entry_id.decode(), fields) for entry_id, fields in page]
            first = f"({page[-1][0].decode()}"
        return found

    async def _page(self, first: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        found: Any = await self._redis.xrange(self._partition.dead_webhooks, first, "+", _PAGE)
        return list(found)

    def _decode(self, dead_id: str, fields: Mapping[bytes, bytes]) -> DeadWebhook:
        url = request_id = ""
        try:
            webhook = Pending(dead_id, fields, 0).webhook
            url, request_id = webhook.url, webhook.id
        except ValueError as error:
            unreadable.skip("webhook", self._partition.dead_webhooks, error)
        attempts = fields.get(b"attempts", b"")
        return DeadWebhook(
            id=dead_id,
            partition=self._partition.number,
            reason=fields.get(b"reason", b"").decode(errors="backslashreplace"),
            attempts=int(attempts) if attempts.isdigit() and len(attempts) < 10 else 0,
            url=url,
            request_id=request_id,
        )

    async def replay(self, dead: DeadWebhook) -> bool:
        """Deliver it again, from the first attempt on; False if it is gone. Raises redis-py's errors."""
        of = self._partition
        return await self._replay([of.webhooks, of.dead_webhooks], [dead.id]) is not None

    async def drop(self, dead: DeadWebhook) -> bool:
        """Delete it for good; False if it is gone already."""
        return bool(await self._redis.xdel(self._partition.dead_webhooks, dead.id))
