"""The Open Inference Protocol as its users speak it: the real tritonclient, over a socket, sync and asyncio."""

from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient import http as triton
from tritonclient.http import aio as triton_aio
from tritonclient.utils import InferenceServerException

from ingest.images.decode import to_pixels
from tests.ingest.test_app import png
from tests.support import images as files_of_images
from tests.support.inference_protocol import TOLERANCE, Service, assert_equal
from tests.support.inference_protocol import images as images_of_noise


@pytest.fixture
def client(service: Service) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(service.address) as client:
        yield client


@pytest.fixture
async def aio_client(service: Service) -> AsyncIterator[triton_aio.InferenceServerClient]:
    async with triton_aio.InferenceServerClient(service.address) as client:
        yield client


def tensor(images: NDArray[np.uint8], *, binary: bool = True) -> list[triton.InferInput]:
    """The images as a UINT8 tensor."""
    given = triton.InferInput("images", list(images.shape), "UINT8")
    return [given.set_data_from_numpy(images, binary_data=binary)]


def encoded(images: NDArray[np.uint8]) -> list[triton.InferInput]:
    """The images as files in a BYTES tensor."""
    files = np.array([png(image) for image in images], np.object_)
    return [triton.InferInput("images", [len(images)], "BYTES").set_data_from_numpy(files)]


def wanted(*, binary: bool = True, classes: int = 0) -> list[triton.InferRequestedOutput]:
    return [triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=classes)]


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    """What a client asks before it sends anything."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "2")
    assert not client.is_model_ready("nowhere")
    server = client.get_server_metadata()
    assert server["name"] == "sluice"
    assert {"binary_tensor_data", "classification"} <= set(server["extensions"])
    for version in ("", "1"):
        assert client.get_model_metadata("photo", version) == {
            "name": "photo",
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 224, 224, 3]}],
            "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 1000]}],
        }
        config = client.get_model_config("tiny", version)
        assert config["max_batch_size"] >= 100
        assert config["input"] == [
            {"name": "images", "data_type": "TYPE_UINT8", "format": "FORMAT_NHWC", "dims": [16, 16, 3]}
        ]
        assert config["output"] == [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": [10]}]
    assert client.get_model_repository_index() == [
        {"name": name, "version": "1", "state": "READY", "reason": ""} for name in ("photo", "tiny")
    ]


@pytest.mark.parametrize("count", [1, 32, 100])
@pytest.mark.parametrize("binary", [True, False])
def test_tensors_are_answered_as_onnx_runtime_answers_them(
    client: triton.InferenceServerClient, service: Service, count: int, binary: bool
) -> None:
    """Both ways as binary data and as JSON; more than a batch at once comes back in order."""
    images = images_of_noise(count)
    result = client.infer("tiny", tensor(images, binary=binary), outputs=wanted(binary=binary), request_id="mine")
    assert_equal(result.as_numpy("probabilities"), service.direct(images))
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("mine", "tiny", "1")


@pytest.mark.parametrize("count", [1, 32, 100])
def test_encoded_images_are_answered_like_their_pixels(
    client: triton.InferenceServerClient, service: Service, count: int
) -> None:
    """BYTES: files of the model's own size, of which each pixel is known."""
    images = images_of_noise(count)
    result = client.infer("tiny", encoded(images))
    assert_equal(result.as_numpy("probabilities"), service.direct(images))
    assert "id" not in result.get_response()


def test_images_of_any_size_are_prepared_for_the_model(client: triton.InferenceServerClient, service: Service) -> None:
    """A JPEG, a PNG and a WebP in one tensor: decoded and resized as /predict does it.

    Clients of batching Triton models send them as [3, 1].
    """
    files = [files_of_images.encoded(files_of_images.noisy_scene(), kind) for kind in ("JPEG", "PNG", "WEBP")]
    pixels = [to_pixels(file, files_of_images.model(224, 224), 10**6) for file in files]
    images = np.frombuffer(b"".join(pixels), np.uint8).reshape(3, 224, 224, 3)
    for shape in ([3], [3, 1]):
        given = triton.InferInput("images", shape, "BYTES").set_data_from_numpy(
            np.array(files, np.object_).reshape(shape)
        )
        result = client.infer("photo", [given])
        assert_equal(result.as_numpy("probabilities"), service.direct(images, "photo"))


