"""What consumers and ingest promise of a partition, whatever the order of their steps, and the steps' common parts."""

import itertools
import time
import uuid
from typing import ClassVar

from hypothesis.stateful import RuleBasedStateMachine, initialize

from results.completion import Completed
from results.outcome import Done, Failed, Outcome, encode
from results.store import Store
from stream.admission import Admission
from stream.entry import DamagedEntry, Entry
from stream.group import Delivery
from stream.keys import GROUP, Partition
from stream.presence import ConsumerReport, Presence
from tests.support.redis.consumers_under_test import Actor, World
from tests.support.redis.partition_state import INGESTS, LEASE_S, Image, take_image

_numbers = itertools.count()


class Promises(RuleBasedStateMachine):
    """A partition with two consumers. `check` compares what the server holds with what was done before."""

    world: ClassVar[World]

    @initialize()
    def begin(self) -> None:
        self.partition = Partition(f"interleaved-{next(_numbers)}")
        self.requests: dict[str, Entry] = {}
        self.actors = [Actor(self.world, self.partition) for _ in range(2)]
        self.store = Store(self.world.redis, self.partition)
        self.presence = Presence(self.world.redis, self.partition)
        self.admission = Admission(self.world.redis, self.partition, result_ttl_s=600)
        self.second = 0  # how often a completion came second
        self.given_up = 0
        self.listening: dict[str, set[str]] = {}  # request -> the ingests that receive its outcome
        self.waiting: list[str] = []  # requests not yet delivered, in the order of their admission
        self.before = Image()
        report = ConsumerReport(name="alive", host="here", pid=1, version="1", provider="cpu", state="idle")
        self.world.run(self.presence.heartbeat(report, lease_s=LEASE_S))
        self.admit_one("left", 3600)  # accepted before the group exists
        self.world.run(self.actors[0].group.create())
        self.check()

    def admit_one(self, ingest: str, timeout_s: float) -> None:
        entry = Entry(uuid.uuid4().hex, ingest, 1, 1, 1, b"rgb")
        self.requests[entry.id] = entry
        self.waiting.append(entry.id)
        self.listening[entry.id] = {ingest} - {""}
        self.world.run(self.admission.admit(entry, timeout_s=timeout_s, max_backlog=10_000))

    def holding(self, which: int) -> Actor:
        """That consumer, or the other one where it holds nothing."""
        return self.actors[which] if self.actors[which].hands else self.actors[1 - which]

    def request(self, pick: int) -> str:
        return list(self.requests)[pick % len(self.requests)]

    def age(self, entry_id: str) -> None:
        owner = self.before.pending[entry_id].consumer

        async def age() -> None:
            key, aged_ms = self.partition.entries, int(LEASE_S * 2000)
            await self.world.redis.xclaim(key, GROUP, owner, 0, [entry_id], idle=aged_ms, justid=True)

        self.world.run(age())

    def complete_all(self, actor: Actor, chosen: list[Delivery], *, give_up: bool) -> None:
        batch = []
        for one in {delivery.entry_id: delivery for delivery in chosen}.values():
            entry = entry_of(one)
            outcome = self._outcome(entry)
            batch.append(Completed(one.entry_id, outcome, entry.reply, "poison" if give_up else "", one.deliveries))
        mine = self.world.run(actor.completion.complete(batch))
        assert mine == [finished.entry_id in self.before.pending for finished in batch]
        self.second += mine.count(False)
        self.given_up += mine.count(True) * give_up
        before, now = self.before, self.check()
        for finished, first in zip(batch, mine, strict=True):
            stored = now.states[finished.outcome.id]
            assert stored == (encode(finished.outcome) if first else before.states[finished.outcome.id])

    def _outcome(self, entry: Entry | DamagedEntry) -> Outcome:
        """As the runner decides it, and unlike any other outcome."""
        number = str(next(_numbers))
        if self.world.run(self.store.state(entry.id)) == "cancelled":
            return Failed(entry.id, "cancelled", number)
        if 0 < entry.due_ms < time.time() * 1000:
            return Failed(entry.id, "expired", number)
        return Done(entry.id, number, "cpu", (1,), (1.0,), 1, 0.0, 0.0)

    def check(self) -> Image:
        """The promises, after every step."""
        before, now = self.before, self.world.run(take_image(self.world.redis, self.partition, list(self.requests)))
        outcomes = now.outcomes()
        # Each accepted image is in the stream once, or has its outcome, and never both.
        assert sorted([*now.entries.values(), *outcomes]) == sorted(self.requests)
        # An outcome never changes, and was sent at most once to those who wait, as it is stored.
        assert {one: outcomes.get(one) for one in before.outcomes()} == before.outcomes()
        for ingest in INGESTS[1:]:
            waited_for = [value for one, value in outcomes.items() if ingest in self.listening[one]]
            assert sorted(now.replies[ingest]) == sorted(waited_for)
        assert now.replies[""] == []
        # Nothing is pending that is not there, and nothing that was delivered is there without being pending.
        assert now.pending.keys() <= now.entries.keys()
        assert {one for one, request in now.entries.items() if request not in self.waiting} == now.pending.keys()
        # Deliveries are counted up.
        assert all(held.deliveries <= now.pending.get(one, held).deliveries for one, held in before.pending.items())
        assert now.counters.get("completed", 0) == len(outcomes)
        assert now.counters.get("superseded", 0) == self.second
        assert now.dead == self.given_up
        self.before = now
        return now


def entry_of(delivery: Delivery) -> Entry | DamagedEntry:
    """A request that was cancelled has lost its pixels."""
    entry = delivery.entry
    assert isinstance(entry, Entry) or (isinstance(entry, DamagedEntry) and entry.is_cancelled)
    return entry
