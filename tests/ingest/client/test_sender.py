"""What the client does with a response: a row, a retry, or the end. The service is scripted, HTTP is real."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Self

import pytest

from ingest.client import retry
from ingest.client.client import Client
from ingest.client.connection import Response, target
from ingest.client.decision import Abort, ItemFailed, Prediction, Result, Retry, decide
from ingest.client.item import Item
from ingest.client.retry import ServiceError, StoppedError, pause_s
from ingest.client.row import Row
from ingest.client.sender import Sender
from tests.support.scripted_service import Reply, Script, serve

GOOD = Reply(
    200,
    json.dumps(
        {
            "success": True,
            "predictions": [{"label": "cat", "probability": 0.5}],
            "model": "m",
            "version": "1",
            "id": "a",
        }
    ).encode(),
)
VALUES = b'{"values": [0.5, -2], "model": "m", "version": "1", "id": "a"}'
CAT = Row("cat.jpg", None, None, (Prediction("cat", 0.5),), "", "m", "1", "a")


def problem(code: str) -> bytes:
    return json.dumps({"title": "Title", "detail": "Detail.", "code": code}).encode()


@pytest.mark.parametrize(
    ("response", "decision"),
    [
        (Response(200, GOOD.body), Result((Prediction("cat", 0.5),), "m", "1", "a")),
        (Response(200, VALUES), Result((), "m", "1", "a", (0.5, -2.0))),
        (Response(200, b"<html>"), Abort("the server at this address is not Sluice")),
        (Response(200, b'{"predictions": 3}'), Abort("the server at this address is not Sluice")),
        (Response(422, problem("damaged_image")), ItemFailed("422 Title: Detail.", 422, "damaged_image")),
        (Response(413, b""), ItemFailed("413 without an explanation", 413)),
        (Response(415, problem("unsupported")), ItemFailed("415 Title: Detail.", 415, "unsupported")),
        (Response(400, problem("bad_parameter")), Abort("400 Title: Detail.")),
        (Response(401, b""), Abort("401 without an explanation. Put the key into the variable SLUICE_API_KEY.")),
        (Response(401, problem("x")), Abort("401 Title: Detail. Put the key into the variable SLUICE_API_KEY.")),
        (Response(404, problem("unknown_model")), Abort("404 Title: Detail.")),
        (Response(308, b"", location="https://x/"), Abort("308 without an explanation; the service may be at https://x/")),
        (Response(503, problem("overloaded"), retry_after="7"), Retry("503 Title: Detail.", 7.0)),
        (Response(429, problem("too_many"), retry_after="3"), Retry("429 Title: Detail.", 3.0)),
        (Response(502, b"<html>", retry_after="soon"), Retry("502 without an explanation", 0.0)),
        (Response(500, problem("inference_failed")), Retry("500 Title: Detail.", 0.0, True, 500, "inference_failed")),
        (Response(504, problem("deadline_passed")), Retry("504 Title: Detail.", 0.0, True, 504, "deadline_passed")),
    ],
)  # fmt: skip
def test_each_response_has_its_meaning(response: Response, decision: object) -> None:
    """For this image, for the next attempt, or for the run."""
    assert decide(response) == decision


def test_a_time_to_come_back_may_be_a_date() -> None:
    """RFC 9110, 10.2.3; a date that has passed means now."""
    for seconds in (100, -100):
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
        found = decide(Response(503, b"", retry_after=date))
        assert isinstance(found, Retry)
        assert found.after_s == pytest.approx(max(0, seconds), abs=2)


def test_pauses_grow_and_differ() -> None:
    """Twice as long each time up to a limit, at random, and never shorter than the service asks for."""
    for tries, longest in ((1, 0.5), (2, 1.0), (3, 2.0), (100, 15.0)):
        pauses = [pause_s(tries, 0) for _ in range(200)]
        assert longest / 2 <= min(pauses) < max(pauses) <= longest
        assert max(pauses) - min(pauses) > longest / 4
        asked = [pause_s(tries, 7) for _ in range(200)]
        assert 7 <= min(asked) < max(asked) <= 7 + longest


class Job:
    """A sender with what belongs to it."""

    def __init__(self, script: Script, *, limit_s: float = 30, model: str = "", api_key: str = "") -> None:
        self.reasons: list[str] = []
        self.client = Client(
            script.url, model=model, api_key=api_key, give_up_after_s=limit_s, on_retry=self.reasons.append
        )
        self.sender = Sender(self.client, top=3)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.sender.close()

    def send(self, data: bytes = b"image") -> Row:
        return self.sender.send(Item("cat.jpg", lambda: data))


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off in no time: its length is tested for itself."""
    monkeypatch.setattr(retry, "FIRST_S", 0.0)


def after(*replies: Reply) -> Iterator[Reply]:
    yield from replies
    while True:
        yield GOOD


