"""Broken forms, content types and images over a real socket: a 4xx, and a server that serves on."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.ingest.test_fuzz import CASES, FILES, kept_bytes, verdict
from tests.support.upload_server import LIMITS, UploadServer, serve

# As in production, where Pillow's warnings are ignored: as errors they would end some files before they can do harm.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

BOUNDARY = b"----boundary"
FIELD = b'Content-Disposition: form-data; name="image"; filename="cat.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
FORM = b"--" + BOUNDARY + b"\r\n" + FIELD + FILES["jpeg"] + b"\r\n--" + BOUNDARY + b"--\r\n"
PIECES = [
    b"\r\n--" + BOUNDARY,
    b"--" + BOUNDARY + b"\r\n",
    b"--",
    b"\r\n",
    b"\r",
    b"\r\n\r\n",
    FIELD,
    b"Content-Type: multipart/mixed; boundary=" + BOUNDARY + b"\r\n",
    b'; filename="',
    b"; filename*=utf-8''%ff%",
    b"Content-Transfer-Encoding: base64\r\n",
    b"X: " + b"y" * 3000 + b"\r\n",
    b"X: y\r\n" * 20,
    b'"' * 50,
    b"\0",
    bytes(range(256)),
]


@pytest.fixture(scope="module")
def site() -> Iterator[UploadServer]:
    with serve(replace(LIMITS, body_timeout_s=5)) as served:
        yield served


def posted(body: bytes, content_type: bytes, length: int | None = None) -> bytes:
    head = b"POST /decode HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: " + content_type
    return head + b"\r\nContent-Length: %d\r\n\r\n" % (len(body) if length is None else length) + body


def mutated(chance: random.Random, body: bytes, pieces: list[bytes]) -> bytes:
    """The body with one to five pieces put in, cut out, doubled or flipped."""
    for _ in range(chance.randint(1, 5)):
        start = chance.randrange(len(body) + 1)
        end = min(len(body), start + chance.choice((1, 2, 10, 100)))
        piece = chance.choice(
            (chance.choice(pieces), b"", body[start:end] * 2, bytes((chance.randrange(256),)), body[start:end][::-1])
        )
        body = body[:start] + piece + body[end:]
    return body


def status_of(site: UploadServer, request: bytes) -> int:
    response = site.exchange(request)
    assert response.startswith(b"HTTP/1.1 "), request[:300]
    status = int(response[9:12])
    assert status == 200 or 400 <= status < 500, (request[:2000], response, site.mistakes)
    return status


def test_forms_with_anything_wrong_are_refused_over_http(site: UploadServer) -> None:
    """Whatever is put into, cut out of or doubled in a form, the client reads a 4xx or its prediction."""
    chance = random.Random(20)
    statuses = Counter(
        status_of(site, posted(mutated(chance, FORM, PIECES), b"multipart/form-data; boundary=" + BOUNDARY))
        for _ in range(CASES)
    )
    assert len(statuses) >= 3, statuses
    assert site.mistakes == []


def test_content_types_with_anything_wrong_are_refused_over_http(site: UploadServer) -> None:
    """The header that names the boundary, itself damaged; bytes that HTTP forbids in headers are left out."""
    chance = random.Random(21)
    for _ in range(max(20, CASES // 10)):
        kind = mutated(chance, b"multipart/form-data; boundary=" + BOUNDARY, [b";", b'"', b"=", b"*", b" ", b"x" * 99])
        status_of(site, posted(FORM, bytes(byte for byte in kind if 32 <= byte < 127)))
    assert site.mistakes == []


def test_damaged_images_are_refused_over_http(site: UploadServer) -> None:
    """The files of all formats with flipped bits, as bodies, under the wrong types as well."""
    chance = random.Random(22)
    kinds = [b"image/jpeg", b"text/html", b"application/json", b"application/x-www-form-urlencoded", b""]
    for _ in range(CASES):
        data = bytearray(FILES[chance.choice(sorted(FILES))])
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        status_of(site, posted(bytes(data), chance.choice(kinds)))
    assert site.mistakes == []


def test_a_body_shorter_than_declared_is_nobodys_fault(site: UploadServer) -> None:
    """The client leaves in the middle: no answer is owed, and none of our mistakes is logged."""
    for length in range(0, len(FORM), max(1, len(FORM) // 30)):
        with site.connect() as connection:
            connection.sendall(posted(FORM[:length], b"multipart/form-data; boundary=" + BOUNDARY, len(FORM)))
    assert site.gone.wait(timeout=20)
    assert site.mistakes == []


def test_memory_does_not_grow(site: UploadServer) -> None:
    """Damaged files, decoded here and sent there: after the first quarter nothing more is kept of them."""
    chance = random.Random(23)

    def damage(rounds: int) -> None:
        for _ in range(rounds):
            data = bytearray(FILES[chance.choice(sorted(FILES))])
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            verdict(bytes(data))
            status_of(site, posted(mutated(chance, FORM, PIECES), b"multipart/form-data; boundary=" + BOUNDARY))

    damage(CASES // 4)
    before = kept_bytes()
    damage(CASES - CASES // 4)
    assert kept_bytes() < before * 1.1


def test_the_server_still_serves(site: UploadServer) -> None:
    """After all of this an image is decoded as before."""
    assert status_of(site, posted(FORM, b"multipart/form-data; boundary=" + BOUNDARY)) == 200
