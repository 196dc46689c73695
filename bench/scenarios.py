"""The parts of a run: each measures one thing and writes it into the results."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import fidelity, images
from bench.artefacts import Repository
from bench.measure import full_stream, interleaved, limits, load
from bench.measure.interleaved import Load, say
from bench.measure.limits import Raw
from bench.measure.load import Sample
from bench.measure.measuring import Measurement, measure, median
from bench.models import FP32, INT8
from bench.reporting.results import Results, Row
from bench.systems import Running, System, Task

#: Seconds of decoding and of session.run; of one raw run between those of the servers.
_LIMIT_S = 0.5
_RAW_S = 1.5

#: Full streams for each round: one is worked off in a third of a second, and the next one in up to twice the time.
_STREAMS_A_ROUND = 2

#: Seconds of each load where the long one of the closed loop would add nothing.
_SHORT_S = 5

#: The long run, second by second.
_STEADY_CLIENTS = 32

#: Shares of capacity in the open loop, percent.
SHARES = (50, 80, 95, 120)

#: What the slow networks are sent: about so many seconds of work, from so many clients.
_WORK_S = 4.0
_WORK_CLIENTS = 32


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run measures and how long."""

    repository: Repository
    folder: Path
    chosen: tuple[System, ...]
    settings: dict[str, str]
    model: str = "nearzero"
    version: str = "1"
    image: str = "small"
    clients: tuple[int, ...] = (1, 8, 32, 64)
    seconds: int = 2
    rounds: int = interleaved.ROUNDS
    steady_s: int = 30

    @property
    def short_s(self) -> int:
        return min(self.seconds, _SHORT_S)

    def task(self, model: str = "", version: str = "") -> Task:
        return Task(self.repository.folder, model or self.model, version or self.version, self.folder, self.settings)

    def among(self, *names: str) -> list[System]:
        """Those of these systems that take part."""
        return [system for system in self.chosen if system.name in names]


def measure_limits(plan: Plan, found: Results) -> None:
    """Decoding, session.run and a full stream, with no server around them."""
    for how in limits.WAYS:
        for name in ("small", "large"):
            found.decoding.append(limits.decoding(how, name, images.BY_NAME[name](), seconds=2 * _LIMIT_S))
        nearzero = plan.repository.path("nearzero", "1")
        assert nearzero
        found.ceilings[how] = limits.pipeline_per_s(how, images.small(), nearzero)
    for name, version in _artefacts(plan):
        raw = Raw(plan.repository.folder / name / version / "model.onnx")
        found.runs += [raw.run(batch, seconds=_LIMIT_S) for batch in limits.BATCHES]
        say(f"session.run of {name}/{version}: " + ", ".join(f"{run.images_per_s:.0f}" for run in found.runs[-6:]))


def _artefacts(plan: Plan) -> Iterable[tuple[str, str]]:
    for name in ("nearzero", "resnet50", "efficientnet-lite0"):
        for version in (FP32, INT8):
            if plan.repository.path(name, version):
                yield name, version


def measure_full_stream(plan: Plan, found: Results) -> None:
    """A consumer and a bare loop, in turn, each on a stream that is full before it begins."""
    rates: dict[str, list[float]] = {"bare redis-py loop": [], "consumer": []}
    with full_stream.server(plan.folder) as redis:
        for _ in range(_STREAMS_A_ROUND * plan.rounds):
            rates["bare redis-py loop"].append(full_stream.rate_of_bare_loop(redis, plan.folder))
            rates["consumer"].append(
                full_stream.rate_of_consumer(
                    redis, plan.folder, plan.repository.folder, model="nearzero", version="1", provider="cpu"
                )
            )
            say("full stream: " + ", ".join(f"{name} {values[-1]:.0f}/s" for name, values in rates.items()))
    found.full_stream = rates