@pytest.mark.usefixtures("no_pauses")
def test_an_image_is_sent_until_it_is_settled() -> None:
    """Busy, unavailable, broken off: each is one more attempt, and is reported."""
    script = after(Reply(503, problem("overloaded")), Reply(429), Reply(0), Reply(500), Reply(502, b"<html>"))
    with serve(lambda _: next(script)) as service, Job(service) as job:
        assert job.send() == CAT
        assert [body for _, _, body in service.got] == [b"image"] * 6
        assert job.reasons[0] == "503 Title: Detail."
        assert len(job.reasons) == 5 - 1  # a kept-open connection that breaks is opened again silently


@pytest.mark.usefixtures("no_pauses")
def test_an_image_that_always_fails_gets_its_error() -> None:
    """After five attempts, if the service answers at all. The next image is not affected."""
    bad = Reply(500, problem("inference_failed"))
    with serve(lambda body: bad if body == b"poison" else GOOD) as service, Job(service) as job:
        assert job.send(b"poison").error == "500 Title: Detail. (tried 5 times)"
        assert len(service.got) == 5
        assert job.send() == CAT


def test_the_run_ends_if_the_service_stays_unavailable() -> None:
    """After the time limit. The image gets no row, so that the next run sends it."""
    with serve(lambda _: Reply(503, problem("no_consumer"))) as service, Job(service, limit_s=0.2) as job:
        with pytest.raises(ServiceError, match="503 Title: Detail"):
            job.send()
        assert 1 <= len(service.got) <= 3


def test_a_pause_longer_than_the_limit_is_not_begun() -> None:
    """Retry-After of an hour ends the run at once."""
    with serve(lambda _: Reply(429, headers={"Retry-After": "3600"})) as service, Job(service) as job:
        began = time.monotonic()
        with pytest.raises(ServiceError):
            job.send()
        assert time.monotonic() - began < 5
        assert len(service.got) == 1


def test_a_number_of_labels_that_cannot_be_is_sent_as_it_is() -> None:
    """The service says what is wrong with 0. Left out, it would mean five."""
    to = target("http://x/y", api_key="")
    assert [to.predict_path("", top) for top in (None, 0, 3)] == ["/y/predict", "/y/predict?top=0", "/y/predict?top=3"]


def test_a_pause_ends_when_the_run_is_stopped() -> None:
    """Ctrl-C does not wait for Retry-After."""
    with serve(lambda _: Reply(503, headers={"Retry-After": "20"})) as service, Job(service) as job:
        threading.Timer(0.1, job.client.abort).start()
        began = time.monotonic()
        with pytest.raises(StoppedError):
            job.send()
        assert time.monotonic() - began < 5


def test_a_connection_that_the_service_closed_is_opened_again() -> None:
    """Between two images: no retry, no pause, no message."""
    closing = Reply(200, GOOD.body, hangs_up=True)
    with serve(lambda _: closing) as service, Job(service) as job:
        assert [job.send() for _ in range(3)] == [CAT] * 3
        assert len(service.got) == 3
        assert job.reasons == []


def test_a_connection_that_breaks_while_it_is_opened_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service ends at that moment."""
    connect, errors = socket.create_connection, iter([ConnectionResetError()])

    def breaking_once(address: tuple[str, int], *options: Any) -> socket.socket:
        for error in errors:
            raise error
        return connect(address, *options)

    monkeypatch.setattr(socket, "create_connection", breaking_once)
    with serve(lambda _: GOOD) as service, Job(service) as job:
        assert job.send() == CAT
        assert job.reasons == ["the connection broke off"]


def test_the_request_says_what_the_command_said() -> None:
    """Model, number of labels and key."""
    with serve(lambda _: GOOD) as service, Job(service, model="a/b", api_key="secret") as job:
        job.send()
        ((path, headers, body),) = service.got
        assert (path, body) == ("/predict/a%2Fb?top=3", b"image")
        assert headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("url", "key"),
    [("127.0.0.1:5000", ""), ("ftp://x", ""), ("http://", ""), ("http://x", "a\nb: c"), ("http://x", "é"),
     ("http://x/a b", ""), ("http://x/é", "")],
)  # fmt: skip
def test_a_url_or_key_that_cannot_be_used_is_refused_before_the_run(url: str, key: str) -> None:
    """Not once for each image."""
    with pytest.raises(ValueError, match=r"URL|API key"):
        target(url, api_key=key)


def test_values_need_an_output_that_can_hold_them() -> None:
    """A model without labels gives values: a row of JSON has them, CSV has no columns for them."""
    item = Item("cat.jpg", lambda: b"image")
    with serve(lambda _: Reply(200, VALUES)) as service, Client(service.url) as client:
        assert Sender(client).send(item).values == (0.5, -2.0)
        with pytest.raises(ServiceError, match=r"need --output FILE\.jsonl"):
            Sender(client, values=False).send(item)
