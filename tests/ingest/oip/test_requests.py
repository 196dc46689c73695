"""The Open Inference Protocol without a client library: what is refused, how, and what is answered all the same."""

import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from ingest.classification import MAX_IMAGES
from tests.ingest.test_app import png
from tests.support.inference_protocol import TOLERANCE, Service
from tests.support.inference_protocol import images as images_of_noise


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{service.url}/v2/models/tiny", timeout=30) as client:
        yield client


def asking(**changes: Any) -> dict[str, Any]:
    """A request for one black image as JSON, or with other fields in its tensor."""
    tensor = {"name": "images", "shape": [1, 16, 16, 3], "datatype": "UINT8", "data": [0] * 768}
    return {"inputs": [{name: value for name, value in (tensor | changes).items() if value is not None}]}


def post(client: httpx.Client, document: object, binary: bytes = b"", **headers: str) -> httpx.Response:
    """The document and what follows it, with the header that says where it ends."""
    text = json.dumps(document).encode()
    return client.post(
        "/infer", content=text + binary, headers={"Inference-Header-Content-Length": str(len(text)), **headers}
    )


def assert_error(answer: httpx.Response, status: int, text: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert list(document) == ["error"]
    assert text in document["error"]


def as_binary(size: object, shape: list[int], datatype: str = "UINT8") -> dict[str, Any]:
    return asking(shape=shape, datatype=datatype, data=None, parameters={"binary_data_size": size})


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ([], "no JSON object"),
        ({}, "one, named images"),
        ({"inputs": 7}, "one, named images"),
        ({"inputs": []}, "one, named images"),
        ({"inputs": [None]}, "one, named images"),
        ({"inputs": asking()["inputs"] * 2}, "one, named images"),
        (asking(name="pixels"), "one, named images"),
        (asking(shape=None), "shape of images must be"),
        (asking(shape=[]), "shape of images must be"),
        (asking(shape=["1", 16, 16, 3]), "shape of images must be"),
        (asking(shape=[True, 16, 16, 3]), "shape of images must be"),
        (asking(shape=[-1, 16, 16, 3]), "shape of images must be"),
        (asking(shape=[0, 16, 16, 3], data=[]), "0 images"),
        (asking(shape=[MAX_IMAGES + 1, 16, 16, 3]), f"1 to {MAX_IMAGES}"),
        (asking(shape=[16, 16, 3]), "takes UINT8 [N, 16, 16, 3]"),
        (asking(shape=[1, 3, 16, 16]), "takes UINT8 [N, 16, 16, 3]"),
        (asking(datatype="FP32"), "images is 'FP32'"),
        (asking(datatype=None), "images is null"),
        (asking(data=None), "whole numbers from 0 to 255"),
        (asking(data="black"), "whole numbers from 0 to 255"),
        (asking(data=[0.5] * 768), "whole numbers from 0 to 255"),
        (asking(data=[0] * 767 + [256]), "above 255"),
        (asking(data=[0] * 767 + [-1]), "whole numbers from 0 to 255"),
        (asking(data=[True] * 768), "whole numbers from 0 to 255"),
        (asking(data=[[0] * 767, 0]), "some elements are arrays and some are not"),
        (asking(data=[0] * 767 + ["x"]), "whole numbers from 0 to 255"),
        (asking(data=[0] * 767), "767 values; its shape says 768"),
        (asking(shape=[2, 16, 16, 3]), "768 values; its shape says 1536"),
        (asking(datatype="BYTES", shape=[1], data=[0]), "list of strings"),
        (asking(datatype="BYTES", shape=[1], data="x"), "list of strings"),
        (asking(datatype="BYTES", shape=[2], data=["x"]), "1 elements; its shape says 2"),
        (asking(parameters=[1]), "parameters must be an object"),
        (asking(parameters={"binary_data_size": 768}), "no data of its own"),
        (asking(parameters={"shared_memory_region": "x"}), "Shared memory"),
        (asking() | {"id": 7}, "id is 7"),
        (asking() | {"parameters": {"binary_data_output": 1}}, "true or false"),
        (asking() | {"outputs": 7}, "one, named probabilities"),
        (asking() | {"outputs": [{"name": "logits"}]}, "one, named probabilities"),
        (asking() | {"outputs": [{"name": "probabilities"}] * 2}, "one, named probabilities"),
        (asking() | {"outputs": [{"name": "probabilities", "parameters": {"classification": -1}}]}, "how many labels"),
        (asking() | {"outputs": [{"name": "probabilities", "parameters": {"classification": "2"}}]}, "how many labels"),
        (
            asking() | {"outputs": [{"name": "probabilities", "parameters": {"shared_memory_region": "x"}}]},
            "Shared memory",
        ),
    ],
)
def test_a_wrong_request_is_a_400_in_the_protocols_form(client: httpx.Client, document: object, text: str) -> None:
    """`{"error": ...}` with what was wrong."""
    assert_error(client.post("/infer", json=document), 400, text)