def measure_closed(plan: Plan, found: Results) -> None:
    """The closed loop, then what Server-Timing says, then the open loop, with the same running systems."""
    image = images.BY_NAME[plan.image]()
    loads = {clients: _closed(image, clients, plan.seconds) for clients in plan.clients}
    # A scaled decode cannot be distinguished from a full one where the image is small.
    chosen = [one for one in plan.chosen if plan.image == "large" or one.name != "mosec-draft"]
    with interleaved.started(chosen, plan.task(), image, left_out=found.notes) as running:
        found.closed += _rows(interleaved.compare(running, loads, rounds=plan.rounds), plan.model, plan.image)
        for one in running:
            if one.system.name == "sluice":
                _footprint(one, found)
                _measure_stages(one, image, plan, found)
        _measure_open(running, image, plan, found)


def _closed(image: bytes, clients: int, seconds: int) -> Load:
    return lambda one: load.closed(one.port, one.system.upload(image), clients=clients, seconds=seconds)


def _rows(measured: dict[tuple[str, int], list[Measurement]], model: str, image: str) -> list[Row]:
    return [
        Row(system, model, image, number, median(rounds), _rates(rounds), _reference_times(rounds))
        for (system, number), rounds in measured.items()
    ]


def _rates(rounds: list[Measurement]) -> tuple[float, ...]:
    return tuple(one.per_s for one in rounds)


def _reference_times(rounds: list[Measurement]) -> tuple[float, ...]:
    return tuple(one.reference_ms for one in rounds)


def measure_steady(plan: Plan, found: Results) -> None:
    """Sluice for a long time at one load: how many answers in each second, while the append-only file is rewritten."""
    image = images.BY_NAME[plan.image]()
    with interleaved.started(plan.among("sluice"), plan.task(), image, left_out=found.notes) as running:
        for one in running:
            sample = load.observed(one.port, one.system.upload(image), clients=_STEADY_CLIENTS, seconds=plan.steady_s)
            found.steady[one.system.name] = sample.each_second
            say(f"{one.system.name}, second by second: {sample.each_second}")


def _measure_stages(one: Running, image: bytes, plan: Plan, found: Results) -> None:
    for clients in plan.clients:
        one.processes.settle()
        before = one.processes.cpu_s_by_kind()
        sample = load.observed(one.port, one.system.upload(image), clients=clients, seconds=plan.short_s)
        found.stages[clients] = {**sample.stages_ms, "at the client": sample.p50_ms}
        found.cpu_by_kind[clients] = {
            kind: (spent_s - before.get(kind, 0.0)) * 1000 / max(1, sample.requests)
            for kind, spent_s in one.processes.cpu_s_by_kind().items()
        }


def _footprint(one: Running, found: Results) -> None:
    for kind, resident in one.processes.resident_by_kind().items():
        found.footprint[kind] = resident / 1e6


def _measure_open(running: list[Running], image: bytes, plan: Plan, found: Results) -> None:
    """Each at shares of its own capacity: its best median in the closed loop."""
    compared = [one for one in running if one.system.name in ("sluice", "starlette-2", "mosec")]
    for one in compared:
        rates = [row.measured.per_s for row in found.closed if row.system == one.system.name]
        found.capacity[one.system.name] = max(rates)

    def at(share: int) -> Load:
        def run(one: Running) -> Sample:
            rate = found.capacity[one.system.name] * share / 100
            return load.open_loop(one.port, one.system.upload(image), rate=rate, seconds=plan.short_s)

        return run

    found.open_loop += _rows(
        interleaved.compare(compared, {share: at(share) for share in SHARES}, rounds=plan.rounds),
        plan.model,
        plan.image,
    )


def measure_large(plan: Plan, found: Results) -> None:
    """The closed loop with a 12-megapixel image."""
    image = images.large()
    loads = {clients: _closed(image, clients, plan.short_s) for clients in (1, 8)}
    chosen = plan.among("sluice", "starlette-2", "mosec", "mosec-draft")
    with interleaved.started(chosen, plan.task("nearzero", "1"), image, left_out=found.notes) as running:
        found.large += _rows(interleaved.compare(running, loads, rounds=plan.rounds), "nearzero", "large")


