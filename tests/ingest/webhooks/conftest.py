"""A receiver of webhooks that answers in every way that one can."""

from collections.abc import Iterator

import pytest

from tests.support.recorded_server import Answer, Failing, Recorded, body, redirect, serve, silent


@pytest.fixture
def receiver() -> Iterator[Recorded]:
    answers: dict[str, Answer] = {
        "/ok": body(b"", status=204),
        "/twice": Failing(500, 429),
        "/never": body(b"", status=500),
        "/gone": body(b"", status=410),
        "/elsewhere": redirect("/ok", 307),
        "/silent": silent,
    }
    with serve(answers) as recorded:
        yield recorded