@pytest.mark.parametrize(
    ("document", "binary", "text"),
    [
        (as_binary(768, [1, 16, 16, 3]), bytes(767), "767 bytes follow the JSON"),
        (as_binary(768, [1, 16, 16, 3]), bytes(769), "769 bytes follow the JSON"),
        (as_binary(767, [1, 16, 16, 3]), bytes(767), "767 values; its shape says 768"),
        (as_binary("768", [1, 16, 16, 3]), bytes(768), "they must be equal"),
        (as_binary(0, [0, 16, 16, 3]), b"", "0 images"),
        (asking(), bytes(5), "no binary_data_size"),
        (as_binary(3, [1], "BYTES"), b"\x01\0\0", "in the length of an element"),
        (as_binary(6, [1], "BYTES"), struct.pack("<I", 3) + b"ab", "an element of 3 bytes has 2"),
        (as_binary(4000, [1], "BYTES"), bytes(4000), "more than 1 elements"),
    ],
)
def test_broken_binary_data_is_a_400(client: httpx.Client, document: object, binary: bytes, text: str) -> None:
    """Truncated, too long, or not as long as its shape says."""
    assert_error(post(client, document, binary), 400, text)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"inputs": [{"data": [1, 2', "no JSON"),
        (json.dumps(asking()).replace("0, 0", "0 0", 1).encode(), "no JSON: Expecting ',' delimiter"),
        (json.dumps(asking()).replace("0, 0", "0, 00", 1).encode(), "no JSON: Expecting ',' delimiter"),
        (json.dumps(asking()).replace("[0,", "[[0,", 1).encode(), "no JSON: Expecting ',' delimiter"),
    ],
)
def test_what_is_no_json_is_a_400(client: httpx.Client, body: bytes, text: str) -> None:
    """However deep or short it is."""
    assert_error(client.post("/infer", content=body), 400, text)


@pytest.mark.parametrize("length", ["", "-1", "many", "99999", "9" * 40, "\u0663"])
def test_a_wrong_header_length_is_a_400(client: httpx.Client, length: str) -> None:
    """More than there is, or no number."""
    headers = {b"Inference-Header-Content-Length": length.encode()}
    assert_error(client.post("/infer", content=b"{}", headers=headers), 400, "Inference-Header-Content-Length")


def test_what_is_too_much_is_a_413(client: httpx.Client) -> None:
    """The whole body, what it becomes when it is unpacked, and JSON that would grow in memory."""
    assert_error(client.post("/infer", content=bytes(21 * 2**20)), 413, "more than")
    bomb = gzip.compress(bytes(2**25))
    assert_error(client.post("/infer", content=bomb, headers={"Content-Encoding": "gzip"}), 413, "more than")
    assert_error(client.post("/infer", content=b'{"id": [' + b"{}," * 2**19 + b"{}]}"), 413, "of JSON")
    assert_error(client.post("/infer", json=asking(data=[0] * 2 * 2**20)), 413, "Send binary data")


@pytest.mark.parametrize(
    ("content", "coding", "status", "text"),
    [
        (b"{}", "br", 415, "gzip and deflate"),
        (b"{}", "gzip", 400, "not compressed"),
        (gzip.compress(b"{}", mtime=0)[:-4], "gzip", 400, "breaks off"),
        (zlib.compress(b"{}") + b"{}", "deflate", 400, "something follows"),
    ],
)
def test_compression_that_is_not_what_it_says_is_refused(
    client: httpx.Client, content: bytes, coding: str, status: int, text: str
) -> None:
    """An unknown one is a 415."""
    assert_error(client.post("/infer", content=content, headers={"Content-Encoding": coding}), status, text)


def test_a_form_is_a_415(client: httpx.Client) -> None:
    """The protocol has none; /predict takes forms."""
    assert_error(client.post("/infer", files={"image": b"x"}), 415, "no forms")


def test_an_image_that_cannot_be_read_is_named_by_its_number(client: httpx.Client) -> None:
    """One bad element fails the request: the protocol has no answer for a part."""
    good = png(images_of_noise(1)[0])
    for bad, status in ((b"no image", 415), (good[:80], 422)):
        data = b"".join(struct.pack("<I", len(one)) + one for one in (good, good, bad))
        assert_error(post(client, as_binary(len(data), [3], "BYTES"), data), status, "Image 2 (counted from 0):")
    assert_error(client.post("/infer", json=asking(datatype="BYTES", shape=[1], data=["text"])), 415, "")


def test_numbers_may_be_nested_or_flat_and_anywhere(client: httpx.Client, service: Service) -> None:
    """Row major either way; the data may come before the rest, and other fields may be named alike."""
    images = images_of_noise(2)
    truth = service.direct(images)
    data: list[Any]
    for data in (images.tolist(), images.ravel().tolist(), images.reshape(2, -1).tolist()):
        document = {
            "id": 'my "data": [1]',
            "parameters": {"odd": "\ud800"},
            "inputs": [{"data": data, **asking(data=None, shape=[2, 16, 16, 3])["inputs"][0]}],
        }
        for indent in (None, 2):
            answer = client.post("/infer", content=json.dumps(document, indent=indent))
            assert answer.status_code == 200, answer.text
            body = answer.json()
            assert body["id"] == 'my "data": [1]'
            (output,) = body["outputs"]
            assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [2, 10])
            found = np.array(output["data"]).reshape(2, 10)
            np.testing.assert_allclose(found, truth, rtol=0, atol=TOLERANCE)
            assert answer.headers["x-sluice-provider"] == "CPUExecutionProvider"


