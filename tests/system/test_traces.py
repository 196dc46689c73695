"""Traces: from the HTTP request through the stream to the batch and back, at a real receiver."""

import json
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest
import redis
from PIL import Image
from tritonclient import grpc as triton

from stream.host.tracing import provider
from tests.support import grpc_service
from tests.support.images import encoded, scene
from tests.support.otlp_receiver import Receiver, Span
from tests.support.processes import ROOT, Processes
from tests.support.programs.rogue_consumer import MARK
from tests.support.redis.requests_direct import TINY, random_images
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until

STAGES = ["ingest", "queue", "inference", "reply"]
CLIENT_TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT_SPAN = "b7ad6b7169203331"

SERVER, CONSUMER = 2, 5  # SpanKind of OTLP's protobuf


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def traced(processes: Processes, receiver: Receiver) -> Processes:
    """Processes that export to the receiver, and only at their end: what arrives was flushed."""
    processes.share(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_BSP_SCHEDULE_DELAY="600000")
    return processes


def post(url: str, **headers: str) -> httpx.Response:
    return httpx.post(f"{url}/predict", content=encoded(scene(), "PNG"), headers=headers, timeout=30)


def marked() -> Image.Image:
    """What tests/support/programs/rogue_consumer.py fails on, whatever it is scaled to."""
    return Image.new("RGB", (16, 16), MARK)


def below(spans: list[Span], parent: Span) -> list[Span]:
    children = [span for span in spans if span.parent == parent.id]
    return sorted(children, key=lambda span: (span.began_ns, span.ended_ns))


def test_a_trace_leads_from_the_request_to_its_batch_and_back(traced: Processes, receiver: Receiver) -> None:
    """The client's own trace goes on; the stages lie end to end, and are the whole; the batch knows whom it ran."""
    traced.consumer(rogue="slow")
    ingest_process, url = traced.ingest(log_level="debug", log_format="json")
    answer = post(url, traceparent=f"00-{CLIENT_TRACE}-{CLIENT_SPAN}-01").json()
    traced.stop_all()
    (request,) = receiver.named("POST /predict")
    assert (request.trace, request.parent, request.kind) == (CLIENT_TRACE, CLIENT_SPAN, SERVER)
    assert request.service == "sluice-ingest"
    assert request.attributes == {
        "http.request.method": "POST", "url.path": "/predict", "url.scheme": "http", "http.route": "/predict",
        "http.response.status_code": 200,
    }  # fmt: skip

    stages = below(receiver.spans, request)
    assert [stage.name for stage in stages] == STAGES
    assert {stage.trace for stage in stages} == {CLIENT_TRACE}
    assert sum(stage.ms for stage in stages) == pytest.approx(request.ms, rel=0.05)
    ends = [request.began_ns, *(stage.ended_ns for stage in stages)]
    assert all(abs(one.began_ns - end) < 10_000 for one, end in zip(stages, ends, strict=False))
    assert ends[-1] == request.ended_ns
    ingest, _, inference, reply = stages
    assert [step.name for step in below(receiver.spans, ingest)] == ["upload", "decode"]
    assert inference.ms >= 50
    assert reply.began_ns < reply.ended_ns

    (batch,) = receiver.named("batch")
    assert (batch.service, batch.kind, batch.links) == ("sluice-consumer", CONSUMER, (request.id,))
    assert batch.trace != CLIENT_TRACE
    assert inference.links == (batch.id,)
    assert batch.attributes["sluice.batch.size"] == 1
    assert {batch.attributes[f"sluice.{name}"] for name in ("model", "version", "provider")} == {
        answer["model"], answer["version"], "CPUExecutionProvider"
    }  # fmt: skip
    (logged,) = [line for line in map(json.loads, ingest_process.text.splitlines()) if line.get("route") == "/predict"]
    assert (logged["trace_id"], logged["request"]) == (CLIENT_TRACE, answer["id"])


def test_a_batch_has_a_link_to_each_of_its_requests(traced: Processes, receiver: Receiver, server: Server) -> None:
    """But not to those whose clients have decided against a trace, which leave no span at all."""
    consumer = traced.consumer(lease_s=30)
    _, url = traced.ingest()
    # While the consumer stands still they all come to wait, so that it finds several at once.
    consumer.send(signal.SIGSTOP)
    with ThreadPoolExecutor(9) as clients, redis.Redis.from_url(server.url) as client:
        unsampled = clients.submit(post, url, traceparent=f"00-{CLIENT_TRACE}-{CLIENT_SPAN}-00")
        others = [clients.submit(post, url) for _ in range(8)]
        wait_until(lambda: client.xlen(TINY.entries) == 9, "all of them wait")
        consumer.send(signal.SIGCONT)
    assert [future.result().status_code for future in (unsampled, *others)] == [200] * 9
    traced.stop_all()
    requests = receiver.named("POST /predict")
    batches = receiver.named("batch")
    assert len(requests) == len({one.trace for one in requests}) == 8
    assert sorted(link for batch in batches for link in batch.links) == sorted(one.id for one in requests)
    assert max(len(batch.links) for batch in batches) > 1
    assert CLIENT_TRACE not in {span.trace for span in receiver.spans}
    for request in requests:
        assert [stage.name for stage in below(receiver.spans, request)] == STAGES


