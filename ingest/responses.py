"""What a client reads: the JSON of predictions and of problems. Pure, knows no Redis."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse

from ingest.errors import MEDIA_TYPE, Problem
from ingest.metrics import PROBLEMS
from ingest.shapes import Prediction
from results.outcome import Done

#: Digits of a probability after the point: float32 has seven significant ones.
_DIGITS = 7


def prediction(done: Done, *, model: str, labels: Sequence[str]) -> Prediction:
    """One image's answer: its labels, most probable first, and who gave it."""
    ranked = zip(done.indices, done.probabilities, strict=True)
    return {
        "success": True,
        "predictions": [{"label": labels[index], "probability": round(value, _DIGITS)} for index, value in ranked],
        "model": model,
        "version": done.version,
        "id": done.id,
    }


def stages(done: Done, *, decode_ms: float, total_ms: float) -> dict[str, str]:
    """Headers that say where the time went (Server-Timing, milliseconds) and what computed it."""
    timing = {"decode": decode_ms, "queue": done.queue_ms, "inference": done.run_ms, "total": total_ms}
    return {
        "Server-Timing": ", ".join(f"{stage};dur={spent:.2f}" for stage, spent in timing.items()),
        "X-Sluice-Provider": done.provider,
        "X-Sluice-Batch": str(done.batch),
    }


def cache_status(answers: Sequence[Done], *, on: bool) -> dict[str, str]:
    """The header that says whether all of these were known answers (RFC 9211); none where there is no cache."""
    if not on or not answers:
        return {}
    return {"Cache-Status": "sluice; hit" if all(done.cached for done in answers) else "sluice; fwd=miss"}


def problem_response(problem: Problem) -> JSONResponse:
    PROBLEMS.labels(problem.code).inc()
    return JSONResponse(
        problem.document(), status_code=problem.status, headers=problem.headers(), media_type=MEDIA_TYPE
    )


async def answer_problem(_request: Request, error: Exception) -> JSONResponse:
    """Starlette's exception handler for every Problem."""
    assert isinstance(error, Problem)
    return problem_response(error)
