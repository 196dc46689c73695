"""The report of a run: what was promised, against what the ledger and the audit say. Starts and reads nothing."""

import datetime as dt
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from results.outcome import VANISHED, Done, Failed
from tests.chaos.audit import Audit, is_damaged
from tests.chaos.expected_answers import ExpectedAnswers
from tests.chaos.faults import Fault
from tests.chaos.ledger import Ledger, Request, next_after

#: Violations printed. One bug brings hundreds of a kind.
_MOST_SHOWN = 30


@dataclass(frozen=True, slots=True)
class Report:
    """One run. `load_s` is when the last request was sent, in seconds of the run; `settle_s` how long it then took
    until nothing was outstanding; `complaints` is what processes did that they may not."""

    seed: int
    load_s: float
    settle_s: float
    expected: ExpectedAnswers
    ledger: Ledger
    audit: Audit
    faults: list[Fault]
    complaints: list[str]

    def done(self, kind: str) -> int:
        """How often a fault was done."""
        return sum(fault.kind == kind for fault in self.faults)

    def lost(self) -> list[str]:
        """Accepted images without an outcome that no fault may have lost, and clients without an answer."""
        lost = [line for line, allowed in self._without_outcome() if not allowed]
        lost += [f"no answer: {one.detail}" for one in self.ledger.requests if one.result == "unanswered"]
        if self.audit.in_stream or self.audit.pending:
            lost.append(f"{self.audit.in_stream} entries in the stream, {self.audit.pending} pending")
        return lost

    def lost_in_window(self) -> int:
        """Accepted images that are lost, as some fault may do: reported to the client at once, or when it asks."""
        expired = [one for one in self.ledger.requests if one.result == "expired"]
        reported = [one for one in expired if one.id not in self.audit.outcomes or self._has_vanished(one)]
        return sum(allowed for _, allowed in self._without_outcome()) + len(reported)

    def _has_vanished(self, request: Request) -> bool:
        """Whether Sluice says of this request that Redis has lost it."""
        outcome = self.audit.outcomes.get(request.id)
        return isinstance(outcome, Failed) and outcome.detail == VANISHED

    def unreported(self) -> list[str]:
        """Images that Redis has lost, and of which Sluice does not say so: an ingest that lives remembers them."""
        if self.done("kill an ingest"):
            return []
        queued = [one.id for one in self.ledger.requests if one.result == "queued" and not one.direct]
        known = {*self.audit.outcomes, *self.audit.open}
        silent = [request_id for request_id in queued if request_id not in known] + self.audit.waiting()
        return [f"{request_id} was accepted and is gone, and nobody says so" for request_id in silent]

    def _without_outcome(self) -> Iterator[tuple[str, bool]]:
        """Each accepted image that Redis has lost or has no outcome of, and whether a fault may have lost it.

        The client of an image that was answered has lost nothing, if it is only its stored outcome that is gone.
        """
        by_id = {one.id: one for one in self.ledger.requests if one.id}
        for request_id, state in self.audit.open.items():
            yield f"{request_id} is still {state}", self._may_be_lost(by_id.get(request_id))
        for one in self.ledger.requests:
            if one.id in self.audit.open or (one.id in self.audit.outcomes and not self._has_vanished(one)):
                continue
            answered = one.result in ("right", "wrong", "cancelled")
            if one.result == "queued" or (answered and not self._may_be_lost(one)):
                yield f"{one.id} was accepted and is gone", self._may_be_lost(one)

    def _may_be_lost(self, request: Request | None) -> bool:
        """Of a request without a client's answer only its id may be known: any fault may then explain it."""
        if request is None:
            return any(fault.may_lose_since_s is not None for fault in self.faults)
        return any(fault.may_lose(request.sent_s, request.answered_s) for fault in self.faults)

    def doubled(self) -> list[str]:
        """Requests with more than one outcome, seen in any of four ways."""
        answered = [one.id for one in self.ledger.requests if one.result in ("right", "wrong")]
        doubled = [f"{request_id} got two replies" for request_id in self.audit.replied_twice()]
        doubled += [f"{request_id}: the stored outcome differs from the reply" for request_id in self.audit.changed()]
        if len(set(answered)) < len(answered):
            doubled.append("two clients got the answer to one request")
        completed = self.audit.counters.get("completed", 0) + self.vanished()
        if completed != len(self.audit.outcomes):
            doubled.append(f"{completed} completions for {len(self.audit.outcomes)} outcomes")
        return doubled

    def wrong(self) -> list[str]:
        """Answers that are not the image's."""
        wrong = [f"{one.id}: a client got a wrong answer" for one in self.ledger.requests if one.result == "wrong"]
        wrong += [f"{one.id}: stored for no image" for one in self.audit.done() if not self.expected.knows(one)]
        return wrong + [f"{one.id}: stored for another image" for one, right in self._direct() if not right]

    def improper(self) -> list[str]:
        """Answers that no client should get, and processes that did what they may not."""
        answers = [one for one in self.ledger.requests if one.result == "improper"]
        return [f"an answer: {one.detail}" for one in answers] + self._unexplained() + self.complaints

    def violations(self) -> list[str]:
        return [
            *(f"lost: {line}" for line in self.lost()),
            *(f"not reported: {line}" for line in self.unreported()),
            *(f"doubled: {line}" for line in self.doubled()),
            *(f"wrong: {line}" for line in self.wrong()),
            *(f"improper: {line}" for line in self.improper()),
        ]

    def direct_right(self) -> int:
        return sum(right for _, right in self._direct())

    def _direct(self) -> Iterator[tuple[Done, bool]]:
        """Answers that no client waited for, and whether each is right."""
        for one in self.ledger.requests:
            outcome = self.audit.outcomes.get(one.id)
            if (one.direct or one.result == "queued") and isinstance(outcome, Done):
                image = self.expected.images[one.image]
                yield outcome, image.answers(outcome.indices, outcome.probabilities)

    def _unexplained(self) -> list[str]:
        """More accepted images than requests that could have brought them: one was admitted twice."""
        ledger = self.ledger
        direct = {one.id for one in ledger.requests if one.direct}
        through_http = sum(request_id not in direct for request_id in [*self.audit.outcomes, *self.audit.open])
        could = ledger.count(
            "right", "wrong", "expired", "given up", "damaged", "broken", "hung up", "unanswered", "improper"
        )
        could += (
            ledger.count("queued", direct=False) + self.damaged() + self.vanished()
        )  # Ingest sends the latter again.
        could += sum(one.result == "refused" and one.code == "stream_unavailable" for one in ledger.requests)
        could -= ledger.count("broken", "unanswered", direct=True)
        return [f"{through_http} images accepted of at most {could}"] if through_http > could else []

    def recoveries_s(self, kind: str) -> list[float]:
        """After each such fault was over, the time to the next right answer."""
        moments = self.ledger.right_s()
        ends = [fault.ended_s for fault in self.faults if fault.kind == kind]
        return [moment - end for end in ends if (moment := next_after(moments, end)) is not None]

    def failed(self, reason: str) -> int:
        return self.audit.reasons()[reason]

    def refused(self) -> str:
        return ", ".join(f"{code} {count}" for code, count in self.ledger.codes("refused").most_common())

    def vanished(self) -> int:
        """Accepted images that Sluice itself counted as lost by Redis."""
        return self.audit.counters.get("vanished", 0)

    def damaged(self) -> int:
        """Accepted images of which Sluice says that they, or their stored outcomes, were damaged."""
        return sum(is_damaged(outcome) for outcome in self.audit.outcomes.values())

    def superseded(self) -> int:
        return self.audit.counters.get("superseded", 0)

    def kinds(self) -> list[str]:
        return sorted({fault.kind for fault in self.faults})


