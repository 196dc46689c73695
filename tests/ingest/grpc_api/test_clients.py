"""gRPC as its users speak it: the real tritonclient over a socket, sync, asyncio and streams."""

import queue
from collections.abc import AsyncIterator, Iterator

import grpc
import httpx
import numpy as np
import pytest
from tritonclient import grpc as triton
from tritonclient.grpc import aio as triton_aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

from ingest.images.decode import to_pixels
from tests.ingest.test_app import png
from tests.support import images as files_of_images
from tests.support.grpc_service import GrpcService, files, tensor, wanted
from tests.support.inference_protocol import TOLERANCE, assert_equal
from tests.support.inference_protocol import images as images_of_noise


@pytest.fixture
def client(service: GrpcService) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(service.address) as client:
        yield client


@pytest.fixture
async def aio_client(service: GrpcService) -> AsyncIterator[triton_aio.InferenceServerClient]:
    async with triton_aio.InferenceServerClient(service.address) as client:
        yield client


def test_health_and_metadata_are_those_of_rest(client: triton.InferenceServerClient, service: GrpcService) -> None:
    """What a client asks before it sends anything; the values are those that REST gives."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "2")
    assert not client.is_model_ready("nowhere")
    assert client.get_server_metadata(as_json=True) == httpx.get(f"{service.http.url}/v2").json()
    with httpx.Client(base_url=f"{service.http.url}/v2") as rest:
        for path, version in (("", ""), ("/versions/1", "1")):
            metadata = client.get_model_metadata("photo", version)
            expected = rest.get(f"/models/photo{path}").json()
            assert (metadata.name, list(metadata.versions), metadata.platform) == (
                expected["name"], expected["versions"], expected["platform"],
            )  # fmt: skip
            for given, wants in ((metadata.inputs, expected["inputs"]), (metadata.outputs, expected["outputs"])):
                assert [
                    {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in given
                ] == wants
            config = client.get_model_config("tiny", version, as_json=True)["config"]
            expected = rest.get(f"/models/tiny{path}/config").json()
            assert config["max_batch_size"] == expected["max_batch_size"]
            assert config["input"][0] == expected["input"][0] | {"dims": ["16", "16", "3"]}
            assert config["output"][0] == expected["output"][0] | {"dims": ["10"]}
            assert config["version_policy"] == {"specific": {"versions": ["1"]}}
        index = client.get_model_repository_index().models
        listed = [{"name": one.name, "version": one.version, "state": one.state, "reason": one.reason} for one in index]
        assert listed == rest.post("/repository/index").json()


@pytest.mark.parametrize("count", [1, 32, 100])
def test_tensors_are_answered_as_onnx_runtime_answers_them(
    client: triton.InferenceServerClient, service: GrpcService, count: int
) -> None:
    """Raw contents, both ways; more than a batch at once comes back in order."""
    images = images_of_noise(count)
    result = client.infer("tiny", tensor(images), request_id="mine")
    assert_equal(result.as_numpy("probabilities"), service.http.direct(images))
    response = result.get_response()
    assert (response.id, response.model_name, response.model_version) == ("mine", "tiny", "1")


def test_typed_contents_are_answered_with_typed_contents(service: GrpcService) -> None:
    """Numbers for pixels, bytes for encoded images, and for labels."""
    images = images_of_noise(3)
    truth = service.http.direct(images)
    with grpc.insecure_channel(service.address) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )
        request = pb.ModelInferRequest(model_name="tiny")
        given = request.inputs.add(name="images", datatype="UINT8", shape=images.shape)
        given.contents.uint_contents.extend(images.ravel().tolist())
        response = call(request)
        assert not response.raw_output_contents
        assert_equal(np.array(response.outputs[0].contents.fp32_contents, np.float32).reshape(3, 10), truth)
        request = pb.ModelInferRequest(model_name="tiny")
        given = request.inputs.add(name="images", datatype="BYTES", shape=[3])
        given.contents.bytes_contents.extend(png(image) for image in images)
        asked = request.outputs.add(name="probabilities")
        asked.parameters["classification"].int64_param = 1
        (labels,) = call(request).outputs
        assert (labels.datatype, list(labels.shape)) == ("BYTES", [3, 1])
        best = [f":{index}:class_{index}" for index in truth.argmax(1)]
        assert [text.decode()[8:] for text in labels.contents.bytes_contents] == best


def test_images_of_any_size_are_prepared_for_the_model(
    client: triton.InferenceServerClient, service: GrpcService
) -> None:
    """A JPEG, a PNG and a WebP in one tensor of BYTES: decoded and resized as over REST."""
    encoded = [files_of_images.encoded(files_of_images.noisy_scene(), kind) for kind in ("JPEG", "PNG", "WEBP")]
    pixels = [to_pixels(file, files_of_images.model(224, 224), 10**6) for file in encoded]
    images = np.frombuffer(b"".join(pixels), np.uint8).reshape(3, 224, 224, 3)
    result = client.infer("photo", files(encoded), model_version="1")
    assert_equal(result.as_numpy("probabilities"), service.http.direct(images, "photo"))


def test_a_hundred_images_of_real_size_fit_one_request(
    client: triton.InferenceServerClient, service: GrpcService
) -> None:
    """15 MB of pixels, 1,000 classes; compressed, too."""
    images = images_of_noise(100, size=224)
    truth = service.http.direct(images, "photo")
    for algorithm in (None, "gzip", "deflate"):
        result = client.infer("photo", tensor(images), compression_algorithm=algorithm)
        assert_equal(result.as_numpy("probabilities"), truth)


@pytest.mark.parametrize("classes", [1, 3, 99])
def test_classification_names_the_most_probable(
    client: triton.InferenceServerClient, service: GrpcService, classes: int
) -> None:
    """value:index:label, as many as were asked for or as there are."""
    images = images_of_noise(5)
    answer = client.infer("tiny", tensor(images), outputs=wanted(classes)).as_numpy("probabilities")
    assert answer.shape == (5, min(classes, 10))
    for texts, truth in zip(answer, service.http.direct(images), strict=True):
        parts = [text.decode().split(":") for text in texts]
        best = np.argsort(-truth, kind="stable")[:classes]
        assert [(index, label) for _, index, label in parts] == [(str(one), f"class_{one}") for one in best]
        np.testing.assert_allclose([float(value) for value, *_ in parts], truth[best], rtol=0, atol=TOLERANCE)


def test_a_stream_answers_each_request_in_order(client: triton.InferenceServerClient, service: GrpcService) -> None:
    """A request that fails is answered with its error, and the stream goes on."""
    answers: queue.Queue[tuple[triton.InferResult | None, InferenceServerException | None]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    images = images_of_noise(6)
    truth = service.http.direct(images)
    for number in range(3):
        client.async_stream_infer("tiny", tensor(images[2 * number : 2 * number + 2]), request_id=str(number))
    client.async_stream_infer("nowhere", tensor(images))
    client.async_stream_infer("tiny", tensor(images), request_id="last")
    for number in range(3):
        result, error = answers.get(timeout=20)
        assert (error, result and result.get_response().id) == (None, str(number))
        assert result
        assert_equal(result.as_numpy("probabilities"), truth[2 * number : 2 * number + 2])
    _, error = answers.get(timeout=20)
    assert "There is no model 'nowhere'" in str(error)
    result, error = answers.get(timeout=20)
    assert (error, result and result.get_response().id) == (None, "last")
    client.stop_stream()


@pytest.mark.anyio
async def test_the_asyncio_client_works_as_well(
    aio_client: triton_aio.InferenceServerClient, service: GrpcService
) -> None:
    """The same methods from an event loop."""
    assert await aio_client.is_server_live()
    assert await aio_client.is_server_ready()
    assert await aio_client.is_model_ready("tiny", "1")
    assert list((await aio_client.get_model_metadata("tiny")).outputs[0].shape) == [-1, 10]
    assert len((await aio_client.get_model_repository_index()).models) == 2
    for count in (1, 32, 100):
        images = images_of_noise(count)
        truth = service.http.direct(images)
        for inputs in (tensor(images), files([png(image) for image in images])):
            assert_equal((await aio_client.infer("tiny", inputs)).as_numpy("probabilities"), truth)
    result = await aio_client.infer("tiny", tensor(images), outputs=wanted(2))
    assert result.as_numpy("probabilities").shape == (100, 2)
    with pytest.raises(InferenceServerException, match="no model"):
        await aio_client.infer("nowhere", tensor(images))
