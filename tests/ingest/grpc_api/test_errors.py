"""What is refused over gRPC: the status, and the sentence that REST has for the same."""

import concurrent.futures
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.grpc import service_pb2 as pb

from ingest.start_checks import refuse_grpc
from stream.settings import IngestSettings
from tests.ingest.test_app import png
from tests.support.documents import ROOT
from tests.support.grpc_service import GrpcService, refusal
from tests.support.inference_protocol import images as images_of_noise
from tests.support.redis.servers import free_port

SERVICE = "inference.GRPCInferenceService"


@pytest.fixture(scope="module")
def channel(service: GrpcService) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(service.address) as channel:
        yield channel


def request(shape: tuple[int, ...] = (1, 16, 16, 3), datatype: str = "UINT8", **fields: object) -> pb.ModelInferRequest:
    """A request for one black image, or with other fields."""
    given = pb.ModelInferRequest.InferInputTensor(name="images", datatype=datatype, shape=shape)
    return pb.ModelInferRequest(**({"model_name": "tiny", "inputs": [given]} | fields))


BLACK = [bytes(768)]
MIXED = pb.ModelInferRequest.InferInputTensor(name="images", datatype="UINT8", shape=[1, 16, 16, 3])
MIXED.contents.fp32_contents.extend([0.0] * 768)


@pytest.mark.parametrize(
    ("asked", "code", "text"),
    [
        (request(model_name="nowhere"), "NOT_FOUND", "There is no model 'nowhere'. Served at present: photo, tiny."),
        (request(model_version="7"), "NOT_FOUND", "There is no version '7' of tiny."),
        (request((1, 8, 8, 3), raw_input_contents=[bytes(192)]), "INVALID_ARGUMENT", "takes UINT8 [N, 16, 16, 3]"),
        (request(datatype="FP32", raw_input_contents=BLACK), "INVALID_ARGUMENT", "images is 'FP32' [1, 16, 16, 3]"),
        (request(raw_input_contents=[bytes(5)]), "INVALID_ARGUMENT", "images has 5 values; its shape says 768."),
        (request((0, 16, 16, 3), raw_input_contents=[b""]), "INVALID_ARGUMENT", "The request has 0 images"),
        (request((-1, 16, 16, 3), raw_input_contents=BLACK), "INVALID_ARGUMENT", "must be a list of whole numbers"),
        (request(raw_input_contents=BLACK * 2), "INVALID_ARGUMENT", "raw_input_contents has 2 elements, and inputs"),
        (request(), "INVALID_ARGUMENT", "images has no contents; send UINT8 as raw_input_contents or as uint_"),
        (request(inputs=[MIXED]), "INVALID_ARGUMENT", "images has fp32_contents; send UINT8 as raw_input_contents"),
        (
            request(inputs=[MIXED], raw_input_contents=BLACK),
            "INVALID_ARGUMENT",
            "images has raw_input_contents and fp32_contents; send one of them.",
        ),
        (request(inputs=[]), "INVALID_ARGUMENT", "The tensors are []; there must be one, named images."),
        (request((1,), "BYTES", raw_input_contents=[b"\x09\0\0\0ab"]), "INVALID_ARGUMENT", "images breaks off"),
        (request((1,), "BYTES", raw_input_contents=[b"\x05\0\0\0hello"]), "INVALID_ARGUMENT", ""),
        (
            request(outputs=[{"name": "logits"}], raw_input_contents=BLACK),
            "INVALID_ARGUMENT",
            "The tensors are [\"logits\"]; there must be one, named probabilities.",
        ),
        (
            request(
                outputs=[{"name": "probabilities", "parameters": {"classification": {"string_param": "2"}}}],
                raw_input_contents=BLACK,
            ),
            "INVALID_ARGUMENT",
            "classification is '2'; it must say how many labels are wanted.",
        ),
        (
            request(outputs=[{"name": "probabilities", "parameters": {"shared_memory_region": {"string_param": "x"}}}],
                    raw_input_contents=BLACK),
            "INVALID_ARGUMENT",
            "Shared memory is not supported.",
        ),
    ],
)  # fmt: skip
def test_a_bad_request_gets_a_sentence(
    channel: grpc.Channel, asked: pb.ModelInferRequest, code: str, text: str
) -> None:
    error = refusal(channel, asked)
    assert (error.code().name, text in error.details()) == (code, True), error.details()
    assert dict(error.trailing_metadata())["sluice-problem"]


