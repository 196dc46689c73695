"""The limits of an upload: images, parts, bytes, and time."""

import json
from typing import Any

import pytest

from tests.ingest.test_uploads import BOUNDARY, CAT, GOOD, form, image_part, part, post, problem
from tests.support.upload_server import LIMITS, UploadServer, answer


def test_too_many_images_are_refused(site: UploadServer) -> None:
    """One more than the limit; the limit itself is taken."""
    parts = [image_part()] * LIMITS.max_images
    assert len(post(site, form(*parts)).json()) == LIMITS.max_images
    assert problem(post(site, form(*parts, image_part()))) == (413, "payload_too_large")


def test_too_many_other_parts_are_refused(site: UploadServer) -> None:
    """A form of a thousand fields is no form with an image."""
    field = part(b'Content-Disposition: form-data; name="x"', b"")
    assert problem(post(site, form(*[field] * 65))) == (413, "payload_too_large")


@pytest.mark.parametrize("content_type", [None, b"image/jpeg"])
def test_the_limit_of_bytes_is_exact(site: UploadServer, content_type: bytes | None) -> None:
    """The limit counts the whole body, whatever is in it."""
    overhead = len(form(image_part(b"")))
    data = bytes(LIMITS.max_bytes - overhead)
    body = form(image_part(data)) if content_type is None else bytes(LIMITS.max_bytes)
    assert post(site, body, content_type).status_code == 200
    assert problem(post(site, body + b"!", content_type)) == (413, "payload_too_large")


def head(*lines: bytes) -> bytes:
    return b"\r\n".join((b"POST / HTTP/1.1", b"Host: localhost", *lines)) + b"\r\n\r\n"


def body_of(response: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(response.partition(b"\r\n\r\n")[2])
    return document


@pytest.mark.parametrize("length", [b"200001", b"99999999999999999999999"])
def test_a_declared_size_is_refused_before_the_body_is_sent(site: UploadServer, length: bytes) -> None:
    """The answer comes while the client still waits for 100 Continue."""
    with site.connect() as connection:
        connection.sendall(head(b"Content-Length: " + length, b"Expect: 100-continue", b"Connection: close"))
        response = answer(connection)
    assert response.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))
    assert b"100 Continue" not in response


@pytest.mark.parametrize("content_type", [b"image/jpeg", b"multipart/form-data; boundary=" + BOUNDARY])
def test_an_endless_body_is_refused_at_the_limit(site: UploadServer, content_type: bytes) -> None:
    """A chunked body declares no size; the answer comes though the body has not ended."""
    with site.connect() as connection:
        connection.sendall(head(b"Transfer-Encoding: chunked", b"Connection: close", b"Content-Type: " + content_type))
        start = part(GOOD, b"")
        connection.sendall(b"%x\r\n%b\r\n" % (len(start), start))
        connection.sendall((b"%x\r\n%b\r\n" % (50_000, bytes(50_000))) * 5)
        response = answer(connection)
    assert response.startswith(b"HTTP/1.1 413")
    assert body_of(response)["code"] == "payload_too_large"


@pytest.mark.parametrize("content_type", [b"image/jpeg", b"multipart/form-data; boundary=" + BOUNDARY])
def test_a_slow_sender_gets_a_408_and_is_disconnected(site: UploadServer, content_type: bytes) -> None:
    """A body that does not arrive in time costs no more than its time."""
    with site.connect() as connection:
        connection.sendall(head(b"Content-Length: 1000", b"Content-Type: " + content_type))
        connection.sendall(b"--" + BOUNDARY)
        response = answer(connection)
    assert response.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in response.lower()
    assert body_of(response)["code"] == "request_timeout"


def test_a_client_that_leaves_is_noticed_at_once(site: UploadServer) -> None:
    """Nothing of a half upload is kept, and nobody is answered."""
    site.gone.clear()
    with site.connect() as connection:
        connection.sendall(head(b"Content-Length: 1000") + CAT[:10])
    assert site.gone.wait(timeout=LIMITS.body_timeout_s * 20)
