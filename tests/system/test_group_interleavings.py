"""Every interleaving of delivering, renewing, claiming, completing, cancelling and expiring, against a real server.

Hypothesis plays two consumers that die, pause, lose replies and come second, an ingest that repeats itself and a
client that cancels. What each command answers is compared with what the server held before it; what the server holds
afterwards must keep the promises in `_check`. Leases last a day and are aged by hand, so that nothing waits.
"""

import asyncio
import itertools
import time
import uuid
from collections.abc import Iterator
from typing import ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from results.completion import Completed
from results.outcome import Done, Failed, Outcome, encode
from results.store import Store
from stream.admission import Admission
from stream.connection.clients import connect
from stream.connection.group_reader import Reader
from stream.entry import DamagedEntry, Entry
from stream.group import Delivery
from stream.keys import GROUP, Partition
from stream.presence import ConsumerReport, Presence
from stream.settings import RedisSettings
from tests.support.redis.consumers_under_test import Actor, World
from tests.support.redis.partition_state import INGESTS, LEASE_S, Image, take_image
from tests.support.redis.servers import Server

T = TypeVar("T")

CONSUMER = st.sampled_from([0, 1])
PICK = st.integers(0, 1000)
MOSTLY = st.sampled_from([True, True, True, False])

_numbers = itertools.count()


