"""The logs: one shape for all, request ids wherever they are known, and nothing in them that must not be there."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from stream.host import logs
from tests.ingest.test_app import png
from tests.support.processes import Process, Processes
from tests.support.redis.requests_direct import marked, random_images
from tests.support.waiting import wait_until

Lines = list[dict[str, object]]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What a logger of this test's own writes, about no request that an earlier test has named."""
    stream = io.StringIO()
    before = logs.request_ids.set(None)
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("a.room")
    logger.addHandler(handler)
    logger.propagate = False
    yield stream
    logger.removeHandler(handler)
    logs.request_ids.reset(before)


def log(form: logging.Formatter, message: str, *arguments: object, error: Exception | None = None) -> None:
    logger = logging.getLogger("a.room")
    logger.handlers[0].setFormatter(form)
    logger.warning(message, *arguments, exc_info=error)


def human() -> logging.Formatter:
    return logs.HumanFormatter("%(levelname)s %(name)s %(message)s")


def test_a_program_finds_each_field_under_its_name(stream: io.StringIO) -> None:
    """Numbers stay numbers; the message is the sentence that people read."""
    log(logs.JsonFormatter(), "claimed entry=%s deliveries=%d share=%.1f%% of %s", "1-0", 2, 12.34, "all")
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": "a.room",
        "message": "claimed entry=1-0 deliveries=2 share=12.3% of all",
        "entry": "1-0",
        "deliveries": 2,
        "share": 12.34,
    }


