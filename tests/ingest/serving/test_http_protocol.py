"""HTTP/1.1 at the socket: offers to upgrade are ignored, heads have limits, and nobody fills the log."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from ingest.api.async_requests import Preferences
from tests.ingest.test_app import png, ranked
from tests.support.processes import Processes
from tests.support.redis.requests_direct import random_images

(IMAGE,) = random_images(1)
FILE = png(IMAGE)
POST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(FILE)
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"


def connect(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), timeout=30)


def responses(client: socket.socket, count: int) -> Iterator[tuple[int, bytes]]:
    """Status and body of so many responses with a Content-Length."""
    data = b""
    for _ in range(count):
        while b"\r\n\r\n" not in data:
            data += _more(client)
        head, _, data = data.partition(b"\r\n\r\n")
        lengths = [int(line[16:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: ")]
        while len(data) < lengths[0]:
            data += _more(client)
        yield int(head[9:12]), data[: lengths[0]]
        data = data[lengths[0] :]


def _more(client: socket.socket) -> bytes:
    received = client.recv(65536)
    assert received, "closed"
    return received


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)


@pytest.mark.parametrize("pause", [False, True])
def test_a_request_that_offers_an_upgrade_keeps_its_body(url: str, pause: bool) -> None:
    """With a length and in chunks, in one packet and in several, and the connection serves the next requests."""
    post = b"POST /predict HTTP/1.1\r\nHost: x\r\n" + UPGRADE
    requests = [
        (post + b"Content-Length: %d\r\n\r\n" % len(FILE), FILE),
        (post + b"Transfer-Encoding: chunked\r\n\r\n", chunked(FILE)),
        (post + b"Content-Length: %d\r\n\r\n" % len(FILE), FILE),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n", b""),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    ]
    with connect(url) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for head, body in requests:
            for part in (head, body[:100], body[100:]) if pause else (head + body,):
                client.sendall(part)
        answers = list(responses(client, len(requests)))
    assert [status for status, _ in answers] == [200] * 5
    best = str(ranked(IMAGE)[0]["label"]).encode()
    assert all(best in body for _, body in answers[:3])


def test_many_offers_in_one_packet_are_answered(url: str) -> None:
    """Each restarts the parser; none costs the stack."""
    with connect(url) as client:
        client.sendall((b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n") * 1500)
        assert {status for status, _ in responses(client, 1500)} == {200}


def test_curl_may_offer_http_2(url: str, tmp_path: Path) -> None:
    """As a user does it."""
    curl = shutil.which("curl")
    assert curl
    file = tmp_path / "image.png"
    file.write_bytes(FILE)
    command = [curl, "--silent", "--http2", "--form", f"image=@{file}", f"{url}/predict"]
    answer = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    assert str(ranked(IMAGE)[0]["label"]).encode() in answer


def test_a_tunnel_is_not_opened(url: str) -> None:
    """CONNECT is refused, and what follows it is not taken for a request."""
    with connect(url) as client:
        client.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while part := client.recv(65536):
            received += part
    assert received.count(b"HTTP/1.1 ") == 1
    assert received[9:12] in {b"400", b"404", b"405"}


@pytest.mark.parametrize(
    "head",
    [
        b"POST /predict HTTP/1.1\r\nHost: x\r\nPrefer: " + b"a" * 70_000 + b"\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nPrefer: " + b"a" * 90_000,
        b"POST /predict HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["one header", "no end", "many headers", "target"],
)
def test_a_head_has_limits(url: str, head: bytes) -> None:
    """431, and the connection is closed."""
    with connect(url) as client:
        client.sendall(head)
        received = b""
        while part := client.recv(65536):
            received += part
    assert received.startswith(b"HTTP/1.1 431 ")
    assert httpx.get(f"{url}/healthz").status_code == 200


def test_a_large_body_before_the_next_head_counts_for_no_head(url: str) -> None:
    """Pipelined, with the second head in pieces."""
    with connect(url) as client:
        client.sendall(
            b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000) + b"GET /he"
        )
        client.sendall(b"althz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [status for status, _ in responses(client, 2)] == [404, 200]


@pytest.mark.parametrize("size", [1, 1000, len(FILE)])
def test_a_body_may_come_in_any_parts(url: str, size: int) -> None:
    """The first part is kept as it is, and the others follow it."""
    parts = (FILE[at : at + size] for at in range(0, len(FILE), size))
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    with connect(url) as client:
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: image/png\r\n\r\n"
        client.sendall(head + body + b"0\r\n\r\n")
        ((status, found),) = responses(client, 1)
    assert status == 200, found


@pytest.mark.parametrize(
    ("begin", "more"),
    [(b"0\r\nX: ", b"y"), (b"0\r\n", b"y"), (b"0\r\n", b"X: y\r\n"), (b"5;a=", b"y"), (b"5;", b"a;"), (b"", b"0")],
    ids=["value", "name", "trailers", "extension", "extensions", "length"],
)
def test_what_follows_a_chunk_has_a_limit(url: str, begin: bytes, more: bytes) -> None:
    """100 MB of trailers took 1.9 GB, or held up all others for ten seconds at a time."""
    with connect(url) as client, suppress(OSError):  # It is closed while this side still sends.
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.sendall(chunked(FILE)[: -len(b"0\r\n\r\n")] + begin)
        sent = 0
        for _ in range(16):
            sent += client.send(more * (2**20 // len(more)))
        pytest.fail(f"{sent} bytes were taken")


def test_trailers_are_no_headers(url: str) -> None:
    """They come after the checks of a proxy, and after those of ingest. The next request is served."""
    post = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n%s\r\n%s0\r\n%s\r\n"
    wish = b"Webhook-URL: https://example.org/\r\n"
    body = chunked(FILE)[: -len(b"0\r\n\r\n")]
    with connect(url) as client:
        client.sendall(post % (b"", body, wish) + post % (wish, body, b"") + post % (b"", body, b"X: " + b"y" * 60_000))
        statuses = [status for status, _ in responses(client, 2)]
    assert statuses == [200, 400]


def test_requests_that_wait_for_a_response_are_not_read(url: str) -> None:
    """Those that a client sends ahead stay in the connection, and are answered in order. All of them took memory."""
    size = 2**18 // len(POST + FILE) + 1
    with connect(url) as client:
        client.settimeout(1)
        with pytest.raises(TimeoutError):
            client.sendall((POST + FILE) * size * 128)
        client.settimeout(30)
        assert {status for status, _ in responses(client, 2 * size)} == {200}


def test_malformed_requests_and_lost_clients_do_not_fill_the_log(processes: Processes) -> None:
    """One line for all that come within a minute. A client that goes may have sent more than one request."""
    processes.consumer(version=1)
    process, url = processes.ingest()
    for _ in range(5):
        with connect(url) as client:
            client.sendall((POST + FILE) * 10)
            assert client.recv(1)
    assert httpx.get(f"{url}/healthz").status_code == 200
    assert "Traceback" not in process.text
    for _ in range(50):
        with connect(url) as client:
            client.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 400 ")
    assert process.text.count("malformed") == 1
    assert "the last one from 127.0.0.1:" in process.text
    assert len(process.text.splitlines()) < 10


HEADERS = [
    "Prefer", "Authorization", "X-API-Key", "Idempotency-Key", "Content-Type", "Content-Encoding", "Accept",
    "Accept-Encoding", "Origin", "Host", "If-None-Match", "Range", "Cookie", "traceparent", "X-Forwarded-For", "Expect",
]  # fmt: skip
PATTERNS = [
    "a",
    " ",
    "\t",
    ",",
    ";",
    '"',
    "=",
    '"\\',
    'a="',
    ", ",
    "; ",
    "a,",
    "a;a=",
    "1",
    "-",
    "multipart/form-data; ",
    "=a;",
]


@pytest.mark.parametrize("header", HEADERS)
def test_no_header_takes_long(url: str, header: str) -> None:
    """Whatever fills 60 KB of it; the limit is generous, since other work shares the cores."""
    began = time.monotonic()
    for pattern in PATTERNS:
        value = (pattern * (60_000 // len(pattern))).strip() or "x"
        given = {header: value, **({"Content-Type": "image/png"} if header != "Content-Type" else {})}
        for path in ("/predict", "/results/x"):
            with connect(url) as client:
                head = "".join(f"{name}: {text}\r\n" for name, text in given.items())
                host = "" if header == "Host" else "Host: x\r\n"
                client.sendall(f"POST {path} HTTP/1.1\r\n{host}{head}Content-Length: 1\r\n\r\nx".encode())
                assert client.recv(65536).startswith(b"HTTP/1.1 ")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_preference_is_parsed_in_linear_time(pattern: str) -> None:
    """Eight kilobytes once took five seconds."""
    text = pattern * (60_000 // len(pattern))
    began = time.process_time()
    for value in (text, f'wait=3, "{text}', f'respond-async; "{text}", wait=1'):
        Preferences.parse([value])
    assert time.process_time() - began < 0.2


def test_a_slow_head_is_given_up(url: str) -> None:
    """A client that never ends its head holds a connection for some seconds."""
    with connect(url) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 408 ")