def figures(report: Report) -> list[tuple[str, str]]:
    """The rows of the table: what, and how many."""
    ledger, audit, latencies = report.ledger, report.audit, report.ledger.latencies_s()
    return [
        ("sent", f"{len(ledger.requests)} in {report.load_s:.0f} s, seed {report.seed}"),
        ("accepted", str(audit.accepted)),
        ("refused", f"{ledger.count('refused')} ({report.refused() or 'none'})"),
        (
            "answered right",
            f"{ledger.count('right')} over HTTP, {report.direct_right()} stored without a waiting client",
        ),
        ("answered wrong", str(len(report.wrong()))),
        ("answered twice", str(len(report.doubled()))),
        ("lost", str(len(report.lost()))),
        ("lost by a fault that may lose images", f"{report.lost_in_window()} ({report.vanished()} counted)"),
        ("damaged, and reported as such", str(report.damaged())),
        ("improper", str(len(report.improper()))),
        ("deadline passed", str(ledger.count("expired"))),
        ("dead letter", f"{ledger.count('given up')} ({audit.dead_letters} dead letters)"),
        ("connection broken by a killed ingest", f"{ledger.count('broken')}, {ledger.count('unreachable')} not taken"),
        ("clients that hung up or cancelled", str(ledger.count("hung up", "cancelled"))),
        ("dropped without inference", f"{report.failed('cancelled')} cancelled, {report.failed('expired')} expired"),
        ("duplicated inference, or a completion repeated", str(report.superseded())),
        ("latency of right answers", f"p50 {_quantile(latencies, 0.5):.2f} s, p99 {_quantile(latencies, 0.99):.2f} s"),
        ("longest gap between right answers", f"{ledger.longest_gap_s(report.load_s):.1f} s"),
        ("until nothing was outstanding, at the end", f"{report.settle_s:.1f} s"),
    ]


def recovery(report: Report) -> list[tuple[str, str, str, str]]:
    """For each kind of fault: how often, and the median and the longest time to the next right answer."""
    rows = []
    for kind in report.kinds():
        times = report.recoveries_s(kind)
        shown = (f"{statistics.median(times):.2f} s", f"{max(times):.2f} s") if times else ("-", "-")
        rows.append((kind, str(report.done(kind)), *shown))
    return rows


def head(durability: str) -> list[str]:
    """When, which commit, and how the server keeps what it accepted."""
    git = shutil.which("git")
    words = [git or "git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(words, check=False, capture_output=True, text=True).stdout.strip() if git else ""
    when = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return [f"{when}, commit {commit or 'unknown'}, durability {durability}", ""]


def lines(report: Report) -> list[str]:
    """The report as Markdown, and below it what must not have happened."""
    table = ["| what | how many |", "| --- | --- |"]
    table += [f"| {what} | {count} |" for what, count in figures(report)]
    table += ["", "| fault | times | next right answer, median | longest |", "| --- | --- | --- | --- |"]
    table += [f"| {' | '.join(row)} |" for row in recovery(report)]
    violations = report.violations()
    result = "Nothing lost, doubled or wrong." if not violations else f"{len(violations)} violations:"
    return [*table, "", result, *violations[:_MOST_SHOWN], *(["..."] if len(violations) > _MOST_SHOWN else [])]


def _quantile(ascending: list[float], share: float) -> float:
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))] if ascending else float("nan")