def test_a_line_names_its_partition_if_there_are_several(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """In text after the message, unless that says so itself; in JSON as a field. Another may come while this runs."""
    monkeypatch.setattr(logs, "_partitions", set())
    first = logs.partition_context(0)
    first.run(log, human(), "one")
    second = logs.partition_context(1)
    first.run(log, human(), "cannot read: %s", "gone")
    second.run(log, human(), "partition=%d is full", 0)
    second.run(log, logs.JsonFormatter(), "left")
    *lines, last = stream.getvalue().splitlines()
    assert [line.partition("a.room ")[2] for line in lines] == [
        "one", "cannot read: gone partition=0", "partition=0 is full",
    ]  # fmt: skip
    assert json.loads(last)["partition"] == 1


def test_a_connection_that_was_given_up_in_its_handshake_is_no_error() -> None:
    """uvloop reports it with a traceback, about one in thirty. Its other errors are logged."""
    program = """
import uvloop
from stream.host import logs
logs.configure("info", "human")
loop = uvloop.new_event_loop()
closed = RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")
for message, error in ("Fatal error on SSL protocol", closed), ("Fatal error on SSL protocol", ValueError("odd")):
    loop.call_exception_handler({"message": message, "exception": error})
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert [line for line in ended.stderr.splitlines() if "Error" in line] == ["ValueError: odd"]


def test_an_error_without_words_is_named(stream: io.StringIO) -> None:
    """As asyncio raises them; a line that ends after its colon says nothing."""
    log(human(), "cannot read: %s", TimeoutError())
    log(human(), "cannot read: %s", TimeoutError("no reply"))
    assert stream.getvalue().splitlines() == [
        "WARNING a.room cannot read: TimeoutError",
        "WARNING a.room cannot read: no reply",
    ]


def test_a_field_does_not_replace_what_every_line_has(stream: io.StringIO) -> None:
    """`level` is the line's, whatever an event calls its own."""
    log(logs.JsonFormatter(), "filled level=%s", "full")
    assert json.loads(stream.getvalue())["level"] == "warning"


@pytest.mark.parametrize("form", [human(), logs.JsonFormatter()])
def test_an_error_s_traceback_belongs_to_its_line(stream: io.StringIO, form: logging.Formatter) -> None:
    """One line in JSON; for people the traceback follows. No password in either."""
    try:
        raise ValueError("redis://me:hunter2@host:6379 refused")
    except ValueError as error:
        log(form, "cannot go on: %s", error, error=error)
    assert "Traceback" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()
    if isinstance(form, logs.JsonFormatter):
        (line,) = stream.getvalue().splitlines()
        assert "ValueError" in json.loads(line)["exception"]


@pytest.mark.parametrize(
    ("message", "argument"),
    [
        ("image %s", b"\x89PNG hunter2"),
        ("pixels=%s", memoryview(b"hunter2")),
        ("cannot reach %s", "rediss://user:hunter2@redis:6380/0"),
        ("cannot reach url=%s", "redis://:hunter2@redis"),
        ("header %s", "Authorization: Bearer hunter2"),
        ("header %s", "x-api-key: hunter2"),
        ("header %s", "Authorization: Basic hunter2"),
        ("headers %s", {"X-API-Key": "hunter2"}),
        ("headers %s", {"authorization": "Bearer hunter2"}),
        ("headers %s", [("authorization", "Basic hunter2")]),
    ],
)
@pytest.mark.parametrize("form", [human(), logs.JsonFormatter()])
def test_what_must_not_be_in_a_log_is_not(
    stream: io.StringIO, form: logging.Formatter, message: str, argument: object
) -> None:
    """Bytes, which would be an image's, passwords and keys."""
    log(form, message, argument)
    assert "hunter2" not in stream.getvalue()
    assert message.partition("%")[0] in stream.getvalue()


def test_nobody_forges_a_line(stream: io.StringIO) -> None:
    """Line breaks and a terminal's commands from outside are shown, not obeyed; a long text is cut."""
    log(human(), "client says %s", "a\r\nERROR forged\x1b[2J\u2028" + "x" * 9000)
    assert len(stream.getvalue().splitlines()) == 1
    assert "a\\r\\nERROR forged\\x1b[2J\\u2028" in stream.getvalue()
    assert len(stream.getvalue()) < 5000


def test_a_line_says_which_requests_it_is_about(stream: io.StringIO) -> None:
    """Those of its unit of work, unless the event names its own; outside of any, none."""
    log(human(), "at rest")
    logs.request_ids.set(["one", "two"])
    log(human(), "at work")
    log(logs.JsonFormatter(), "at work")
    log(human(), "at work request=%s", "two")
    rest, both, as_json, own = stream.getvalue().splitlines()
    assert rest.endswith("at rest")
    assert both.endswith("at work request=one,two")
    assert json.loads(as_json)["request"] == "one,two"
    assert own.endswith("at work request=two")


def lines(process: Process) -> Lines:
    """Each line of a process's log; it fails where one is no JSON."""
    return [json.loads(line) for line in process.text.splitlines()]


def test_one_id_finds_what_happened_to_an_image_everywhere(processes: Processes) -> None:
    """What the client receives as `id`, at ingest and at the consumer; uvicorn's lines have the same shape."""
    consumer = processes.consumer(rogue="raise", version=1, log_format="json")
    ingest, url = processes.ingest(log_format="json", log_level="debug")
    good = httpx.post(f"{url}/predict", content=png(random_images(1)[0])).json()["id"]
    bad = httpx.post(f"{url}/predict", content=png(marked()))
    assert bad.status_code == 500
    refused = httpx.post(f"{url}/predict?secret=hunter2", content=png(marked()))
    assert refused.status_code == 400
    (failed,) = [line for line in lines(consumer) if line["level"] == "error"]
    assert failed["request"] == bad.json()["id"]
    assert str(failed["message"]).startswith("inference failed entry=")
    # The last line is written once the answer has gone out.
    assert ingest.stop() == consumer.stop() == 0
    answered = [
        line
        for line in lines(ingest)
        if line["logger"] == "ingest.middleware.request_metrics" and line["method"] == "POST"
    ]
    assert [(line.get("request", ""), line["status"], line["route"]) for line in answered] == [
        (good, 200, "/predict"),
        (failed["request"], 500, "/predict"),
        (refused.headers["x-request-id"], 400, "/predict"),
    ]
    written = lines(ingest) + lines(consumer)
    assert {"uvicorn", "ingest.middleware.request_metrics", "consumers.onnx.loader", "consumers.worker"} <= {
        str(one["logger"]) for one in written
    }
    assert all({"time", "level", "logger", "message"} <= one.keys() for one in written)
    assert "hunter2" not in ingest.text


def test_a_process_that_breaks_says_so_in_the_same_shape(processes: Processes) -> None:
    """An exception that nobody catches is a line, too."""
    process = processes.start("tests.support.programs.broken_process")
    wait_until(lambda: process.status is not None, "it has ended")
    (line,) = lines(process)
    assert line["level"] == "critical"
    assert "ZeroDivisionError" in str(line["exception"])


@pytest.mark.parametrize(
    ("module", "wrong"),
    [
        ("consumers", {"models_dir": "no-such-folder"}),
        ("ingest", {"host": "0.0.0.0"}),
        ("ingest", {"port": "many"}),
        ("stream", {"redis_timeout_s": "0"}),
    ],
)
def test_a_program_that_does_not_begin_says_so_in_the_same_shape(
    module: str, wrong: dict[str, str], processes: Processes
) -> None:
    """One line and status 2; for people the same words without time and level."""
    program, people = (processes.start(module, log_format=form, **wrong) for form in ("json", "human"))
    assert (program.wait(), people.wait()) == (2, 2)
    (line,) = lines(program)
    assert (line["level"], line["logger"]) == ("critical", module)
    assert people.text == f"{line['message']}\n"
    assert people.text.startswith(f"python -m {module}: ")


def test_people_read_the_same_events(processes: Processes) -> None:
    """The default: a line begins with the time and the level."""
    consumer = processes.consumer(version=1).ready()
    assert consumer.stop() == 0
    assert all(line[:4].isdecimal() and " INFO " in line for line in consumer.text.splitlines())
