"""The gRPC server of one worker: it runs on the worker's event loop and shares its registry and its decoder.

All workers bind the same port with SO_REUSEPORT, so the kernel gives each new connection to one of them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ingest.auth.api_keys import configured_keys
from ingest.dispatch.registry import ModelRegistry
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

logger = logging.getLogger(__name__)

#: How often the health service asks the registry, in seconds. The registry itself looks once a second.
_HEALTH_S: Final = 0.1

#: What a message holds in addition to its images.
_HEADROOM_BYTES: Final = 2**16

#: Seconds between two looks whether the server has ended.
_WATCH_S: Final = 0.5

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
    # It logs a traceback for each piece of metadata that is no UTF-8. What ends the server is logged here.
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)
    access = Access(configured_keys(settings), limit, trusted_proxies=settings.trusted_proxies)
    calls = Calls(access, recorder, _tracer(traces))
    infer = InferMethods(runner, calls)
    arrivals = Arrivals(settings.upload_memory // settings.max_upload_bytes, timeout_s=settings.upload_timeout_s)
    service = Service(calls, arrivals)
    handlers = (
        service.inference(infer, MetadataMethods(registry), RepositoryMethods(repository)),
        service.reflection((SERVICE, _HEALTH)),
    )
    states = health.aio.HealthServicer()

    def make() -> grpc.aio.Server:
        server = grpc.aio.server(options=_options(settings))
        server.add_generic_rpc_handlers(handlers)
        health_pb2_grpc.add_HealthServicer_to_server(states, server)
        server.add_insecure_port(_address(settings))
        return server

    server = _RestartedServer(make)
    await server.start()
    watching = asyncio.create_task(_follow(registry, states))
    exit_on_failure(watching, "gRPC health service")
    restarting = asyncio.create_task(server.restart_when_ended())
    exit_on_failure(restarting, "gRPC server")
    stopping: list[asyncio.Task[None]] = []

    def stop() -> None:
        infer.close()
        restarting.cancel()
        if not stopping:
            stopping.append(asyncio.create_task(_stop(server.current, states, calls, settings.shutdown_grace_s)))

    on_shutdown(stop)
    try:
        yield
    finally:
        watching.cancel()
        stop()
        await stopping[0]


class _RestartedServer:
    """gRPC's server, and another one when it ends by itself. It does when the path of a call is no UTF-8 (1.85)."""

    def __init__(self, make: Callable[[], grpc.aio.Server]) -> None:
        self._make = make
        self.current = make()

    async def start(self) -> None:
        await self.current.start()

    async def restart_when_ended(self) -> None:
        """Until cancelled. The calls that the server had are cancelled, and new ones are refused until then."""
        while True:
            try:
                # Without a timeout, to cancel this would cancel the end of the server, too.
                while await self.current.wait_for_termination(_WATCH_S):
                    pass
            except Exception as error:  # noqa: BLE001 (whatever ended it)
                logger.warning("the gRPC server has ended, and is started again: %s", error)
            self.current = self._make()
            await self.current.start()


def _tracer(traces: "TracerProvider | None") -> "CallTracer | None":
    if traces is None:
        return None
    from ingest.grpc_api.tracing import CallTracer  # Not at the top: they import OpenTelemetry.
    from ingest.middleware.tracing import RequestTracer

    return CallTracer(RequestTracer(traces))


async def _follow(registry: ModelRegistry, states: health.aio.HealthServicer) -> None:
    """Keep the state of the health service that of the registry."""
    status = health_pb2.HealthCheckResponse
    while True:
        state = status.SERVING if is_ready(registry) else status.NOT_SERVING
        for name in ("", SERVICE):
            await states.set(name, state)
        await asyncio.sleep(_HEALTH_S)


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