def test_half_a_surrogate_pair_is_given_back(client: httpx.Client) -> None:
    """As an id, and quoted in an error."""
    assert client.post("/infer", content=json.dumps({**asking(), "id": "\ud800"})).json()["id"] == "\ud800"
    assert client.post("/infer", content=json.dumps(asking(datatype="\ud800"))).status_code == 400


def test_the_default_is_json_unless_binary_is_asked_for(client: httpx.Client) -> None:
    """binary_data of an output outranks binary_data_output of the request."""
    output = {"name": "probabilities"}
    for parameters, own, binary in (
        ({}, {}, False),
        ({"binary_data_output": True}, {}, True),
        ({"binary_data_output": True}, {"binary_data": False}, False),
        ({}, {"binary_data": True}, True),
    ):
        document = asking() | {"parameters": parameters, "outputs": [{**output, "parameters": own}]}
        answer = client.post("/infer", json=document)
        assert ("inference-header-content-length" in answer.headers) == binary
        length = int(answer.headers.get("inference-header-content-length", len(answer.content)))
        (described,) = json.loads(answer.content[:length])["outputs"]
        assert described["shape"] == [1, 10]
        assert (len(answer.content) - length, "data" in described) == ((40, False) if binary else (0, True))


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "/v2/models/tiny/infer", 405, "POST"),
        ("DELETE", "/v2/models/tiny/versions/1", 405, "GET, HEAD"),
        ("GET", "/v2/repository/index", 405, "POST"),
        ("GET", "/v2/nowhere", 404, None),
        ("GET", "/v2/", 404, None),
        ("GET", "/v2/models/stats", 404, None),
        ("GET", "/v2/models/tiny/versions/2/ready", 404, None),
        ("GET", "/v2/models/tiny/versions/x", 404, None),
    ],
)
def test_what_is_not_there_is_an_error_in_the_protocols_form(
    service: Service, method: str, path: str, status: int, allowed: str | None
) -> None:
    """404, and 405 with what is allowed."""
    answer = httpx.request(method, service.url + path)
    assert_error(answer, status, "")
    assert answer.headers.get("allow") == allowed


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 200), (b"{}", 200), (b'{"ready": true}', 200), (b"[]", 400), (b'{"ready": 1}', 400), (b"[" * 4000, 400),
     (bytes(5000), 413)],
)  # fmt: skip
def test_the_index_takes_a_small_object_or_nothing(service: Service, body: bytes, status: int) -> None:
    """And lists what is served."""
    answer = httpx.post(f"{service.url}/v2/repository/index", content=body)
    assert answer.status_code == status
    assert [one["name"] for one in answer.json()] == ["photo", "tiny"] if status == 200 else answer.json()["error"]
