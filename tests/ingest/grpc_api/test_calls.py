"""Calls under pressure: deadlines, cancellation, full queues, several workers, shutdown, and proxies in front."""

import queue
import re
import signal

import grpc
import httpx
import numpy as np
import pytest
import redis
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from tests.ingest.test_app import png
from tests.support.grpc_service import black, ingest, refusal, tensor
from tests.support.models import tiny_model
from tests.support.processes import Processes
from tests.support.redis.requests_direct import TINY, random_images
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until

INFER = "/inference.GRPCInferenceService/ModelInfer"


def ignore(**_answer: object) -> None:
    """A callback for an answer that does not matter."""


def cancelled(client: redis.Redis) -> int:
    """How many images were cancelled."""
    values = [client.get(name) for name in client.scan_iter(TINY.request("*"))]
    return sum(isinstance(value, bytes) and b'"reason": "cancelled"' in value for value in values)


def test_a_deadline_ends_the_work(processes: Processes, server: Server) -> None:
    """The client's deadline, long before that of the service: the images leave the queue."""
    consumer = processes.consumer(rogue="slow", version=1, max_batch=1)
    _, address, url = ingest(processes)
    with triton.InferenceServerClient(address) as client, redis.Redis.from_url(server.url) as entries:
        consumer.send(signal.SIGSTOP)
        with pytest.raises(InferenceServerException) as raised:
            client.infer("tiny", tensor(random_images(60)), client_timeout=4)
        assert raised.value.status() == "StatusCode.DEADLINE_EXCEEDED"
        consumer.send(signal.SIGCONT)
        wait_until(lambda: entries.xlen(TINY.entries) == 0, "the entries have left the stream")
        assert cancelled(entries) >= 20
    wait_until(lambda: counted(url, INFER, 504) == 1, "the call is counted")


def test_a_client_that_cancels_ends_the_work(processes: Processes, server: Server) -> None:
    """The consumer runs none that it has not begun."""
    processes.consumer(rogue="slow", version=1, max_batch=1)
    _, address, url = ingest(processes)
    with triton.InferenceServerClient(address) as client, redis.Redis.from_url(server.url) as entries:
        call = client.async_infer("tiny", tensor(random_images(60)), ignore)
        wait_until(lambda: entries.xlen(TINY.entries) >= 20, "the images are queued")
        call.cancel()
        wait_until(lambda: entries.xlen(TINY.entries) == 0, "the entries have left the stream")
        assert cancelled(entries) >= 20
    wait_until(lambda: counted(url, INFER, 499) == 1, "the call is counted")


def counted(url: str, route: str, status: int) -> float:
    """How often the metrics say that this route ended with this status."""
    line = f'sluice_requests_total{{route="{route}",status="{status}"}} '
    found = [one for one in httpx.get(f"{url}/metrics").text.splitlines() if one.startswith(line)]
    return float(found[0].removeprefix(line)) if found else 0


def test_metrics_and_the_page_count_calls(processes: Processes) -> None:
    """Under the method's name, with the status that REST would have. Log lines name calls as over REST."""
    processes.consumer(version=1)
    process, address, url = ingest(processes, log_level="debug")
    with triton.InferenceServerClient(address) as client:
        for _ in range(3):
            client.infer("tiny", tensor(random_images(1)))
        with pytest.raises(InferenceServerException, match="There is no model"):
            client.infer("nowhere", tensor(random_images(1)))
        assert client.is_server_ready()
        answered: list[object] = []
        client.start_stream(lambda **answer: answered.append(answer["result"]), headers={"x-request-id": "shop-17"})
        for _ in range(2):
            client.async_stream_infer("tiny", tensor(random_images(1)))
        wait_until(lambda: len(answered) == 2, "both requests of the stream are answered")
        client.stop_stream()
    named = re.findall(r"request=shop-17,([0-9a-f]{32})$", process.text, re.MULTILINE)
    assert len(set(named)) == 2, "each request of a stream is named by its own image"
    wait_until(lambda: counted(url, INFER, 404) == 1, "the last call is counted")
    assert counted(url, INFER, 200) == 3
    assert counted(url, "/inference.GRPCInferenceService/ServerReady", 200) == 1
    assert 'sluice_problems_total{code="unknown_model"} 1.0' in httpx.get(f"{url}/metrics").text


