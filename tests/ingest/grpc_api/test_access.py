"""API keys and rate limits over gRPC: the keys, the owners, the limits and the sentences of HTTP."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import pytest
import redis
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from ingest.auth.api_keys import StoredKey, new_key
from tests.ingest.test_app import png
from tests.support.grpc_service import black, call_infer, files, ingest, refusal, tensor
from tests.support.processes import Processes
from tests.support.redis.requests_direct import TINY, random_images
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until

ALICE, BOB = "a" * 16 + new_key(), "b" * 16 + new_key()


@contextmanager
def clients(address: str) -> Iterator[tuple[triton.InferenceServerClient, grpc.Channel]]:
    with triton.InferenceServerClient(address) as client, grpc.insecure_channel(address) as channel:
        yield client, channel


def test_a_key_is_asked_for_and_its_owner_owns_the_result(processes: Processes, server: Server, tmp_path: Path) -> None:
    """In each form that HTTP accepts. Health needs none; a withdrawn key is refused without a restart."""
    file = tmp_path / "keys"
    file.write_text(StoredKey.of("alice", ALICE).encode())
    processes.consumer(version=1)
    _, address, url = ingest(processes, api_keys_file=file, api_keys=f"bob:{BOB}")
    basic = base64.b64encode(f"anybody:{ALICE}".encode()).decode()
    with clients(address) as (client, channel), redis.Redis.from_url(server.url) as results:
        assert client.is_server_live()
        assert client.is_server_ready()
        for headers in ({}, {"authorization": "Bearer nonsense"}):
            error = refusal(channel, black(), headers)
            rest = httpx.post(f"{url}/predict", content=b"x", headers=headers).json()
            assert (error.code().name, error.details()) == ("UNAUTHENTICATED", rest["detail"])
        with pytest.raises(InferenceServerException, match="An API key is needed"):
            client.get_server_metadata()
        for headers in (
            {"authorization": f"Bearer {ALICE}"},
            {"x-api-key": ALICE},
            {"authorization": f"Basic {basic}"},
        ):
            assert client.infer("tiny", tensor(random_images(1)), headers=headers)
        client.infer("tiny", files([png(random_images(1)[0])]), headers={"x-api-key": BOB})
        owners = {name.decode().rpartition(":")[2].split(".")[0] for name in results.scan_iter(TINY.request("*"))}
        assert owners == {"alice", "bob"}
        file.write_text("")
        wait_until(lambda: is_refused(client, {"x-api-key": ALICE}), "the key is withdrawn")
        assert client.infer("tiny", tensor(random_images(1)), headers={"x-api-key": BOB})


def is_refused(client: triton.InferenceServerClient, headers: dict[str, str]) -> bool:
    try:
        client.get_server_metadata(headers=headers)
    except InferenceServerException as error:
        return bool(error.status() == "StatusCode.UNAUTHENTICATED")
    return False


def test_streams_and_reflection_ask_for_a_key_and_health_does_not(processes: Processes) -> None:
    """What describes the API is as open as /openapi.json."""
    _, address, _ = ingest(processes, ready=False, api_keys=f"bob:{BOB}")
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
        (answer,) = reflect(iter(asked), metadata=[("x-api-key", BOB)], timeout=5)
        assert len(answer.list_services_response.service) == 3
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        for call in (reflect(iter(asked), timeout=5), stream(iter([b""]), timeout=5)):
            with pytest.raises(grpc.RpcError) as raised:
                next(call)
            assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_limit_holds_over_http_and_grpc_together(processes: Processes) -> None:
    """Each key has one limit, and each request of a stream counts."""
    processes.consumer(version=1)
    _, address, url = ingest(processes, api_keys=f"alice:{ALICE},bob:{BOB}", rate_limit_per_s=0.01, rate_limit_burst=4)
    alice, bob = {"x-api-key": ALICE}, {"x-api-key": BOB}
    with clients(address) as (client, channel):
        assert httpx.get(f"{url}/models", headers=alice).headers["ratelimit"].startswith('"requests";r=3')
        answers: list[tuple[object, object]] = []
        client.start_stream(lambda result, error: answers.append((result, error)), headers=alice)
        for _ in range(2):
            client.async_stream_infer("tiny", tensor(random_images(1)))
        wait_until(lambda: len(answers) == 2, "both are answered")
        client.infer("tiny", tensor(random_images(1)), headers=alice)
        client.async_stream_infer("tiny", tensor(random_images(1)))
        wait_until(lambda: len(answers) == 3, "the third is answered")
        assert [error is None for _, error in answers] == [True, True, False]
        assert "The rate limit is reached" in str(answers[-1][1])
        client.stop_stream()
        error = refusal(channel, black(), alice)
        assert (error.code().name, error.details()[:24]) == ("RESOURCE_EXHAUSTED", "The rate limit is reache")
        metadata = dict(error.trailing_metadata())
        assert metadata["ratelimit"].startswith('"requests";r=0')
        assert int(metadata["retry-after"]) >= 1
        assert httpx.get(f"{url}/models", headers=alice).status_code == 429
        assert client.infer("tiny", tensor(random_images(1)), headers=bob)
        assert client.is_server_live(headers=alice), "health does not count"


def test_an_address_has_a_limit_and_a_trusted_proxy_names_it(processes: Processes) -> None:
    """Without keys. A proxy that is not trusted cannot name another client."""
    processes.consumer(version=1)
    for trusted, refused in (("127.0.0.1", False), ("192.0.2.1", True)):
        _, address, _ = ingest(processes, rate_limit_per_s=0.001, rate_limit_burst=1, trusted_proxies=trusted)
        with clients(address) as (client, channel):
            first, other = f"198.51.100.{len(trusted)}", f"203.0.113.{len(trusted)}"
            if not refused:
                call_infer(channel, black(), {"x-forwarded-for": first})
                limited = refusal(channel, black(), {"x-forwarded-for": first})
                assert limited.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                call_infer(channel, black(), {"x-forwarded-for": other})
                call_infer(channel, black())
            limited = refusal(channel, black(), {"x-forwarded-for": first})
            assert limited.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert client.is_server_ready()
