"""What clients of TensorFlow Serving and of KServe's v1 protocol send, and how it is answered."""

import base64
import gzip
import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
import requests
from numpy.typing import NDArray
from PIL import Image

from ingest.classification import MAX_IMAGES
from tests.ingest.test_app import png
from tests.support.inference_protocol import TOLERANCE, Service
from tests.support.inference_protocol import images as random_images

Pixels = NDArray[np.uint8]


def b64(image: Pixels) -> dict[str, str]:
    return {"b64": base64.b64encode(png(image)).decode()}


def assert_rows(found: object, truth: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(np.array(found), truth, rtol=0, atol=TOLERANCE)


def test_the_tutorial_s_client_of_a_residual_network_works(service: Service) -> None:
    """An image of 224 x 224, divided by 255, as one row; `requests` declares no content type."""
    (image,) = random_images(1, size=224)
    body = json.dumps({"instances": np.expand_dims(np.array(Image.open(io.BytesIO(png(image)))) / 255.0, 0).tolist()})
    for _ in range(3):
        response = requests.post(f"{service.url}/v1/models/photo:predict", data=body, timeout=30)
        response.raise_for_status()
    (prediction,) = response.json()["predictions"]
    assert_rows(prediction, service.direct(image[None], "photo")[0])
    assert np.argmax(prediction) == np.argmax(service.direct(image[None], "photo"))


def test_the_tutorial_s_client_that_sends_a_file_works(service: Service) -> None:
    """The image as it is, in base64."""
    (image,) = random_images(1, size=224)
    body = '{"instances": [{"b64": "' + b64(image)["b64"] + '"}]}'
    response = requests.post(f"{service.url}/v1/models/photo:predict", data=body, timeout=30)
    assert_rows(response.json()["predictions"], service.direct(image[None], "photo"))


def test_the_tutorial_s_request_with_a_signature_and_a_version_works(service: Service) -> None:
    """Several images at once, as the tutorial for clothes sends them."""
    images = random_images(3)
    data = json.dumps({"signature_name": "serving_default", "instances": (images / 255.0).tolist()})
    headers = {"content-type": "application/json"}
    for path in ("/v1/models/tiny", "/v1/models/tiny/versions/1"):
        response = requests.post(f"{service.url}{path}:predict", data=data, headers=headers, timeout=30)
        assert_rows(json.loads(response.text)["predictions"], service.direct(images))
        assert response.headers["x-sluice-provider"] == "CPUExecutionProvider"


def test_a_client_of_kserve_s_first_protocol_works(service: Service) -> None:
    """It lists the models, asks whether one is ready, and predicts."""
    with httpx.Client(base_url=service.url) as client:
        assert client.get("/v1/models").json() == {"models": ["photo", "tiny"]}
        status = client.get("/v1/models/tiny").json()
        assert (status["name"], status["ready"]) == ("tiny", True)
        images = random_images(2)
        response = client.post("/v1/models/tiny:predict", json={"instances": images.tolist()})
        assert_rows(response.json()["predictions"], service.direct(images))


@pytest.mark.parametrize(
    ("document", "key"),
    [
        (lambda images: {"instances": images.tolist()}, "predictions"),
        (lambda images: {"instances": images.astype(np.float32).tolist()}, "predictions"),
        (lambda images: {"instances": (images.astype(np.float32) / np.float32(255)).tolist()}, "predictions"),
        (lambda images: {"instances": [b64(one) for one in images]}, "predictions"),
        (lambda images: {"instances": [{"input_1": one.tolist()} for one in images]}, "predictions"),
        (lambda images: {"instances": [{"image_bytes": b64(one)} for one in images]}, "predictions"),
        (lambda images: {"instances": [b64(images[0]), images[1].tolist()], "signature_name": None}, "predictions"),
        (lambda images: {"instances": images.reshape(2, -1).tolist()}, "predictions"),
        (lambda images: {"inputs": images.tolist()}, "outputs"),
        (lambda images: {"inputs": {"images": images.tolist()}, "signature_name": ""}, "outputs"),
        (lambda images: {"inputs": [b64(one) for one in images]}, "outputs"),
        (lambda images: {"inputs": {"images": [b64(one) for one in images]}}, "outputs"),
    ],
)
def test_each_form_of_a_request_gives_the_same_answer(service: Service, document: Any, key: str) -> None:
    """Rows and columns, named inputs or not, numbers of either scale, base64."""
    images = random_images(2)
    response = httpx.post(f"{service.url}/v1/models/tiny:predict", json=document(images), timeout=30)
    assert response.status_code == 200, response.text
    assert list(response.json()) == [key]
    assert_rows(response.json()[key], service.direct(images))


def test_one_image_may_be_a_column(service: Service) -> None:
    """`inputs` with one encoded image and no list around it."""
    (image,) = random_images(1)
    response = httpx.post(f"{service.url}/v1/models/tiny:predict", json={"inputs": b64(image)}, timeout=30)
    assert_rows(response.json()["outputs"], service.direct(image[None]))


def test_an_image_of_another_size_is_resized(service: Service) -> None:
    """As an uploaded file of these pixels is."""
    (image,) = random_images(1, size=40)
    response = httpx.post(f"{service.url}/v1/models/tiny:predict", json={"instances": [image.tolist()]}, timeout=30)
    uploaded = httpx.post(f"{service.url}/predict/tiny?top=10", content=png(image), timeout=30).json()["predictions"]
    by_label = {one["label"]: one["probability"] for one in uploaded}
    assert_rows(response.json()["predictions"], np.array([[by_label[f"class_{number}"] for number in range(10)]]))


def test_labels_come_with_their_scores(service: Service) -> None:
    """`:classify`, of images as base64 or as a flat list of numbers."""
    images = random_images(2)
    examples = [{"image": b64(images[0])}, {"image": images[1].ravel().tolist()}]
    response = httpx.post(f"{service.url}/v1/models/tiny:classify", json={"examples": examples}, timeout=30)
    results = response.json()["results"]
    assert [[label for label, _ in one] for one in results] == [[f"class_{number}" for number in range(10)]] * 2
    assert_rows([[score for _, score in one] for one in results], service.direct(images))


def test_the_status_and_the_signature_are_in_the_usual_form(service: Service) -> None:
    """For the model and for a version of it."""
    for path in ("/v1/models/tiny", "/v1/models/tiny/versions/1"):
        (version,) = httpx.get(service.url + path).json()["model_version_status"]
        assert version == {
            "version": "1",
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        metadata = httpx.get(f"{service.url}{path}/metadata").json()
        assert metadata["model_spec"] == {"name": "tiny", "signature_name": "", "version": "1"}
        signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
        (given,), (result,) = signature["inputs"].values(), signature["outputs"].values()
        assert [one["size"] for one in given["tensor_shape"]["dim"]] == ["-1", "16", "16", "3"]
        assert [one["size"] for one in result["tensor_shape"]["dim"]] == ["-1", "10"]
        assert (given["dtype"], result["dtype"]) == ("DT_UINT8", "DT_FLOAT")


def black() -> list[Any]:
    """One image as numbers."""
    pixels: list[Any] = np.zeros((1, 16, 16, 3), np.int64).tolist()
    return pixels


def with_pixel(value: object) -> dict[str, Any]:
    images = black()
    images[0][0][0][0] = value
    return {"instances": images}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ([], "no JSON object"),
        ({}, "instances"),
        ({"instances": black(), "inputs": black()}, "either"),
        ({"instances": {}}, "must be a list of images"),
        ({"instances": []}, f"1 to {MAX_IMAGES}"),
        ({"instances": black(), "signature_name": "other"}, "There is no signature 'other'"),
        ({"instances": [7]}, "instances[0] must be an image"),
        ({"instances": ["x"]}, "instances[0] must be an image"),
        ({"instances": [{"a": black()[0], "b": black()[0]}]}, "names 2 inputs"),
        ({"instances": [{"b64": "!"}]}, "instances[0] is not base64"),
        ({"instances": [{"b64": 7}]}, "instances[0] is no string"),
        ({"instances": [[1, [2]]]}, "no array of numbers"),
        ({"instances": [[[1, 2, 3]]]}, "the shape [1, 3]"),
        ({"instances": [[[[1, 2]]]]}, "the shape [1, 1, 2]"),
        (with_pixel(256), "numbers from 0 to 256"),
        (with_pixel(-1), "numbers from -1 to 0"),
        (with_pixel(0.123), "has 0.123, which is neither"),
        (with_pixel(1.5), "has 1.5, which is neither"),
        (with_pixel(1.0), "only the numbers 0 and 1"),
        (with_pixel(True), "no array of numbers"),
        (with_pixel("1"), "no array of numbers"),
        (with_pixel(10**400), "no array of numbers"),
    ],
)
def test_a_wrong_request_is_a_400_in_the_usual_form(service: Service, document: object, text: str) -> None:
    """`{"error": ...}` with what was wrong."""
    response = httpx.post(f"{service.url}/v1/models/tiny:predict", content=json.dumps(document))
    assert response.status_code == 400, response.text
    assert list(response.json()) == ["error"]
    assert text in response.json()["error"]


