"""The web application: all routes, all middleware in order, the error handlers, and the life of all parts.

A request passes the middleware in the order of `_middleware`, and then the endpoint of its route. CONTRIBUTING.md says
what else a new endpoint needs.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ingest.api.dead_letters import REPLAY, ReplayEndpoint
from ingest.api.health import ALIVE, READY, ReadyEndpoint, alive
from ingest.api.idempotency import IdempotencyKeys
from ingest.api.live import LIVE, LiveEvents
from ingest.api.metrics import METRICS, MetricsEndpoint
from ingest.api.models import LABELS, MODELS, LabelsEndpoint, ModelsEndpoint
from ingest.api.openapi import OPENAPI, OpenApiEndpoint
from ingest.api.predict import PredictEndpoint, predict_operation
from ingest.api.predict_request import PredictBody
from ingest.api.results import CANCEL, FETCH, ResultEndpoint
from ingest.api.static import PageEndpoints
from ingest.api.webhook_requests import WebhookRequests
from ingest.auth.api_keys import configured_keys
from ingest.backpressure import BacklogLimit
from ingest.classification import Classifier
from ingest.dashboard.request_window import RequestWindow
from ingest.dashboard.shared_window import SharedWindow
from ingest.dashboard.snapshot import SnapshotReader
from ingest.dispatch.registry import ModelRegistry
from ingest.errors import Problem
from ingest.images.decoder import Decoder
from ingest.images.worker_process import DecodeLimits
from ingest.metrics import REDIS
from ingest.middleware.auth import AuthMiddleware
from ingest.middleware.browsers import SECURITY_HEADERS, SameOriginMiddleware, SecurityHeadersMiddleware
from ingest.middleware.rate_limit import RateLimit, RateLimitMiddleware
from ingest.middleware.request_metrics import RequestMetricsMiddleware, RequestRecorder, headers_of_all
from ingest.oip.endpoints import oip_routes
from ingest.oip.infer_runner import InferRunner
from ingest.oip.repository import ModelRepository, RepositoryEndpoints
from ingest.openapi.operation import DocumentedRoute
from ingest.paths import RESULT_PATH
from ingest.request_body import Limits
from ingest.responses import on_disconnect, on_http_error, on_problem, problem_response
from ingest.serving.shutdown import exit_on_failure, on_shutdown
from ingest.tfserving.endpoints import tfserving_routes
from ingest.upload_memory import UploadMemory
from stream.connection.clients import Connections
from stream.host.cpu import usable_cores
from stream.load_requests import LoadRequests
from stream.settings import IngestSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from ingest.api.image_urls import ImageUrls
    from ingest.outbound.policy import Policy

#: How many requests of the largest size may wait in the memory of one process until they are decoded.
_LARGEST_WAITING: Final = 4

#: An image may always wait this long for its decoding, whatever max_wait_s: other processes may take the cores.
_MIN_WAIT_S: Final = 2.0


def create_app(
    settings: IngestSettings, metrics_folder: Path | None = None, *, traces: "TracerProvider | None" = None
) -> Starlette:
    """The application of one ingest process. Processes that share a port share a folder for their metrics.

    `traces` exports the spans of requests, if they are wanted.
    """
    connections = Connections(settings, REDIS)
    registry = ModelRegistry(connections, settings)
    decoder = Decoder(
        threads=settings.decode_threads or max(1, usable_cores() // settings.worker_count),
        backlog=BacklogLimit(max_backlog=settings.max_backlog, max_wait_s=settings.max_wait_s),
        max_bytes=_LARGEST_WAITING * settings.max_upload_bytes,
        limits=DecodeLimits(
            max_pixels=settings.max_pixels,
            memory_bytes=settings.max_decode_memory,
            cpu_s=settings.max_decode_s,
            wait_s=max(_MIN_WAIT_S, settings.max_wait_s),
        ),
    )
    limits = Limits(
        max_bytes=settings.max_upload_bytes,
        max_images=settings.max_images,
        body_timeout_s=settings.upload_timeout_s,
        memory=UploadMemory(settings.upload_memory),
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        running = asyncio.create_task(registry.run())
        publishing = asyncio.create_task(shared.run())
        recording = asyncio.create_task(recorder.run())
        starting = asyncio.create_task(decoder.start())
        exit_on_failure(running, "model registry")
        exit_on_failure(publishing, "request counts")
        exit_on_failure(recording, "metrics")
        on_shutdown(live.close)
        # A worker that has not read the models yet would refuse images that the other workers accept.
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.redis_timeout_s):
                await registry.first_refresh.wait()
        await starting  # Nor should its first images wait for their decoder.
        async with _grpc(settings, registry, runner, repository, recorder, limit, traces):
            yield
        running.cancel()
        publishing.cancel()
        recording.cancel()
        recorder.write()
        await decoder.aclose()
        if urls:
            await urls.aclose()
        await connections.aclose()

    classifier = Classifier(decoder)
    runner = InferRunner(registry, classifier, timeout_s=settings.request_timeout_s)
    timeout_s = settings.request_timeout_s
    repository = ModelRepository(registry, LoadRequests(connections.shared), timeout_s=timeout_s)
    urls = _image_urls(settings)
    body = PredictBody(limits, urls, webhooks=settings.webhooks)
    webhooks = WebhookRequests(_webhook_policy(settings))
    idempotency = IdempotencyKeys(connections, ttl_s=settings.result_ttl_s)
    predict = PredictEndpoint(registry, classifier, body, webhooks, idempotency, timeout_s=timeout_s)
    result = ResultEndpoint(registry, timeout_s=timeout_s)
    window = RequestWindow()
    recorder = RequestRecorder(window)
    limit = _rate_limit(settings, connections.shared)
    shared = SharedWindow(connections.shared, window, timeout_s=settings.redis_timeout_s)
    live = LiveEvents(SnapshotReader(connections, settings, shared).read)
    replay = ReplayEndpoint(connections, request_ttl_s=settings.result_ttl_s + timeout_s)
    metrics = MetricsEndpoint(connections, recorder.write, timeout_s=settings.redis_timeout_s, folder=metrics_folder)
    app = Starlette(
        routes=[
            DocumentedRoute("/predict", predict, {"POST": predict_operation(body, webhooks)}),
            *PageEndpoints().routes(),
            DocumentedRoute("/live", live.__call__, LIVE),
            DocumentedRoute("/dead-letters/{model}/{id}/replay", replay.__call__, {"POST": REPLAY}),
            DocumentedRoute("/predict/{model}", predict, {"POST": predict_operation(body, webhooks)}),
            DocumentedRoute(RESULT_PATH, result.__call__, {"GET": FETCH, "DELETE": CANCEL}),
            DocumentedRoute("/models", ModelsEndpoint(registry).__call__, MODELS),
            DocumentedRoute("/models/{model}/labels", LabelsEndpoint(registry).__call__, LABELS),
            *oip_routes(registry, runner, limits),
            *RepositoryEndpoints(repository, limits).routes(),
            *tfserving_routes(registry, classifier, limits, timeout_s=timeout_s),
            DocumentedRoute("/healthz", alive, ALIVE),
            DocumentedRoute("/readyz", ReadyEndpoint(registry).__call__, READY),
            DocumentedRoute("/metrics", metrics.__call__, METRICS),
        ],
        exception_handlers={
            Problem: on_problem,
            HTTPException: on_http_error,
            ClientDisconnect: on_disconnect,
            Exception: _answer_internal_error,
        },
        middleware=_middleware(settings, limit, recorder, traces),
        lifespan=lifespan,
    )
    # A path that is nearly right is a 404 that says so, not a redirect that most clients do not follow with a POST.
    app.router.redirect_slashes = False
    keys, limited = bool(configured_keys(settings)), bool(settings.rate_limit_per_s)
    document = OpenApiEndpoint(app.routes, registry, keys=keys, limited=limited)
    app.routes.append(DocumentedRoute("/openapi.json", document.__call__, OPENAPI))
    return app


def _middleware(
    settings: IngestSettings, limit: RateLimit | None, recorder: RequestRecorder, traces: "TracerProvider | None"
) -> list[Middleware]:
    """What each request passes, in this order; its response passes the same in reverse order."""
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    keys = configured_keys(settings)
    return [
        *_tracing(traces),
        Middleware(RequestMetricsMiddleware, recorder=recorder),
        Middleware(SecurityHeadersMiddleware),
        *_cors(origins),
        Middleware(SameOriginMiddleware, allowed=origins),
        *([Middleware(AuthMiddleware, keys=keys)] if keys else []),
        *([Middleware(RateLimitMiddleware, limit=limit)] if limit else []),
    ]


def _tracing(traces: "TracerProvider | None") -> list[Middleware]:
    if traces is None:
        return []
    from ingest.middleware.tracing import RequestTracer, TracingMiddleware  # Not at the top: it imports OpenTelemetry.

    return [Middleware(TracingMiddleware, tracer=RequestTracer(traces))]


def _cors(origins: list[str]) -> list[Middleware]:
    if not origins:
        return []
    methods = ["GET", "POST", "DELETE"]
    return [
        Middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=methods, allow_headers=["*"], expose_headers=["*"]
        )
    ]


def _rate_limit(settings: IngestSettings, redis: Redis) -> RateLimit | None:
    if not settings.rate_limit_per_s:
        return None
    per_s, burst = settings.rate_limit_per_s, settings.rate_limit_burst
    return RateLimit(redis, per_s=per_s, burst=burst, timeout_s=settings.redis_timeout_s)


def _image_urls(settings: IngestSettings) -> "ImageUrls | None":
    """What fetches images by URL, if they are accepted."""
    if not settings.fetch_urls:
        return None
    from ingest.api.image_urls import ImageUrls  # Not at the top: it imports httpx.

    return ImageUrls(settings)


def _webhook_policy(settings: IngestSettings) -> "Policy | None":
    """Which webhooks requests may name, if any."""
    if not settings.webhooks:
        return None
    from ingest.outbound.policy import Policy  # Not at the top: it imports httpx.

    return Policy.of(settings, settings.webhook_hosts)


def _grpc(
    settings: IngestSettings,
    registry: ModelRegistry,
    runner: InferRunner,
    repository: ModelRepository,
    recorder: RequestRecorder,
    limit: RateLimit | None,
    traces: "TracerProvider | None",
) -> AbstractAsyncContextManager[None]:
    """The gRPC server of this worker, if there is one."""
    if not settings.grpc_port:
        return nullcontext()
    from ingest.grpc_api.server import serving  # Not at the top: it imports gRPC.

    return serving(settings, registry, runner, repository, recorder, limit, traces=traces)


async def _answer_internal_error(request: Request, _error: Exception) -> Response:
    # Starlette raises the error again after this response, and the server logs it with its traceback. The response
    # passes no middleware, so it must add their headers here.
    response = problem_response(
        Problem("An error of the service, not of the image. It has been logged."), request.url.path
    )
    response.headers.update({**SECURITY_HEADERS, **headers_of_all(request.scope)})
    return response
