"""Which class a request's images get, over all interfaces, and that a full class refuses no image of the other."""

import contextlib
import functools
import io
import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from starlette.datastructures import Headers, QueryParams
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from ingest.errors import BadParameter
from ingest.keys import main
from ingest.priority import priority_of
from stream.keys import PRIORITIES, Priority
from tests.ingest.oip.test_bulk import request
from tests.ingest.test_app import png
from tests.support.grpc_service import ingest, tensor
from tests.support.processes import Processes
from tests.support.redis.requests_direct import TINY, random_images
from tests.support.redis.servers import Server

IMAGE = png(random_images(1)[0])


def asked(query: str = "", *headers: str, default: Priority = "interactive") -> Priority:
    raw = [(b"priority", header.encode()) for header in headers]
    return priority_of(Headers(raw=raw), QueryParams(query), default=default)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        *((f"u={urgency}", "interactive") for urgency in range(5)),
        *((f"u={urgency}", "bulk") for urgency in range(5, 8)),
        ("u=1, i", "interactive"),
        ("i, u=6", "bulk"),
        ("u=2,u=7", "bulk"),
        (' u=6;a="b" , newer=5', "bulk"),
    ],
)
def test_the_header_is_read_as_the_rfc_says(header: str, expected: Priority) -> None:
    """The urgency decides, whatever the endpoint's default is."""
    for default in PRIORITIES:
        assert asked("", header, default=default) == expected


def test_the_query_wins_and_the_default_is_the_endpoint_s() -> None:
    """Several headers are one list. A header without an urgency says nothing about the class."""
    for default in PRIORITIES:
        for header in ((), ("i",), ("",), ("newer=7",), ("i", "i;q=1")):
            assert asked("", *header, default=default) == default
    assert asked("priority=bulk", "u=0") == "bulk"
    assert asked("priority=interactive", "u=7") == "interactive"
    assert asked("", "i", "u=7") == "bulk"


@pytest.mark.parametrize(
    ("query", "header"),
    [("priority=high", ""), ("priority=", ""), ("priority=bulk&priority=bulk", ""), ("priority=Bulk", ""),
     *(("", one) for one in ("u=8", "u=-1", "u", "u=5.0", 'u="5"', "u=high", "bulk", "5", "u=\xb2", "bulk, u=5"))],
)  # fmt: skip
def test_a_value_that_makes_no_sense_is_refused_with_what_to_write(query: str, header: str) -> None:
    """Silently ignored, it would leave a folder among the interactive images."""
    with pytest.raises(BadParameter, match=r"be given once, as interactive or bulk|or metadata priority .* write u=0"):
        asked(query, *([header] if header else []))


class Service:
    """An ingest without consumers: what it accepts stays in the streams."""

    def __init__(self, http: httpx.Client, address: str, redis_client: redis.Redis) -> None:
        self.http = http
        self.address = address
        self._client = redis_client

    def queued(self) -> tuple[int, int]:
        """How many interactive and bulk images are in the streams."""
        interactive, bulk = (self._client.xlen(TINY.stream(priority).key) for priority in PRIORITIES)
        return int(interactive), int(bulk)

    def classes_of(self, send: Callable[[], object]) -> tuple[int, int]:
        """How many interactive and bulk images `send` adds."""
        before = self.queued()
        send()
        after = self.queued()
        return after[0] - before[0], after[1] - before[1]


@pytest.fixture
def service(processes: Processes, server: Server) -> Iterator[Service]:
    processes.consumer(version=1).ready().stop()
    short: dict[str, Any] = {"request_timeout_s": 0.2, "max_wait_s": 0.1, "max_backlog": 30}
    _, address, url = ingest(processes, accept_without_consumers=True, **short)
    with httpx.Client(base_url=url, timeout=30) as http, redis.Redis.from_url(server.url) as client:
        yield Service(http, address, client)


BACKGROUND = {"Prefer": "respond-async"}
V1 = json.dumps({"instances": [{"b64": b64encode(IMAGE).decode()}]})
V2 = json.dumps(request(random_images(1)))