class Interleaving(RuleBasedStateMachine):
    """The promises, and every step that could break them."""

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
        self._admit("left", 3600)  # accepted before the group exists
        self.world.run(self.actors[0].group.create())
        self._check()

    # What an ingest and its client do

    @rule(ingests=st.lists(st.sampled_from(INGESTS), min_size=1, max_size=3), timeout_s=st.sampled_from([0.001, 3600]))
    def admit(self, ingests: list[str], timeout_s: float) -> None:
        for ingest in ingests:
            self._admit(ingest, timeout_s)
        self._check()

    @rule(pick=PICK)
    def admit_again(self, pick: int) -> None:
        """A command that was repeated because its reply was lost."""
        again = self.requests[self._request(pick)]
        self.world.run(self.admission.admit(again, timeout_s=3600, max_backlog=10_000))
        assert self._check().entries == self.before.entries

    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        request = self._request(pick)
        cancelled = self.world.run(self.store.cancel(request))
        assert cancelled == self.before.states[request].startswith(b"queued")
        self._check()

    @rule(pick=PICK, ingest=st.sampled_from(INGESTS[1:]))
    def watch(self, pick: int, ingest: str) -> None:
        """A client comes back for its result, perhaps through another ingest, perhaps many times."""
        request = self._request(pick)
        self.world.run(self.store.subscribe(request, ingest))
        if self.before.states[request].startswith(b"queued"):
            self.listening[request].add(ingest)
        self._check()

    # What consumers do

    @precondition(lambda self: self.waiting)
    @rule(which=CONSUMER, count=st.integers(1, 4), arrives=MOSTLY)
    def read(self, which: int, count: int, arrives: bool) -> None:
        """New entries, each to one consumer only; the reply may get lost."""
        actor = self.actors[which]
        got = self.world.run(actor.group.read(count))
        assert [_entry(one).id for one in got] == self.waiting[:count]
        del self.waiting[: len(got)]
        if arrives:
            actor.take(got)
        now = self._check()
        assert all(now.pending[one.entry_id].consumer == actor.name for one in got)

    @precondition(lambda self: self.before.pending)
    @rule(which=CONSUMER)
    def read_pending(self, which: int) -> None:
        """After an error: all that the server holds for this consumer, and nothing else."""
        actor = self.actors[which]
        got = self.world.run(actor.group.read_pending(1000))
        assert [one.entry_id for one in got] == self.before.of(actor.name)
        actor.take(got)
        before, now = self.before, self._check()
        assert all(now.pending[one].deliveries == held.deliveries for one, held in before.pending.items())
        assert not now.lapsed().intersection(one.entry_id for one in got)

    @precondition(lambda self: any(actor.hands for actor in self.actors))
    @rule(which=CONSUMER)
    def renew(self, which: int) -> None:
        """Leases of what is held begin again; what another has claimed stays with it."""
        actor = self._holding(which)
        held = list(actor.hands)
        lost = self.world.run(actor.group.renew(held))
        mine = self.before.of(actor.name)
        assert lost == [entry for entry in held if entry not in mine]
        before, now = self.before, self._check()
        assert {one: held.consumer for one, held in now.pending.items()} == {
            one: held.consumer for one, held in before.pending.items()
        }
        assert not now.lapsed().intersection(set(held) - set(lost))

    @precondition(lambda self: self.before.pending)
    @rule(pick=PICK)
    def lapse(self, pick: int) -> None:
        """A consumer is silent for a lease: an entry grows old."""
        entries = list(self.before.pending)
        self._age(entries[pick % len(entries)])
        self._check()

    @precondition(lambda self: self.before.pending)
    @rule(which=CONSUMER, arrives=MOSTLY, lapsed=st.booleans(), pick=PICK)
    def claim(self, which: int, arrives: bool, lapsed: bool, pick: int) -> None:
        """Only what has lapsed, from whomever; the reply may get lost."""
        if lapsed:
            self.lapse(pick)
        actor, before = self.actors[which], self.before
        got = self.world.run(actor.group.claim())
        now = self._check()
        assert (got is not None) == bool(before.lapsed())
        if got is None:
            assert now.pending.keys() == before.pending.keys()
            return
        was = before.pending[got.entry_id]
        assert got.entry_id in before.lapsed()
        assert now.pending[got.entry_id].consumer == actor.name
        assert got.deliveries == was.deliveries + 1
        assert got.holders[-1] == was.consumer
        if arrives:
            actor.take([got])

    @precondition(lambda self: any(actor.hands for actor in self.actors))
    @rule(which=CONSUMER, pick=PICK, renews=st.booleans())
    def overtake(self, which: int, pick: int, renews: bool) -> None:
        """A consumer pauses for a lease, another claims, and the first goes on as if nothing had happened."""
        paused = self._holding(which)
        other = self.actors[1 - self.actors.index(paused)]
        if mine := self.before.of(paused.name):
            self._age(mine[pick % len(mine)])
            self._check()
        self.claim(self.actors.index(other), True, False, 0)
        if renews:
            self.renew(self.actors.index(paused))

    @precondition(lambda self: any(actor.hands for actor in self.actors))
    @rule(which=CONSUMER, pick=PICK, count=st.integers(1, 3), give_up=st.booleans(), arrives=MOSTLY)
    def complete(self, which: int, pick: int, count: int, give_up: bool, arrives: bool) -> None:
        """Outcomes for some of what a consumer believes to hold; where the reply is lost it will do so again."""
        actor = self._holding(which)
        entries = list(actor.hands)
        chosen = [actor.hands[one] for one in (entries[pick % len(entries) :] + entries)[:count]]
        self._complete(actor, chosen, give_up=give_up)
        if arrives:
            for one in chosen:
                actor.hands.pop(one.entry_id, None)

    @precondition(lambda self: all(actor.hands for actor in self.actors))
    @rule(which=CONSUMER)
    def die(self, which: int) -> None:
        """SIGKILL: another consumer comes in its place."""
        self.actors[which] = Actor(self.world, self.partition)

    @precondition(lambda self: self.before.pending)
    @rule(which=CONSUMER)
    def leave(self, which: int) -> None:
        """SIGTERM, and the grace was too short for some."""
        leaving = self.actors[which].name
        assert self.world.run(self.presence.leave(leaving)) == len(self.before.of(leaving))
        self.actors[which] = Actor(self.world, self.partition)
        self._check()

    @precondition(lambda self: self.before.pending)
    @rule(which=CONSUMER)
    def remove_dead(self, which: int) -> None:
        self.world.run(self.actors[which].group.remove_dead_consumers())
        self._check()

    def teardown(self) -> None:
        """A last consumer, alone, brings everything to its end."""
        if not hasattr(self, "before"):
            return
        for entry in self.before.pending:
            self._age(entry)
        last = Actor(self.world, self.partition)
        for _ in self.before.pending:
            claimed = self.world.run(last.group.claim())
            assert claimed is not None
            last.take([claimed])
        if self.waiting:
            last.take(self.world.run(last.group.read(1000)))
        self.waiting.clear()
        self._check()
        if last.hands:
            self._complete(last, list(last.hands.values()), give_up=False)
        now = self._check()
        assert now.outcomes().keys() == self.requests.keys()
        assert not now.entries

    # How it is done

    def _admit(self, ingest: str, timeout_s: float) -> None:
        entry = Entry(uuid.uuid4().hex, ingest, 1, 1, 1, b"rgb")
        self.requests[entry.id] = entry
        self.waiting.append(entry.id)
        self.listening[entry.id] = {ingest} - {""}
        self.world.run(self.admission.admit(entry, timeout_s=timeout_s, max_backlog=10_000))

    def _holding(self, which: int) -> Actor:
        """That consumer, or the other one where it holds nothing."""
        return self.actors[which] if self.actors[which].hands else self.actors[1 - which]

    def _request(self, pick: int) -> str:
        return list(self.requests)[pick % len(self.requests)]

    def _age(self, entry_id: str) -> None:
        owner = self.before.pending[entry_id].consumer

        async def age() -> None:
            key, aged_ms = self.partition.entries, int(LEASE_S * 2000)
            await self.world.redis.xclaim(key, GROUP, owner, 0, [entry_id], idle=aged_ms, justid=True)

        self.world.run(age())

    def _complete(self, actor: Actor, chosen: list[Delivery], *, give_up: bool) -> None:
        batch = []
        for one in {delivery.entry_id: delivery for delivery in chosen}.values():
            entry = _entry(one)
            outcome = self._outcome(entry)
            batch.append(Completed(one.entry_id, outcome, entry.reply, "poison" if give_up else "", one.deliveries))
        mine = self.world.run(actor.completion.complete(batch))
        assert mine == [finished.entry_id in self.before.pending for finished in batch]
        self.second += mine.count(False)
        self.given_up += mine.count(True) * give_up
        before, now = self.before, self._check()
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

    def _check(self) -> Image:
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


def _entry(delivery: Delivery) -> Entry | DamagedEntry:
    """A request that was cancelled has lost its pixels."""
    entry = delivery.entry
    assert isinstance(entry, Entry) or (isinstance(entry, DamagedEntry) and entry.is_cancelled)
    return entry


@pytest.fixture
def world(server: Server) -> Iterator[World]:
    own = RedisSettings(redis_url=server.url)
    with asyncio.Runner() as runner:
        world = World(runner, connect(own), Reader(own))
        yield world
        runner.run(world.redis.aclose())
        runner.run(world.reader.aclose())


def test_no_interleaving_loses_or_doubles_a_result(world: World) -> None:
    """Whatever the order of their steps."""
    Interleaving.world = world
    run_state_machine_as_test(
        Interleaving,
        settings=settings(
            max_examples=150, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