def test_a_full_queue_is_unavailable_and_says_when_to_call_again(processes: Processes, server: Server) -> None:
    """As over REST: nothing is waited for, and the metadata has retry-after."""
    consumer = processes.consumer(rogue="slow", version=1, max_batch=1)
    _, address, url = ingest(processes, max_backlog=3)
    with triton.InferenceServerClient(address) as client, redis.Redis.from_url(server.url) as entries:
        client.async_infer("tiny", tensor(random_images(15)), ignore)
        wait_until(lambda: entries.xlen(TINY.entries) == 3, "the queue is full")
        consumer.send(signal.SIGSTOP)
        wait_until(lambda: entries.xlen(TINY.entries) == 3, "the queue is full, and stays so")
        rest = httpx.post(f"{url}/predict", content=png(random_images(1)[0]))
        assert rest.status_code == 503
        with grpc.insecure_channel(address) as channel:
            error = refusal(channel, black())
        consumer.send(signal.SIGCONT)
    assert (error.code().name, error.details()) == ("UNAVAILABLE", rest.json()["detail"])
    metadata = dict(error.trailing_metadata())
    assert metadata["sluice-problem"] == "overloaded"
    assert metadata["x-request-id"]
    assert int(metadata["retry-after"]) >= 1


def test_several_workers_share_the_port(processes: Processes) -> None:
    """Each new connection goes to one of them, and each has the whole service."""
    processes.consumer(version=1)
    process, address, url = ingest(processes, workers=2)
    images = random_images(4)
    truth = tiny_model.expected(images, tiny_model.weights(seed=7))
    for number in range(20):
        # Channels with equal options would share a connection.
        with triton.InferenceServerClient(address, channel_args=[("sluice.number", number)]) as client:
            wait_until(client.is_server_ready, "this worker knows the consumer")
            answer = client.infer("tiny", tensor(images)).as_numpy("probabilities")
            np.testing.assert_allclose(answer, truth, atol=1e-5)
    wait_until(lambda: counted(url, INFER, 200) == 20, "each worker has written")
    assert process.stop() == 0


def test_a_shutdown_finishes_calls_and_ends_streams(processes: Processes, server: Server) -> None:
    """A call that runs is answered; a stream without a request, and a client that watches the health, delay nothing."""
    processes.consumer(rogue="slow", version=1, max_batch=1)
    process, address, _ = ingest(processes)
    images = random_images(12)
    answers: queue.Queue[triton.InferResult | InferenceServerException] = queue.Queue()
    streamed: queue.Queue[InferenceServerException | None] = queue.Queue()
    with triton.InferenceServerClient(address) as client, grpc.insecure_channel(address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        next(state for state in watch if state.status == health_pb2.HealthCheckResponse.SERVING)
        client.start_stream(lambda **answer: streamed.put(answer["error"]))
        client.async_stream_infer("tiny", tensor(images[:1]))
        assert streamed.get(timeout=20) is None
        client.async_infer("tiny", tensor(images), lambda **answer: answers.put(answer["result"] or answer["error"]))
        wait_until(lambda: in_flight(server) > 0, "the call is on its way")
        assert process.stop() == 0
        result = answers.get(timeout=5)
        assert isinstance(result, triton.InferResult), result
        truth = tiny_model.expected(images, tiny_model.weights(seed=7))
        np.testing.assert_allclose(result.as_numpy("probabilities"), truth, atol=1e-5)
        assert "Open the stream again" in str(streamed.get(timeout=5))
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING


def in_flight(server: Server) -> int:
    """Entries in the stream."""
    with redis.Redis.from_url(server.url) as entries:
        return int(entries.xlen(TINY.entries))