#: Path, body, headers, and how many interactive and bulk images they add.
CASES: tuple[tuple[str, str | bytes, dict[str, str], tuple[int, int]], ...] = (
    ("/predict", IMAGE, {}, (1, 0)),
    ("/predict", IMAGE, {"Prefer": "wait=0"}, (1, 0)),
    ("/predict", IMAGE, BACKGROUND, (0, 1)),
    ("/predict/tiny?priority=interactive", IMAGE, BACKGROUND, (1, 0)),
    ("/predict?priority=bulk", IMAGE, {}, (0, 1)),
    ("/predict", IMAGE, {"Priority": "u=5"}, (0, 1)),
    ("/predict", IMAGE, {"Priority": "u=3", **BACKGROUND}, (1, 0)),
    ("/v2/models/tiny/infer", V2, {}, (1, 0)),
    ("/v2/models/tiny/infer?priority=bulk", V2, {}, (0, 1)),
    ("/v1/models/tiny:predict", V1, {}, (1, 0)),
    ("/v1/models/tiny:predict", V1, {"Priority": "u=7"}, (0, 1)),
)


def test_each_interface_has_its_default_and_takes_another(service: Service) -> None:
    """And the images are in the stream of that class. A call over gRPC says it in its metadata."""
    for path, body, headers, expected in CASES:
        send = functools.partial(service.http.post, path, content=body, headers=headers)
        assert service.classes_of(send) == expected, (path, headers)
    assert service.classes_of(lambda: infer(service, {}, "DEADLINE_EXCEEDED")) == (1, 0)
    assert service.classes_of(lambda: infer(service, {"priority": "u=6"}, "DEADLINE_EXCEEDED")) == (0, 1)


def infer(service: Service, metadata: dict[str, str], status: str) -> None:
    """Call ModelInfer, which ends with this status."""
    with triton.InferenceServerClient(service.address) as client, pytest.raises(InferenceServerException) as raised:
        client.infer("tiny", tensor(random_images(1)), headers=metadata)
    assert raised.value.status() == f"StatusCode.{status}"


def test_a_wrong_class_is_a_400_before_the_body_is_read(service: Service) -> None:
    """Over all interfaces in their own form. So is an option that is unknown there."""
    for path in ("/predict", "/v2/models/tiny/infer", "/v1/models/tiny:predict"):
        for query, headers in (("?priority=urgent", {}), ("?urgent=1", {}), ("", {"Priority": "u=9"})):
            answer = service.http.post(f"{path}{query}", content=b"no image", headers=headers)
            assert answer.status_code == 400
            assert "urgent" in answer.text or "u=9" in answer.text
    infer(service, {"priority": "u=9"}, "INVALID_ARGUMENT")
    assert service.queued() == (0, 0)


def test_a_full_class_refuses_no_image_of_the_other(service: Service) -> None:
    """Each has all of max_backlog to itself, and the refusal says when to come back."""

    def send(priority: Priority) -> httpx.Response:
        return service.http.post(f"/predict?priority={priority}", content=IMAGE, headers=BACKGROUND)

    for full, already in (("bulk", 0), ("interactive", 1)):
        full_class: Priority = full  # type: ignore[assignment]
        assert [send(full_class).status_code for _ in range(30 - already)] == [202] * (30 - already)
        for _ in range(2):
            refused = send(full_class)
            assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
            assert ("bulk" in refused.json()["detail"]) == (full == "bulk")
            assert int(refused.headers["retry-after"]) >= 1
        if full == "bulk":
            assert send("interactive").status_code == 202


def test_a_key_may_be_limited_to_bulk(processes: Processes, server: Server, tmp_path: Path) -> None:
    """Its images are bulk, whatever the header says; to ask for the other class by name is refused."""
    keys = tmp_path / "keys"
    limited, whole = (capture(keys, name, *marks) for name, marks in (("robot", ["--bulk"]), ("alice", [])))
    processes.consumer(version=1).ready().stop()
    _, address, url = ingest(processes, accept_without_consumers=True, api_keys_file=keys, request_timeout_s=0.2,
                             max_wait_s=0.1)  # fmt: skip
    with httpx.Client(base_url=url, timeout=30) as http, redis.Redis.from_url(server.url) as client:
        service = Service(http, address, client)
        for key, expected in ((limited, (0, 1)), (whole, (1, 0))):
            headers = {"Authorization": f"Bearer {key}", "Priority": "u=0"}
            send = functools.partial(http.post, "/predict", content=IMAGE, headers=headers)
            assert service.classes_of(send) == expected
            call = functools.partial(infer, service, {"authorization": f"Bearer {key}"}, "DEADLINE_EXCEEDED")
            assert service.classes_of(call) == expected
        refused = http.post("/predict?priority=interactive", content=IMAGE, headers={"X-API-Key": limited})
        assert (refused.status_code, refused.json()["code"]) == (403, "bulk_key")


def capture(file: Path, *arguments: str) -> str:
    """A new key, as `python -m ingest.keys add` prints it."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["add", *arguments, "--file", str(file)]) == 0
    return printed.getvalue().strip()
