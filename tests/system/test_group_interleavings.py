"""Every interleaving of delivering, renewing, claiming, completing, cancelling and expiring, against a real server.

Hypothesis plays two consumers that die, pause, lose replies and come second, an ingest that repeats itself and a
client that cancels. What each command answers is compared with what the server held before it; what the server holds
afterwards must keep the promises in `Promises`. Leases last a day and are aged by hand, so that nothing waits.
"""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from stream.connection.clients import connect
from stream.connection.group_reader import Reader
from stream.settings import RedisSettings
from tests.support.redis.consumers_under_test import Actor, World
from tests.support.redis.group_promises import Promises, entry_of
from tests.support.redis.partition_state import INGESTS
from tests.support.redis.servers import Server

CONSUMER = st.sampled_from([0, 1])
PICK = st.integers(0, 1000)
MOSTLY = st.sampled_from([True, True, True, False])


class Interleaving(Promises):
    """Every step that could break the promises."""

    # What an ingest and its client do

    @rule(ingests=st.lists(st.sampled_from(INGESTS), min_size=1, max_size=3), timeout_s=st.sampled_from([0.001, 3600]))
    def admit(self, ingests: list[str], timeout_s: float) -> None:
        for ingest in ingests:
            self.admit_one(ingest, timeout_s)
        self.check()

    @rule(pick=PICK)
    def admit_again(self, pick: int) -> None:
        """A command that was repeated because its reply was lost."""
        again, before = self.requests[self.request(pick)], self.before
        self.world.run(self.admission.admit(again, timeout_s=3600, max_backlog=10_000))
        assert self.check().entries == before.entries

    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        request = self.request(pick)
        cancelled = self.world.run(self.store.cancel(request))
        assert cancelled == self.before.states[request].startswith(b"queued")
        self.check()

    @rule(pick=PICK, ingest=st.sampled_from(INGESTS[1:]))
    def watch(self, pick: int, ingest: str) -> None:
        """A client comes back for its result, perhaps through another ingest, perhaps many times."""
        request = self.request(pick)
        if self.world.run(self.store.subscribe(request, ingest)) == "queued":
            self.listening[request].add(ingest)  # Not to one beyond its deadline that no consumer was given.
        self.check()

    # What consumers do

    @precondition(lambda self: self.waiting)
    @rule(which=CONSUMER, count=st.integers(1, 4), arrives=MOSTLY)
    def read(self, which: int, count: int, arrives: bool) -> None:
        """New entries, each to one consumer only; the reply may get lost."""
        actor = self.actors[which]
        got = self.world.run(actor.group.read(count))
        assert [entry_of(one).id for one in got] == self.waiting[:count]
        del self.waiting[: len(got)]
        if arrives:
            actor.take(got)
        now = self.check()
        assert all(now.pending[one.entry_id].consumer == actor.name for one in got)

    @precondition(lambda self: self.before.pending)
    @rule(which=CONSUMER)
    def read_pending(self, which: int) -> None:
        """After an error: all that the server holds for this consumer, and nothing else."""
        actor = self.actors[which]
        got = self.world.run(actor.group.read_pending(1000))
        assert [one.entry_id for one in got] == self.before.of(actor.name)
        actor.take(got)
        before, now = self.before, self.check()
        assert all(now.pending[one].deliveries == held.deliveries for one, held in before.pending.items())
        assert not now.lapsed().intersection(one.entry_id for one in got)

    @precondition(lambda self: any(actor.hands for actor in self.actors))
    @rule(which=CONSUMER)
    def renew(self, which: int) -> None:
        """Leases of what is held begin again; what another has claimed stays with it."""
        actor = self.holding(which)
        held = list(actor.hands)
        lost = self.world.run(actor.group.renew(held))
        mine = self.before.of(actor.name)
        assert lost == [entry for entry in held if entry not in mine]
        before, now = self.before, self.check()
        assert {one: held.consumer for one, held in now.pending.items()} == {
            one: held.consumer for one, held in before.pending.items()
        }
        assert not now.lapsed().intersection(set(held) - set(lost))

    @precondition(lambda self: self.before.pending)
    @rule(pick=PICK)
    def lapse(self, pick: int) -> None:
        """A consumer is silent for a lease: an entry grows old."""
        entries = list(self.before.pending)
        self.age(entries[pick % len(entries)])
        self.check()

    @precondition(lambda self: self.before.pending)
    @rule(which=CONSUMER, arrives=MOSTLY, lapsed=st.booleans(), pick=PICK)
    def claim(self, which: int, arrives: bool, lapsed: bool, pick: int) -> None:
        """Only what has lapsed, from whomever; the reply may get lost."""
        if lapsed:
            self.lapse(pick)
        actor, before = self.actors[which], self.before
        got = self.world.run(actor.group.claim())
        now = self.check()
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
        paused = self.holding(which)
        other = self.actors[1 - self.actors.index(paused)]
        if mine := self.before.of(paused.name):
            self.age(mine[pick % len(mine)])
            self.check()
        self.claim(self.actors.index(other), True, False, 0)
        if renews:
            self.renew(self.actors.index(paused))

    @precondition(lambda self: any(actor.hands for actor in self.actors))
    @rule(which=CONSUMER, pick=PICK, count=st.integers(1, 3), give_up=st.booleans(), arrives=MOSTLY)
    def complete(self, which: int, pick: int, count: int, give_up: bool, arrives: bool) -> None:
        """Outcomes for some of what a consumer believes to hold; where the reply is lost it will do so again."""
        actor = self.holding(which)
        entries = list(actor.hands)
        chosen = [actor.hands[one] for one in (entries[pick % len(entries) :] + entries)[:count]]
        self.complete_all(actor, chosen, give_up=give_up)
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
        self.check()

    @precondition(lambda self: self.before.pending)
    @rule(which=CONSUMER)
    def remove_dead(self, which: int) -> None:
        self.world.run(self.actors[which].group.remove_dead_consumers())
        self.check()

    def teardown(self) -> None:
        """A last consumer, alone, brings everything to its end."""
        if not hasattr(self, "before"):
            return
        for entry in self.before.pending:
            self.age(entry)
        last = Actor(self.world, self.partition)
        for _ in self.before.pending:
            claimed = self.world.run(last.group.claim())
            assert claimed is not None
            last.take([claimed])
        if self.waiting:
            last.take(self.world.run(last.group.read(1000)))
        self.waiting.clear()
        self.check()
        if last.hands:
            self.complete_all(last, list(last.hands.values()), give_up=False)
        now = self.check()
        assert now.outcomes().keys() == self.requests.keys()
        assert not now.entries


@pytest.fixture
def world(server: Server) -> Iterator[World]:
    own = RedisSettings(redis_url=server.url, redis_timeout_s=60)
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