def test_a_hundred_images_of_real_size_fit_one_request(client: triton.InferenceServerClient, service: Service) -> None:
    """15 MB of pixels, 1,000 classes."""
    images = images_of_noise(100, size=224)
    result = client.infer("photo", tensor(images), model_version="1", outputs=wanted())
    assert_equal(result.as_numpy("probabilities"), service.direct(images, "photo"))


def test_pixels_as_json_are_parsed_in_a_thread(client: triton.InferenceServerClient, service: Service) -> None:
    """300,000 numbers, beside the event loop."""
    images = images_of_noise(2, size=224)
    result = client.infer("photo", tensor(images, binary=False), outputs=wanted(binary=False))
    assert_equal(result.as_numpy("probabilities"), service.direct(images, "photo"))


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("classes", [1, 3, 99])
def test_classification_names_the_most_probable(
    client: triton.InferenceServerClient, service: Service, binary: bool, classes: int
) -> None:
    """value:index:label, as many as were asked for or as there are."""
    images = images_of_noise(5)
    result = client.infer("tiny", tensor(images), outputs=wanted(binary=binary, classes=classes))
    answer = result.as_numpy("probabilities")
    assert answer.shape == (5, min(classes, 10))
    for texts, truth in zip(answer, service.direct(images), strict=True):
        parts = [(text.decode() if isinstance(text, bytes) else text).split(":") for text in texts]
        best = np.argsort(-truth, kind="stable")[:classes]
        assert [(index, label) for _, index, label in parts] == [(str(one), f"class_{one}") for one in best]
        np.testing.assert_allclose([float(value) for value, *_ in parts], truth[best], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_a_compressed_request_is_unpacked(
    client: triton.InferenceServerClient, service: Service, algorithm: str, binary: bool
) -> None:
    """Both of tritonclient's algorithms; the answer need not be compressed though it was asked for."""
    images = images_of_noise(32)
    result = client.infer(
        "tiny",
        tensor(images, binary=binary),
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    assert_equal(result.as_numpy("probabilities"), service.direct(images))


def test_errors_reach_the_client_as_sentences(client: triton.InferenceServerClient) -> None:
    """What tritonclient raises has the status and the text, for what there is and for extensions that are not here."""
    attempts = [
        ("404", "Served at present: photo, tiny", lambda: client.infer("nowhere", tensor(images_of_noise(1)))),
        ("404", "no version '7'", lambda: client.infer("tiny", tensor(images_of_noise(1)), model_version="7")),
        ("400", "takes UINT8 [N, 16, 16, 3]", lambda: client.infer("tiny", tensor(images_of_noise(1, size=8)))),
        ("403", "Only an admin key may load", lambda: client.load_model("tiny")),
        ("404", "no '/v2/systemsharedmemory/status'", client.get_system_shared_memory_status),
    ]
    for status, text, attempt in attempts:
        with pytest.raises(InferenceServerException) as raised:
            attempt()
        assert raised.value.status() == status
        assert text in raised.value.message()


@pytest.mark.anyio
async def test_the_asyncio_client_works_as_well(aio_client: triton_aio.InferenceServerClient, service: Service) -> None:
    """The same protocol by another HTTP library, several requests at once."""
    assert await aio_client.is_server_live()
    assert await aio_client.is_server_ready()
    assert await aio_client.is_model_ready("tiny", "1")
    assert (await aio_client.get_model_metadata("tiny"))["outputs"][0]["shape"] == [-1, 10]
    assert (await aio_client.get_model_config("tiny"))["max_batch_size"] >= 100
    assert len(await aio_client.get_model_repository_index()) == 2
    for count in (1, 32, 100):
        images = images_of_noise(count)
        truth = service.direct(images)
        for inputs in (tensor(images), tensor(images, binary=False), encoded(images)):
            result = await aio_client.infer("tiny", inputs, request_compression_algorithm="gzip")
            assert_equal(result.as_numpy("probabilities"), truth)
            result = await aio_client.infer("tiny", inputs, outputs=wanted(binary=False))
            assert_equal(result.as_numpy("probabilities"), truth)
    result = await aio_client.infer("tiny", encoded(images_of_noise(2)), outputs=wanted(classes=2))
    assert result.as_numpy("probabilities").shape == (2, 2)
    with pytest.raises(InferenceServerException, match="no model"):
        await aio_client.infer("nowhere", tensor(images_of_noise(1)))
