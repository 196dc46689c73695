"""Calls that no gRPC library sends, written frame by frame (RFC 9113, RFC 7541): each ends with its own status."""

import base64
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest
from tritonclient.grpc import service_pb2 as pb

from ingest.auth.api_keys import new_key
from tests.ingest.grpc_api.test_calls import INFER, counted
from tests.support.grpc_service import black, ingest
from tests.support.models import tiny_model
from tests.support.processes import Process, Processes
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until

_DATA, _HEADERS, _RESET, _SETTINGS = 0, 1, 3, 4
_END_STREAM, _END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content


def headers(metadata: dict[bytes, bytes]) -> bytes:
    """A call's headers, each as a literal without an index."""
    own = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": INFER.encode(),
        b":authority": b"x",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    }
    written = (b"\0%c%b%c%b" % (len(name), name, len(value), value) for name, value in (own | metadata).items())
    return frame(_HEADERS, _END_HEADERS, 1, b"".join(written))


def message(request: pb.ModelInferRequest) -> bytes:
    text: bytes = request.SerializeToString()
    return b"\0" + len(text).to_bytes(4, "big") + text


@contextmanager
def sent(address: str, *frames: bytes) -> Iterator[socket.socket]:
    """A connection on which these frames were sent."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(_SETTINGS, 0, 0) + b"".join(frames))
        yield connection


@dataclass(frozen=True, slots=True)
class Service:
    """A service that needs this API key. `url` has it."""

    address: str
    url: str
    key: bytes
    process: Process

    def statuses(self) -> Counter[int]:
        """How often ModelInfer ended with each status so far."""
        return Counter({one: int(counted(self.url, INFER, one)) for one in (200, 400, 401, 499, 500, 504)})

    def ended(self, *frames: bytes) -> Counter[int]:
        """The status with which the call of these frames ends."""
        before = self.statuses()
        with sent(self.address, *frames):
            wait_until(lambda: self.statuses() != before, "the call has ended")
        return self.statuses() - before


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("wire")
    tiny_model.build(folder / "models")
    server = Server(folder)
    server.start()
    try:
        with Processes(folder, redis_url=server.url, models_dir=folder / "models") as processes:
            processes.consumer()
            key = new_key()
            process, address, url = ingest(
                processes, api_keys=f"alice:{key}", rate_limit_per_s=1000, rate_limit_burst=1000, max_upload_bytes=2**20
            )
            yield Service(address, url.replace("//", f"//anybody:{key}@"), key.encode(), process)
    finally:
        server.kill()


BODY = frame(_DATA, _END_STREAM, 1, message(black()))


@pytest.mark.parametrize("value", ["\u043a\u043b\u044e\u0447".encode(), b"\xff\xfe", b"a\tb", b"\x7f", b"", b" "])
def test_metadata_of_any_bytes_is_refused_or_served(service: Service, value: bytes) -> None:
    """Never an error of the service: in what it reads itself, and in what only names the client."""
    assert service.ended(headers({b"authorization": value}), BODY) == {401: 1}
    assert service.ended(headers({b"x-api-key": value}), BODY) == {401: 1}
    others = (b"x-anything", b"user-agent", b"traceparent", b"x-forwarded-for", b"x-sluice-client")
    metadata = {b"x-api-key": service.key, b"x-some-bin": base64.b64encode(value)} | dict.fromkeys(others, value)
    assert service.ended(headers(metadata), BODY) == {200: 1}
    assert "Traceback" not in service.process.text


@pytest.mark.parametrize("content", [b"\xff" * 5, b"\x0a\xff\xff\xff\xff\x0f", b"\x2a\x80\x01" * 5000 + b"x"])
def test_what_is_no_message_is_the_fault_of_its_client(service: Service, content: bytes) -> None:
    """It was an error of the service, with a traceback in the log."""
    body = frame(_DATA, _END_STREAM, 1, b"\0" + len(content).to_bytes(4, "big") + content)
    assert service.ended(headers({b"x-api-key": service.key}), body) == {400: 1}
    assert "Traceback" not in service.process.text


def test_clients_that_go_while_they_send_are_gone(service: Service) -> None:
    """They made no bad request, and count as none. Their end arrives before its reason, so only some would.

    256 messages of the largest size may arrive at once, so none of these calls is refused to make room for another.
    """
    before = service.statuses()
    half = frame(_DATA, 0, 1, message(black())[:5])
    with ExitStack() as connections:
        for _ in range(150):
            connections.enter_context(sent(service.address, headers({b"x-api-key": service.key}), half))
        service.process.send(signal.SIGSTOP)
    service.process.send(signal.SIGCONT)
    wait_until(lambda: (service.statuses() - before).total() == 150, "all calls have ended")
    assert service.statuses() - before == {499: 150}


@pytest.mark.parametrize(("deadline", "ends"), [(b"0n", 504), (b"1n", 504), (b"0S", 504), (b"99999999H", 200)])
def test_any_deadline_is_a_deadline(service: Service, deadline: bytes, ends: int) -> None:
    """One that has passed, and one that will not."""
    metadata = {b"x-api-key": service.key, b"grpc-timeout": deadline}
    assert service.ended(headers(metadata), BODY) == {ends: 1}


@pytest.mark.parametrize(
    "path", [b"/\xff\xfe", b"\x80" * 9, b"", b"/", INFER.encode() + b"\xff", INFER.encode() + b"/"]
)
def test_a_path_of_any_bytes_ends_its_own_call_alone(service: Service, path: bytes) -> None:
    """gRPC ends its whole server for one that is no UTF-8. Calls that are in progress end with their response."""
    begun = message(black())
    with sent(service.address, headers({b"x-api-key": service.key}), frame(_DATA, 0, 1, begun[:5])) as other:
        for _ in range(20):
            with sent(service.address, headers({b":path": path})) as hostile:
                assert received(hostile, b"grpc-status\x0212"), "UNIMPLEMENTED"
        before = service.statuses()
        other.sendall(frame(_DATA, _END_STREAM, 1, begun[5:]))
        wait_until(lambda: service.statuses() != before, "the call in progress has ended")
        assert service.statuses() - before == {200: 1}
    assert service.ended(headers({b"x-api-key": service.key}), BODY) == {200: 1}


@pytest.mark.parametrize("name", [b"te", b":scheme", b"grpc-encoding", b"grpc-timeout"])
def test_a_malformed_call_writes_nothing_to_the_log(service: Service, name: bytes) -> None:
    """gRPC's core wrote a line for each, so that any client could fill the log."""
    with sent(service.address, headers({name: b"-1"})) as connection:
        assert received(connection, b"grpc-status\x0213"), "INTERNAL"
    assert "Error parsing" not in service.process.text


def received(connection: socket.socket, wanted: bytes) -> bool:
    """Whether these bytes arrive before the connection ends."""
    arrived = b""
    while wanted not in arrived and (more := connection.recv(2**16)):
        arrived += more
    return wanted in arrived