@pytest.mark.parametrize("document", [{"examples": 7}, {"examples": [7]}, {"examples": [{}]}, {"context": {"a": 1}}])
def test_a_wrong_request_to_classify_is_a_400(service: Service, document: object) -> None:
    """In the same form."""
    response = httpx.post(f"{service.url}/v1/models/tiny:classify", json=document)
    assert (response.status_code, list(response.json())) == (400, ["error"])


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("POST", "/v1/models/nowhere:predict", 404, "no model 'nowhere'"),
        ("POST", "/v1/models/tiny/versions/7:predict", 404, "no version '7'"),
        ("POST", "/v1/models/tiny/labels/stable:predict", 404, "label 'stable'"),
        ("GET", "/v1/models/tiny/labels/stable", 404, "/versions/1"),
        ("GET", "/v1/models/tiny/labels/stable/metadata", 404, "label 'stable'"),
        ("GET", "/v1/models/nowhere", 404, "no model"),
        ("GET", "/v1/models/nowhere/metadata", 404, "no model"),
        ("GET", "/v1/models/tiny:predict", 405, "Use POST"),
        ("POST", "/v1/models/tiny:regress", 404, "no '/v1/models/tiny:regress'"),
        ("POST", "/v1/models/tiny/versions/1:explain", 404, "no '/v1/models/tiny/versions/1:explain'"),
        ("POST", "/v1/models/tiny:foo/metadata", 404, "no '/v1/models/tiny:foo/metadata'"),
        ("POST", "/v1/models/tiny", 405, "Use GET"),
        ("GET", "/v1/nowhere", 404, "no '/v1/nowhere'"),
    ],
)
def test_what_is_not_there_is_an_error_in_the_usual_form(
    service: Service, method: str, path: str, status: int, text: str
) -> None:
    """404 or 405."""
    response = httpx.request(method, service.url + path, json={"instances": black()} if method == "POST" else None)
    assert (response.status_code, list(response.json())) == (status, ["error"]), response.text
    assert text in response.json()["error"]


def test_images_that_cannot_be_read_and_bodies_that_are_too_large_are_refused(service: Service) -> None:
    """With the status that /predict gives them."""
    url = f"{service.url}/v1/models/tiny:predict"
    broken = {"b64": base64.b64encode(b"no image").decode()}
    bad = httpx.post(url, json={"instances": [b64(random_images(1)[0]), broken]}, timeout=30)
    assert bad.status_code == 415
    assert "Image 1 (counted from 0)" in bad.json()["error"]
    large = httpx.post(url, content=b'{"instances": [' + b"1.5," * 2**21 + b"1]}")
    assert large.status_code == 413
    assert 'Send encoded images as {"b64": "..."}, or fewer' in large.json()["error"]
    assert httpx.post(url, files={"image": b"x"}).status_code == 415


def test_a_compressed_request_is_decompressed(service: Service) -> None:
    """As everywhere."""
    images = random_images(2)
    body = gzip.compress(json.dumps({"instances": images.tolist()}).encode())
    headers = {"Content-Encoding": "gzip"}
    response = httpx.post(f"{service.url}/v1/models/tiny:predict", content=body, headers=headers)
    assert_rows(response.json()["predictions"], service.direct(images))