@pytest.mark.parametrize("sign", ["a", "é", "\n", "\U0001f600"])
@pytest.mark.parametrize("field", ["model_name", "model_version", "name", "datatype", "output"])
def test_a_long_name_gets_a_sentence_too(channel: grpc.Channel, field: str, sign: str) -> None:
    """Clients refuse a status with a long message, and say nothing of what it said."""
    text = sign * 20_000
    asked = request(raw_input_contents=BLACK)
    if field == "output":
        asked.outputs.add().name = text
    else:
        setattr(asked if field.startswith("model") else asked.inputs[0], field, text)
    asked.inputs[0].contents.fp32_contents.extend([0] if field == "name" else [])
    error = refusal(channel, asked)
    assert error.code().name in {"INVALID_ARGUMENT", "NOT_FOUND"}, error
    assert dict(error.trailing_metadata())["sluice-problem"]


@pytest.mark.parametrize("data", [b"hello", png(images_of_noise(1)[0])[:60]])
def test_a_bad_image_has_the_sentence_of_rest(channel: grpc.Channel, service: GrpcService, data: bytes) -> None:
    """An unknown format, and a file that breaks off."""
    error = refusal(channel, request((1,), "BYTES", raw_input_contents=[len(data).to_bytes(4, "little") + data]))
    rest = httpx.post(f"{service.http.url}/predict/tiny", content=data).json()
    assert (error.details(), dict(error.trailing_metadata())["sluice-problem"]) == (rest["detail"], rest["code"])


def test_a_message_above_the_limit_is_refused(channel: grpc.Channel) -> None:
    """By gRPC itself, before it is there; numbers that take long to check, by Sluice."""
    error = refusal(channel, request(raw_input_contents=[bytes(17 * 2**20)]))
    assert (error.code().name, "larger than max" in error.details()) == ("RESOURCE_EXHAUSTED", True)
    many = pb.ModelInferRequest.InferInputTensor(name="images", datatype="UINT8", shape=[1, 16, 16, 3])
    many.contents.uint_contents.extend(bytes(4 * 2**20 + 1))
    error = refusal(channel, request(inputs=[many]))
    assert (error.code().name, "Send raw_input_contents" in error.details()) == ("INVALID_ARGUMENT", True)


def test_what_is_no_message_or_no_method_is_refused(channel: grpc.Channel) -> None:
    """And a message that does not arrive in time."""
    garbage = channel.unary_unary(f"/{SERVICE}/ModelInfer")
    unknown = channel.unary_unary(f"/{SERVICE}/ModelStatistics")
    for call, code in ((garbage, "INVALID_ARGUMENT"), (unknown, "UNIMPLEMENTED")):
        with pytest.raises(grpc.RpcError) as raised:
            call(b"\xff\xff\xff", timeout=20)
        assert raised.value.code().name == code
    silent = channel.stream_unary(f"/{SERVICE}/ModelInfer")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        never = concurrent.futures.Future[bytes]()
        answer = pool.submit(silent, (never.result() for _ in range(1)), timeout=20)
        error = answer.exception(timeout=20)
        never.cancel()
    assert isinstance(error, grpc.RpcError)
    assert (error.code().name, "did not arrive within 2 s" in error.details()) == ("DEADLINE_EXCEEDED", True)
    with pytest.raises(grpc.RpcError, match="The call has no request"):
        channel.stream_unary(f"/{SERVICE}/ModelInfer")(iter(()), timeout=20)


