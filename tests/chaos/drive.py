"""One run: start the system, load it, do every fault to it, let it settle, audit it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from stream.connection.clients import connect
from stream.keys import Partition
from stream.settings import Durability, RedisSettings
from tests.chaos.audit import audit, outstanding
from tests.chaos.clock import Clock, pause
from tests.chaos.expected_answers import ExpectedAnswers
from tests.chaos.faults import SHORT_FORM, Chaos
from tests.chaos.load import Load, Traffic
from tests.chaos.report import Report
from tests.chaos.server.server_faults import ServerFaults
from tests.chaos.system import Scale, System
from tests.support.models import tiny_model

#: Deadline of an image. Longer than any single fault, shorter than a supervisor's patience.
_TIMEOUT_S = 15.0

#: The knobs of all processes. Ten deliveries: consumers are killed here far more often than once in an image's life,
#: which says nothing against the image.
_SETTINGS: dict[str, Any] = {
    "lease_s": 2.0,
    "redis_timeout_s": 1.0,
    "request_timeout_s": _TIMEOUT_S,
    "result_ttl_s": 7200,
    "max_backlog": 150,
    "max_deliveries": 10,
    "max_dead_letters": 10_000,
}

#: Seconds that one image takes a consumer of the tiny model: 67 images/s each.
_IMAGE_S = 0.015

#: After the last fault, the load goes on for so long.
_AFTERMATH_S = 2.0

#: Nothing may be outstanding so long after the last answer.
_SETTLE_S = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does. `model_file` None: the tiny model, in a repository of the run's own.

    `schedule` says how often each fault is done. `steady`: images come evenly, without bursts, and half as often.
    """

    folder: Path
    seconds: float
    seed: int
    schedule: Mapping[str, int] = field(default_factory=lambda: SHORT_FORM)
    model_file: Path | None = None
    durability: Durability = "process"
    steady: bool = False


async def drive(plan: Plan) -> Report:
    """Run the plan; raises only where the system cannot even be started."""
    model_file = plan.model_file or tiny_model.build(plan.folder / "models")
    expected = ExpectedAnswers(model_file, count=48, seed=plan.seed)
    clock = Clock()
    system = System(plan.folder, _scale(plan, expected), clock)
    try:
        await system.start()
        async with connect(RedisSettings(redis_url=system.server.url, redis_timeout_s=10)) as redis:
            return await _run(plan, expected, system, redis, clock)
    finally:
        await system.kill()


async def _run(plan: Plan, expected: ExpectedAnswers, system: System, redis: Redis, clock: Clock) -> Report:
    load = Load(expected, system.ingests, redis, _traffic(plan), clock=clock, seed=plan.seed)
    partition = Partition(expected.model.name)
    server_faults = ServerFaults(system.server, redis, partition, clock, seed=plan.seed, timeout_s=_TIMEOUT_S)
    chaos = Chaos(system, server_faults, clock, seed=plan.seed)
    sending = asyncio.create_task(load.run())
    await chaos.run(plan.schedule, seconds=plan.seconds - _AFTERMATH_S)
    await pause(_AFTERMATH_S)
    load_s = clock.now_s
    load.end()
    await sending
    while await outstanding(redis, partition) and clock.now_s < load_s + _TIMEOUT_S + _SETTLE_S:
        await pause(0.05)
    settle_s = clock.now_s - load_s
    found = await audit(redis, partition)
    while found.waiting() and clock.now_s < load_s + _TIMEOUT_S + 1:  # Sluice reports a lost entry after its deadline.
        await pause(0.5)
        found = await audit(redis, partition)
    complaints = await system.stop()
    return Report(plan.seed, load_s, settle_s, expected, load.ledger, found, chaos.done, complaints)


def _scale(plan: Plan, expected: ExpectedAnswers) -> Scale:
    settings = {**_SETTINGS, "model": expected.model.name}
    if plan.model_file is None:
        return Scale(plan.folder / "models", _IMAGE_S, settings=settings, **_server(plan))
    return Scale(plan.model_file.parents[2], None, settings=settings, **_server(plan))


def _server(plan: Plan) -> dict[str, Any]:
    return {"durability": plan.durability, "fake_clock": any("clock" in kind for kind in plan.schedule)}


def _traffic(plan: Plan) -> Traffic:
    """Below what the consumers can do together, and bursts beyond what the stream may hold."""
    if plan.steady:
        return Traffic(rate=25, burst=0, burst_every_s=plan.seconds, timeout_s=_TIMEOUT_S, direct=0.0, asynchronous=0.3)
    if plan.model_file is None:
        return Traffic(rate=50, burst=300, burst_every_s=7, timeout_s=_TIMEOUT_S)
    return Traffic(rate=10, burst=300, burst_every_s=45, timeout_s=_TIMEOUT_S)
