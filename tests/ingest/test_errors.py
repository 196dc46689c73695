"""Problems: each says its status, its code and what to do, in the shape of RFC 9457."""

import pytest

from ingest import errors as problems
from ingest.errors import InferenceFailed, NoImage, Overloaded, Problem, RequestTimeout, problem_of
from ingest.responses import problem_response
from results.outcome import UNANSWERED, VANISHED, Failed


def subclasses() -> list[type[Problem]]:
    return [kind for kind in vars(problems).values() if isinstance(kind, type) and issubclass(kind, Problem)]


def test_a_problem_is_a_problem_details_object() -> None:
    """The document has RFC 9457's members, our code, and success as every answer has it."""
    assert NoImage("The form is empty. Send an image.").document() == {
        "type": "urn:sluice:problem:no_image",
        "title": "No image",
        "status": 400,
        "detail": "The form is empty. Send an image.",
        "code": "no_image",
        "success": False,
    }


def test_a_problem_of_an_accepted_image_says_its_id() -> None:
    """By which its client, and the operator of the service, find it again."""
    failed = InferenceFailed("The model failed.", request_id="one")
    assert failed.document()["id"] == "one"
    assert problem_response(failed, "/predict").headers["location"] == "/results/one"
    assert problem_response(failed, "/v2/models/m/infer", threshold=0.5).headers["location"] == (
        "/results/one?threshold=0.5"
    )
    assert "location" not in problem_response(NoImage("nothing"), "/predict").headers


@pytest.mark.parametrize(("wait_s", "header"), [(0.01, "1"), (1.2, "2"), (30, "30")])
def test_retry_after_is_in_whole_seconds_and_never_too_early(wait_s: float, header: str) -> None:
    """Fractions are rounded up, and no client is asked to come back at once."""
    problem = Overloaded("The queue is full.", retry_after_s=wait_s)
    assert problem.headers() == {"Retry-After": header}
    assert problem.document()["retry_after"] == int(header), "one image of several has no header"


def test_a_problem_without_a_wait_has_no_headers() -> None:
    """Retry-After is sent only where waiting helps."""
    assert NoImage("nothing").headers() == {}


def test_a_request_that_is_too_slow_ends_its_connection() -> None:
    """What is still to come of the body must not be taken for the next request."""
    assert RequestTimeout("slow").headers() == {"Connection": "close"}


def test_every_problem_has_a_code_of_its_own() -> None:
    """A client can tell problems apart by their code alone."""
    codes = [kind.code for kind in subclasses()]
    assert len(codes) == len(set(codes)) > 12


def test_every_problem_stands_in_the_drawing() -> None:
    """The tree in the module's docstring names each class with its status."""
    drawing = " ".join((problems.__doc__ or "").split())
    for kind in subclasses():
        assert kind is Problem or f"{kind.__name__} {kind.status}" in drawing


def test_only_what_may_be_answered_later_says_so() -> None:
    """An image that a consumer has dropped is not answered any more, nor is one that Redis has lost."""
    dropped = "The deadline passed before the image was classified."
    details = [problem_of(Failed("one", "expired", detail)).detail for detail in (UNANSWERED, dropped, VANISHED)]
    assert ["look later" in detail for detail in details] == [True, False, False]
    assert [detail.count("Send it again") for detail in details] == [1, 1, 1]


def test_the_message_of_the_exception_is_the_detail() -> None:
    """A problem that reaches a log says there what the client would have read."""
    assert str(NoImage("The form is empty.")) == "The form is empty."
