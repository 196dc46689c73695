"""The gRPC server of one worker: it runs on the worker's event loop and shares its registry and its decoder.

All workers bind the same port with SO_REUSEPORT, so the kernel gives each new connection to one of them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ingest.auth.api_keys import configured_keys
from ingest.dispatch.registry import ModelRegistry
from ingest.grpc_api import unknown_methods
from ingest.grpc_api.access import Access
from ingest.grpc_api.arrivals import Arrivals
from ingest.grpc_api.calls import Calls
from ingest.grpc_api.inference import InferMethods
from ingest.grpc_api.metadata import MetadataMethods, RepositoryMethods, is_ready
from ingest.grpc_api.service import SERVICE, Service
from ingest.middleware.rate_limit import RateLimit
from ingest.middleware.request_metrics import RequestRecorder
from ingest.oip.infer_runner import InferRunner
from ingest.oip.repository import ModelRepository
from ingest.serving.shutdown import exit_on_failure, on_shutdown
from stream.settings import IngestSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from ingest.grpc_api.tracing import CallTracer

#: How often the health service asks the registry, in seconds. The registry itself looks once a second.
_HEALTH_S: Final = 0.1

#: What a message holds in addition to its images.
_HEADROOM_BYTES: Final = 2**16

#: Seconds for the last responses to leave, once all calls are answered.
_FLUSH_S: Final = 0.5

_HEALTH: Final[str] = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


@asynccontextmanager
async def serving(
    settings: IngestSettings,
    registry: ModelRegistry,
    runner: InferRunner,
    repository: ModelRepository,
    recorder: RequestRecorder,
    limit: RateLimit | None,
    *,
    traces: "TracerProvider | None" = None,
) -> AsyncIterator[None]:
    """Serve gRPC within this block. At SIGTERM it accepts no more calls, and finishes those that it has."""
    # It logs a traceback for each piece of metadata that is no UTF-8.
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)
    access = Access(configured_keys(settings), limit, trusted_proxies=settings.trusted_proxies)
    calls = Calls(access, recorder, _tracer(traces))
    infer = InferMethods(runner, calls)
    arrivals = Arrivals(settings.upload_memory // settings.max_upload_bytes, timeout_s=settings.upload_timeout_s)
    service = Service(calls, arrivals)
    states = health.aio.HealthServicer()
    unknown_methods.install()
    server = grpc.aio.server(options=_options(settings))
    inference = service.inference(infer, MetadataMethods(registry), RepositoryMethods(repository))
    server.add_registered_method_handlers(SERVICE, inference)
    server.add_registered_method_handlers(reflection.SERVICE_NAME, service.reflection((SERVICE, _HEALTH)))
    health_pb2_grpc.add_HealthServicer_to_server(states, server)
    server.add_insecure_port(_address(settings))
    await server.start()
    watching = asyncio.create_task(_follow(server, registry, states))
    exit_on_failure(watching, "gRPC server")
    stopping: list[asyncio.Task[None]] = []

    def stop() -> None:
        infer.close()
        if not stopping:
            stopping.append(asyncio.create_task(_stop(server, states, calls, settings.shutdown_grace_s)))

    on_shutdown(stop)
    try:
        yield
    finally:
        watching.cancel()
        stop()
        await stopping[0]


def _tracer(traces: "TracerProvider | None") -> "CallTracer | None":
    if traces is None:
        return None
    from ingest.grpc_api.tracing import CallTracer  # Not at the top: they import OpenTelemetry.
    from ingest.middleware.tracing import RequestTracer

    return CallTracer(RequestTracer(traces))


async def _follow(server: grpc.aio.Server, registry: ModelRegistry, states: health.aio.HealthServicer) -> None:
    """Keep the state of the health service that of the registry until the server ends. Raises what ended it."""
    status = health_pb2.HealthCheckResponse
    runs = True
    while runs:
        state = status.SERVING if is_ready(registry) else status.NOT_SERVING
        for name in ("", SERVICE):
            await states.set(name, state)
        runs = await server.wait_for_termination(_HEALTH_S)


async def _stop(server: grpc.aio.Server, states: health.aio.HealthServicer, calls: Calls, grace_s: float) -> None:
    await states.enter_graceful_shutdown()
    stopped = asyncio.create_task(server.stop(grace_s))
    await asyncio.wait((stopped, idle := asyncio.create_task(calls.idle.wait())), return_when=asyncio.FIRST_COMPLETED)
    idle.cancel()
    # The last responses leave now. What is left are clients that watch the health, which would wait for ever.
    await asyncio.wait((stopped,), timeout=_FLUSH_S)
    await server.stop(None)
    await stopped


def _options(settings: IngestSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", settings.max_upload_bytes + _HEADROOM_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_connection_idle_ms", settings.keep_alive_s * 1000),
        # Otherwise gRPC lets clients send megabytes ahead of what is read.
        ("grpc.http2.bdp_probe", 0),
    ]


def _address(settings: IngestSettings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{host}:{settings.grpc_port}"
