"""Failures: which Problem a failed outcome is to its client. Pure, knows no HTTP."""

from ingest.errors import Cancelled, DeadlinePassed, InferenceFailed, Overloaded
from ingest.outage import RETRY_S
from results.outcome import Done, Failed, Outcome


def done_or_problem(outcome: Outcome) -> Done:
    """The answer, or the Problem that a failure is to a client, raised."""
    match outcome:
        case Done():
            return outcome
        case Failed(reason="expired"):
            raise DeadlinePassed(
                f"{outcome.detail} Send it again, or look later whether it was answered after all.",
                request_id=outcome.id,
            )
        case Failed(reason="cancelled"):
            raise Cancelled(outcome.detail, request_id=outcome.id)
        case Failed(reason="wrong_size"):
            raise Overloaded(f"The model is being replaced: {outcome.detail}", retry_after_s=RETRY_S)
        case Failed():
            raise InferenceFailed(outcome.detail, request_id=outcome.id)
