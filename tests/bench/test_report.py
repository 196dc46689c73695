"""What the benchmark reports is what it found: medians, targets, tables and the summary."""

import pytest

from bench.measure.generator import Counts
from bench.measure.measuring import Measurement, median
from bench.reporting import report, summary, targets
from bench.reporting.results import Results, Row


def _measured(per_s: float, *, p50_ms: float = 1.0) -> Measurement:
    return Measurement(per_s, p50_ms, 9.0, 2.0, refused=1, errors=0, others=0.0)


def _results(*, sluice: float, best: float) -> Results:
    rates = {"sluice": sluice, "starlette": best / 2, "mosec": best}
    return Results(closed=[_row(name, rate) for name, rate in rates.items()])


def _row(system: str, *rates: float) -> Row:
    return Row(system, "nearzero", "small", 32, _measured(sorted(rates)[len(rates) // 2]), rates)


@pytest.mark.parametrize(("sluice", "verdict"), [(700.0, "pass"), (600.0, "pass"), (599.0, "FAIL")])
def test_a_target_compares_with_the_best_peer(sluice: float, verdict: str) -> None:
    """1.5 times the best of the peers, not of their mean, decides; what was not measured is said to be so."""
    found = targets.targets(_results(sluice=sluice, best=400.0))
    (target,) = (one for one in found if "small JPEG, 32 clients" in one.name)
    assert (target.verdict, target.got) == (verdict, sluice / 400)
    assert "mosec" in target.how
    (other,) = (one for one in found if "small JPEG, 64 clients" in one.name)
    assert other.verdict == "not measured"


@pytest.mark.parametrize(("sluice", "verdict"), [(400.0, "pass"), (399.0, "FAIL")])
def test_peers_with_the_same_decoder_have_a_target_of_their_own(sluice: float, verdict: str) -> None:
    """As fast as the best of them is enough, and those with Pillow do not count."""
    rows = [_row("sluice", sluice), _row("starlette-2-fast", 400), _row("mosec-fast", 300), _row("mosec", 800)]
    found = targets.targets(Results(closed=rows))
    (target,) = (one for one in found if "Sluice's decoder, 32 clients: throughput" in one.name)
    assert (target.verdict, target.how) == (verdict, f"{sluice:.0f}/s against 400/s (starlette-2-fast)")


@pytest.mark.parametrize(("least", "verdict"), [(70, "pass"), (69, "FAIL")])
def test_one_slow_second_fails_the_long_run(least: int, verdict: str) -> None:
    """The worst second counts, against the median of all."""
    found = targets.targets(Results(steady={"sluice": [100, least, 100]}))
    (target,) = (one for one in found if "second by second" in one.name)
    assert target.verdict == verdict


def test_answers_are_counted_second_by_second() -> None:
    """Each whole second since the first answer counts its own; the last one is not complete and is left out."""
    counts = Counts(answered_s=[10.0, 10.9, 11.5, 13.1, 13.2, 14.0])
    assert counts.each_second() == [2, 1, 0, 2]


def test_a_target_compares_round_by_round() -> None:
    """Where the machine is slow for a round it is so for both; the best peer is the one that is beaten by the least."""
    rows = [_row("sluice", 600, 300, 450), _row("mosec", 400, 200, 500), _row("starlette", 500, 150, 300)]
    (target,) = (one for one in targets.targets(Results(closed=rows)) if "small JPEG, 32 clients" in one.name)
    assert (target.got, target.how) == (1.5, "450/s against 300/s (starlette)")


def test_the_report_says_which_target_fails() -> None:
    """A failed target stands in the table in capitals; a partial report leaves out what was not measured."""
    text = report.markdown(_results(sluice=300.0, best=400.0), ["throughput.png"], complete=False)
    assert "| ≥ 1.5 | 0.75 | FAIL | 300/s against 400/s (mosec) |" in text
    assert "not measured" not in text


def test_medians_are_taken_figure_by_figure() -> None:
    """One wild round changes nothing; refusals and errors of all rounds are added up."""
    rounds = [_measured(100, p50_ms=3), _measured(900, p50_ms=1), _measured(110, p50_ms=2)]
    assert (median(rounds).per_s, median(rounds).p50_ms, median(rounds).refused) == (110, 2, 3)


def test_the_report_says_which_process_took_the_time() -> None:
    """A row for each number of clients, a column for each process; the heaviest ingest and consumer have targets."""
    found = Results(
        cpu_by_kind={1: {"worker": 1.5, "valkey-server": 0.25}},
        footprint={"ingest": 40, "worker": 121},
        beyond_model={"large/1": 152.0, "wide/1": 205.0},
    )
    text = report.markdown(found, [], complete=False)
    assert "| clients | worker | valkey-server |\n| --- | --- | --- |\n| 1 | 1.50 | 0.25 |" in text
    assert "| ingest: resident MB of one process | ≤ 120 | 121 | FAIL | after the load |" in text
    assert "| consumer: resident MB beyond its model's file | ≤ 200 | 205 | FAIL | after the load, wide/1 |" in text


def test_the_summary_says_what_was_missed() -> None:
    """What goes into the README has a row for each system, and hides no target that fails."""
    text = summary.summary(_results(sluice=300.0, best=400.0))
    assert "| mosec | 400 |  | 2.00 |" in text
    assert "small JPEG, 32 clients: throughput over the best peer's (0.75, required ≥ 1.5)" in text