def test_health_is_that_of_the_standard_service(channel: grpc.Channel) -> None:
    """For the server as a whole and for the protocol's service, asked once and watched."""
    stub = health_pb2_grpc.HealthStub(channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    for name in ("", SERVICE):
        assert stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status == serving
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=name))
        assert next(watch).status == serving
        watch.cancel()
    with pytest.raises(grpc.RpcError) as raised:
        stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=5)
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


def reflected(channel: grpc.Channel, **asked: str) -> reflection_pb2.ServerReflectionResponse:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    (answer,) = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**asked)]), timeout=5)
    return answer


def test_reflection_describes_the_services(channel: grpc.Channel) -> None:
    """And each field of the protocol has the number and the type that Triton's own messages have."""
    listed = reflected(channel, list_services="").list_services_response.service
    assert {one.name for one in listed} == {
        SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection",
    }  # fmt: skip
    (encoded,) = reflected(channel, file_containing_symbol=SERVICE).file_descriptor_response.file_descriptor_proto
    ours = FileDescriptorProto.FromString(encoded)
    theirs: dict[str, tuple[int, int, int, str]] = {}
    for module in (service_pb2, model_config_pb2):
        described = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(described)
        theirs |= fields_of(described)
    own = fields_of(ours)
    assert own.items() <= theirs.items()
    assert len(own) > 90


def fields_of(file: FileDescriptorProto) -> dict[str, tuple[int, int, int, str]]:
    """Number, label, type and type's name of each field, by its full name."""
    found: dict[str, tuple[int, int, int, str]] = {}
    waiting = [("", message) for message in file.message_type]
    while waiting:
        prefix, message = waiting.pop()
        name = f"{prefix}.{message.name}"
        field: FieldDescriptorProto
        for field in message.field:
            found[f"{name}.{field.name}"] = (field.number, field.label, field.type, field.type_name)
        waiting += [(name, nested) for nested in message.nested_type]
    return found


def test_the_port_must_be_free(service: GrpcService) -> None:
    """Also with SO_REUSEPORT, by which two services would share the calls without notice."""
    taken = int(service.address.rpartition(":")[2])
    assert "choose another with --grpc-port" in refuse_grpc(IngestSettings(grpc_port=taken))
    assert refuse_grpc(IngestSettings(grpc_port=free_port())) == ""
    started = subprocess.run(
        [sys.executable, "-m", "ingest", "--grpc-port", str(taken), "--port", str(free_port())],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (started.returncode, f"cannot listen on grpc_port {taken}" in started.stderr) == (2, True), started.stderr
    with pytest.raises(ValueError, match="must differ from port"):
        IngestSettings(grpc_port=5000)


def test_a_package_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    """With status 2, which `sluice serve` does not repeat, and one line that says what to install."""
    (tmp_path / "grpc_reflection.py").write_text("raise RuntimeError('gencode 7.35.1,\\nruntime 6.33.6. See a page.')")
    started = subprocess.run(
        [sys.executable, "-m", "ingest", "--grpc-port", str(free_port()), "--port", str(free_port())],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}, check=False, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert started.returncode == 2, started.stderr
    says = "gRPC cannot be used: gencode 7.35.1, runtime 6.33.6. Install what is needed with: "
    assert says in started.stderr
    assert started.stderr.count("\n") == 1


def test_numbers_that_are_no_pixels_are_refused(channel: grpc.Channel) -> None:
    """uint_contents can hold more than a byte."""
    large = pb.ModelInferRequest.InferInputTensor(name="images", datatype="UINT8", shape=[1, 16, 16, 3])
    large.contents.uint_contents.extend(np.full(768, 256).tolist())
    assert "a number is above 255" in refusal(channel, request(inputs=[large])).details()
