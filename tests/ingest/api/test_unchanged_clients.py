"""What clients in other languages send by default, byte for byte, so that no runtime of theirs is needed here.

Clients that run here themselves: Node's fetch and Java's HttpClient in tests/docs/test_more_examples.py, tritonclient
in tests/ingest/oip and tests/ingest/grpc_api, `requests` in tests/ingest/tfserving, and KServe's SDK with
tests/support/programs/kserve_client.py.
"""

import base64
import json
import socket
from typing import Any

import httpx
import numpy as np
import pytest

from tests.ingest.test_app import png
from tests.support.inference_protocol import TOLERANCE, Service, images

(IMAGE,) = images(1)
FILE = png(IMAGE)
BOUNDARY = "5b3f8a0e-1c2d-4e5f-8a9b-0c1d2e3f4a5b"


def sent(service: Service, head: str, body: bytes) -> httpx.Response:
    """The response to a request whose head is exactly this one."""
    host, port = service.address.split(":")
    text = head.replace("HOST", service.address).replace("\n", "\r\n")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(text.encode() + b"\r\n\r\n" + body)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    (_, status, _), rest = received.split(b" ", 2), received.partition(b"\r\n\r\n")[2]
    return httpx.Response(int(status), content=rest)


def assert_right(service: Service, response: httpx.Response) -> None:
    """All probabilities are those of ONNX Runtime."""
    assert response.status_code == 200, response.text
    found = {one["label"]: one["probability"] for one in response.json()["predictions"]}
    truth = service.direct(IMAGE[None], "tiny")[0]
    np.testing.assert_allclose([found[f"class_{number}"] for number in range(10)], truth, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("expects", ["", "\nExpect: 100-continue"])
@pytest.mark.parametrize("kind", ["", "Content-Type: image/png\r\n"])
def test_multipart_as_dotnet_writes_it(service: Service, kind: str, expects: str) -> None:
    """MultipartFormDataContent: a boundary in quotes, names without quotes, the file's name twice, sizes in chunks."""
    disposition = "Content-Disposition: form-data; name=image; filename=cat.png; filename*=utf-8''cat.png"
    form = f"--{BOUNDARY}\r\n{kind}{disposition}\r\n\r\n".encode() + FILE + f"\r\n--{BOUNDARY}--\r\n".encode()
    head = (
        "POST /predict/tiny?top=10 HTTP/1.1\nHost: HOST\n"
        f'Content-Type: multipart/form-data; boundary="{BOUNDARY}"\n'
        f"Transfer-Encoding: chunked\nConnection: close{expects}"
    )
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (form[:100], form[100:])) + b"0\r\n\r\n"
    response = sent(service, head, chunks)
    if expects:
        assert response.status_code == 100, response.text
        status, _, rest = response.content.partition(b"\r\n\r\n")
        assert status.startswith(b"HTTP/1.1 200 ")
        response = httpx.Response(200, content=rest)
    assert_right(service, response)


def test_java_s_offer_of_http_2_is_passed_over(service: Service) -> None:
    """HttpClient offers it without TLS with each first request; the response is HTTP/1.1."""
    head = (
        "POST /predict/tiny?top=10 HTTP/1.1\nConnection: Upgrade, HTTP2-Settings, close\n"
        f"Content-Length: {len(FILE)}\nHost: HOST\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\n"
        "Upgrade: h2c\nUser-Agent: Java-http-client/17.0.15\nContent-Type: application/octet-stream"
    )
    assert_right(service, sent(service, head, FILE))


def test_kserve_s_sdk_with_its_first_and_second_protocol(service: Service) -> None:
    """As kserve 0.21 sends and reads it: compact JSON, and the readiness of server and model."""
    document: dict[str, Any] = {"instances": [{"b64": base64.b64encode(FILE).decode()}]}
    compact = json.dumps(document, separators=(",", ":"))
    headers = {"content-type": "application/json"}
    with httpx.Client(base_url=service.url, timeout=30) as client:
        assert client.get("/v1/models/tiny").json()["ready"] is True
        response = client.post("/v1/models/tiny:predict", content=compact, headers=headers)
        truth = service.direct(IMAGE[None], "tiny")
        np.testing.assert_allclose(response.json()["predictions"], truth, rtol=0, atol=TOLERANCE)
        assert client.get("/v2/health/live").json()["live"] is True
        assert client.get("/v2/health/ready").json()["ready"] is True
        assert client.get("/v2/models/tiny/ready").is_success
        missing = client.post("/v1/models/nowhere:predict", content=compact, headers=headers)
        assert (missing.status_code, missing.headers["content-type"]) == (404, "application/json")
        assert "nowhere" in missing.json()["error"]