def test_a_failed_inference_is_a_failed_span(traced: Processes, receiver: Receiver) -> None:
    """As is the request's, which says with which status."""
    traced.consumer(rogue="raise")
    _, url = traced.ingest()
    assert httpx.post(f"{url}/predict", content=encoded(marked(), "PNG"), timeout=30).status_code == 500
    traced.stop_all()
    assert [(span.name, span.failed) for span in receiver.spans if span.failed] == [
        (name, True) for name in ("batch", "inference", "POST /predict")
    ]
    (request,) = receiver.named("POST /predict")
    assert request.attributes["error.type"] == "500"
    assert [stage.name for stage in below(receiver.spans, request)] == ["ingest", "queue", "inference"]


def test_a_call_of_grpc_is_traced_as_a_request(traced: Processes, receiver: Receiver) -> None:
    """With the client's trace from its metadata, the same stages, and the call's own status."""
    traced.consumer()
    ingest_process, address, _ = grpc_service.ingest(traced)
    metadata = {"traceparent": f"00-{CLIENT_TRACE}-{CLIENT_SPAN}-01"}
    with grpc.insecure_channel(address) as channel:
        grpc_service.call_infer(channel, grpc_service.black(), metadata)
        unknown = grpc_service.black()
        unknown.model_name = "unknown"
        assert grpc_service.refusal(channel, unknown).code() == grpc.StatusCode.NOT_FOUND
    with triton.InferenceServerClient(address) as client:
        assert client.is_server_live()
        answers: queue.Queue[object] = queue.Queue()
        client.start_stream(lambda result, error: answers.put(error or result))
        for _ in range(2):
            client.async_stream_infer("tiny", grpc_service.tensor(random_images(1)))
        assert all(isinstance(answers.get(timeout=20), triton.InferResult) for _ in range(2))
        client.stop_stream()
    traced.stop_all()
    assert ingest_process.status == 0

    name = "inference.GRPCInferenceService"
    good, bad = sorted(receiver.named(f"{name}/ModelInfer"), key=lambda span: span.began_ns)
    assert (good.trace, good.parent, good.kind, good.failed) == (CLIENT_TRACE, CLIENT_SPAN, SERVER, False)
    about = {"rpc.system": "grpc", "rpc.service": name, "rpc.method": "ModelInfer"}
    assert good.attributes == {**about, "rpc.grpc.status_code": 0}
    assert (bad.attributes, bad.failed) == ({**about, "rpc.grpc.status_code": 5}, False)
    stages = below(receiver.spans, good)
    assert [stage.name for stage in stages] == STAGES
    assert [step.name for step in below(receiver.spans, stages[0])] == ["upload"]
    streamed = receiver.named(f"{name}/ModelStreamInfer")
    assert len({span.trace for span in streamed}) == 2
    assert [[stage.name for stage in below(receiver.spans, span)] for span in streamed] == [STAGES] * 2
    assert receiver.named(f"{name}/ServerLive") == []


def test_what_machines_ask_leaves_no_trace(traced: Processes, receiver: Receiver) -> None:
    """Health checks and scrapes would hide the others; a path that is no route is named by its method alone."""
    _, url = traced.ingest(ready=False)
    statuses = [httpx.get(url + path).status_code for path in ("/healthz", "/metrics", "/nowhere")]
    traced.stop_all()
    assert statuses == [200, 200, 404]
    assert [(span.name, span.attributes["url.path"]) for span in receiver.spans] == [("GET", "/nowhere")]


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "true"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_traced_that_nobody_asked_for(environment: dict[str, str]) -> None:
    """Nothing that traces is imported then, at either end."""
    program = (
        "import os, sys, ingest.app, ingest.server, consumers.__main__\n"
        "from stream.host import tracing\n"
        "from stream.settings import IngestSettings\n"
        "names = [one.cls.__name__ for one in ingest.app.create_app(IngestSettings()).user_middleware]\n"
        "assert names and 'TracingMiddleware' not in names, 'ingest traces'\n"
        "assert tracing.provider(os.environ, 'x') is None\n"
        "traces = ('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'ingest.middleware.tracing', "
        "'consumers.tracing')\n"
        "print([name for name in sys.modules if name.startswith(traces)])"
    )
    command = [sys.executable, "-c", program]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(command, env={**clean, **environment}, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A user who asks for traces and gets none learns what to install; the service runs nevertheless."""
    monkeypatch.setattr("stream.host.tracing.find_spec", lambda _name: None)
    assert provider(ENDPOINT, "sluice-ingest") is None
    assert "pip install -e '.[traces]'" in caplog.text


def test_another_exporter_is_refused_by_name(caplog: pytest.LogCaptureFixture) -> None:
    """Rather than spans going where nobody asked for them."""
    assert provider({**ENDPOINT, "OTEL_TRACES_EXPORTER": "zipkin"}, "sluice-ingest") is None
    assert "zipkin" in caplog.text