def measure_networks(plan: Plan, found: Results) -> None:
    """Real networks through Sluice, a fixed amount of work from 32 clients, and session.run by itself in turn."""
    image = images.small()
    for name in ("resnet50", "efficientnet-lite0"):
        with ExitStack() as stack:
            served: dict[str, Running] = {}
            for version in (FP32, INT8):
                if plan.repository.path(name, version):
                    starting = interleaved.started(
                        plan.among("sluice"), plan.task(name, version), image, left_out=found.notes
                    )
                    served |= {f"{name}/{version}": one for one in stack.enter_context(starting)}
            _measure_network(served, image, plan, found)


def _measure_network(served: dict[str, Running], image: bytes, plan: Plan, found: Results) -> None:
    paths = {label: plan.repository.folder / label / "model.onnx" for label in served}
    bare = {label: Raw(path) for label, path in paths.items()}
    rates: dict[str, list[float]] = {}
    measured: dict[str, list[Measurement]] = {}
    for _ in range(plan.rounds):
        for label, one in served.items():
            rates.setdefault(label, []).append(_best_raw(bare[label], found))
            measured.setdefault(label, []).append(_through(one, rates[label][-1], image))
            say(f"{label}: raw {rates[label][-1]:.1f}/s, Sluice {measured[label][-1].per_s:.1f}/s")
    for label, one in served.items():
        resident = one.processes.resident_by_kind()["consumers"]
        found.footprint[f"consumers, {label}"] = resident / 1e6
        found.beyond_model[label] = (resident - paths[label].stat().st_size) / 1e6
    found.raw |= rates
    found.networks += [
        Row("sluice", label, "small", _WORK_CLIENTS, median(rounds), _rates(rounds))
        for label, rounds in measured.items()
    ]


def _best_raw(raw: Raw, found: Results) -> float:
    """Images per second at the batch size that was the fastest one in the limits."""
    known = [run for run in found.runs if run.model == raw.model]
    if not known:
        found.runs += (known := [raw.run(batch, seconds=_LIMIT_S) for batch in limits.BATCHES])
    return raw.run(max(known, key=lambda run: run.images_per_s).batch, seconds=_RAW_S).images_per_s


def _through(one: Running, rate: float, image: bytes) -> Measurement:
    """A fixed amount of work, about `_WORK_S` of it at this rate."""
    requests = _WORK_CLIENTS * max(2, round(rate * _WORK_S / _WORK_CLIENTS))
    upload = one.system.upload(image)
    return measure(one, lambda: load.work(one.port, upload, clients=_WORK_CLIENTS, requests=requests))[0]


def measure_fidelity(plan: Plan, found: Results) -> None:
    """The decode of ingest against a full one, and int8 against fp32, over the test images."""
    test = images.test_set()
    small = {name: data for name, data in test.items() if not name.endswith(images.LARGE)}
    if path := plan.repository.path("efficientnet-lite0", FP32):
        classifier = fidelity.Classifier(path)
        pairs = fidelity.answers(test, classifier.by_full_decode, classifier.by_ingest)
        found.fidelity["decode"] = fidelity.difference(pairs.values())
        large = (pair for name, pair in pairs.items() if name not in small)
        found.fidelity["decode, 12 megapixels"] = fidelity.difference(large)
    for name in ("resnet50", "efficientnet-lite0"):
        fp32, int8 = (plan.repository.path(name, version) for version in (FP32, INT8))
        if name in plan.repository.random:
            found.notes.append(f"{name} int8: no agreement, its random weights agree with nothing")
        elif fp32 and int8:
            one, other = fidelity.Classifier(fp32), fidelity.Classifier(int8)
            pairs = fidelity.answers(small, one.by_ingest, other.by_ingest)
            found.fidelity[f"{name} int8"] = fidelity.difference(pairs.values())
