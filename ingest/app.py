"""The web application: all routes, all middleware in order, the error handlers, and the life of all parts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from ingest.api import operations
from ingest.api.dead_letters import Letters
from ingest.api.health import Readiness, alive
from ingest.api.live import Live
from ingest.api.metrics import Scrape
from ingest.api.models import Models
from ingest.api.predict import Predict
from ingest.api.results import Stored
from ingest.api.static import Page
from ingest.auth.api_keys import configured_keys
from ingest.backpressure import Gate
from ingest.dashboard.request_window import RequestWindow
from ingest.dashboard.snapshot import SnapshotReader
from ingest.dispatch.registry import Catalog
from ingest.errors import MEDIA_TYPE, Problem
from ingest.images.decoder import Decoder
from ingest.metrics import REDIS
from ingest.middleware.auth import AuthMiddleware
from ingest.middleware.rate_limit import RateLimit, RateLimitMiddleware
from ingest.middleware.request_metrics import RequestMetricsMiddleware, server_timing
from ingest.middleware.same_origin import SameOriginMiddleware
from ingest.middleware.security_headers import SECURITY_HEADERS, SecurityHeadersMiddleware
from ingest.oip.endpoints import routes as inference_protocol
from ingest.openapi.endpoint import OPENAPI, OpenApi
from ingest.openapi.operation import Described
from ingest.place import RESULT
from ingest.refusal import refusal
from ingest.responses import answer_problem
from ingest.serving.shutdown import exit_on_failure, on_shutdown
from ingest.uploads import Limits
from stream.connection.clients import Connections
from stream.host.cpu import usable_cores
from stream.settings import IngestSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

#: How many requests of the largest size may wait in the memory of one process until they are decoded.
_LARGEST_WAITING: Final = 4


def create_app(
    settings: IngestSettings, metrics_folder: Path | None = None, *, traces: "TracerProvider | None" = None
) -> Starlette:
    """The application of one ingest process. Processes that share a port share a folder for their metrics.

    `traces` exports the spans of requests, if they are wanted.
    """
    connections = Connections(settings, REDIS)
    catalog = Catalog(connections, settings)
    decoder = Decoder(
        threads=settings.decode_threads or max(1, usable_cores() // settings.worker_count),
        max_pixels=settings.max_pixels,
        gate=Gate(max_backlog=settings.max_backlog, max_wait_s=settings.max_wait_s),
        max_bytes=_LARGEST_WAITING * settings.max_upload_bytes,
    )
    limits = Limits(
        max_bytes=settings.max_upload_bytes,
        max_images=settings.max_images,
        body_timeout_s=settings.upload_timeout_s,
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        running = asyncio.create_task(catalog.run())
        exit_on_failure(running, "catalog")
        on_shutdown(live.close)
        # A worker that has not read the models yet would refuse images that the other workers accept.
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.redis_timeout_s):
                await catalog.looked.wait()
        yield
        running.cancel()
        decoder.close()
        await connections.aclose()

    predict = Predict(catalog, decoder, limits, longest_s=settings.request_timeout_s)
    stored = Stored(catalog, longest_s=settings.request_timeout_s)
    window = RequestWindow()
    live = Live(SnapshotReader(connections, settings, window).read)
    letters = Letters(connections, request_ttl_s=settings.result_ttl_s + settings.request_timeout_s)
    scrape = Scrape(connections, timeout_s=settings.redis_timeout_s, folder=metrics_folder)
    app = Starlette(
        routes=[
            Described("/predict", predict.__call__, {"POST": operations.predict(limits)}),
            *Page().routes(),
            Described("/live", live.__call__, operations.LIVE),
            Described("/dead-letters/{model}/{id}/replay", letters.replay, {"POST": operations.REPLAY}),
            Described("/predict/{model}", predict.__call__, {"POST": operations.predict(limits)}),
            Described(RESULT, stored.__call__, {"GET": operations.FETCH, "DELETE": operations.CANCEL}),
            Described("/models", Models(catalog).__call__, operations.MODELS),
            *inference_protocol(catalog, decoder, limits, longest_s=settings.request_timeout_s),
            Described("/healthz", alive, operations.ALIVE),
            Described("/readyz", Readiness(catalog).__call__, operations.READY),
            Described("/metrics", scrape.__call__, operations.METRICS),
        ],
        exception_handlers={
            Problem: answer_problem,
            HTTPException: _answer_http_error,
            ClientDisconnect: _answer_client_gone,
            Exception: _answer_internal_error,
        },
        middleware=_middleware(settings, connections.shared, window, traces),
        lifespan=lifespan,
    )
    # A path that is nearly right is a 404 that says so, not a redirect that most clients do not follow with a POST.
    app.router.redirect_slashes = False
    keys, limited = bool(configured_keys(settings)), bool(settings.rate_limit_per_s)
    described = OpenApi(app.routes, catalog, keys=keys, limited=limited)
    app.routes.append(Described("/openapi.json", described.__call__, OPENAPI))
    return app


def _middleware(
    settings: IngestSettings, redis: Redis, window: RequestWindow, traces: "TracerProvider | None"
) -> list[Middleware]:
    """What each request passes, in this order; its response passes the same in reverse order."""
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    keys = configured_keys(settings)
    return [
        *_tracing(traces),
        Middleware(RequestMetricsMiddleware, window=window),
        Middleware(SecurityHeadersMiddleware),
        *_cors(origins),
        Middleware(SameOriginMiddleware, allowed=origins),
        *([Middleware(AuthMiddleware, keys=keys)] if keys else []),
        *_rate_limit(settings, redis),
    ]


def _tracing(traces: "TracerProvider | None") -> list[Middleware]:
    if traces is None:
        return []
    from ingest.middleware.tracing import TracingMiddleware  # Not at the top: it imports OpenTelemetry.

    return [Middleware(TracingMiddleware, provider=traces)]


def _cors(origins: list[str]) -> list[Middleware]:
    if not origins:
        return []
    methods = ["GET", "POST", "DELETE"]
    return [
        Middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=methods, allow_headers=["*"], expose_headers=["*"]
        )
    ]


def _rate_limit(settings: IngestSettings, redis: Redis) -> list[Middleware]:
    if not settings.rate_limit_per_s:
        return []
    per_s, burst = settings.rate_limit_per_s, settings.rate_limit_burst
    limit = RateLimit(redis, per_s=per_s, burst=burst, timeout_s=settings.redis_timeout_s)
    return [Middleware(RateLimitMiddleware, limit=limit)]


async def _answer_http_error(_request: Request, error: Exception) -> Response:
    """Starlette's own errors (404, 405) in the form of all others."""
    assert isinstance(error, HTTPException)
    document = {
        "type": "about:blank",
        "title": error.detail,
        "status": error.status_code,
        "detail": f"{error.detail}. Send images by POST to /predict.",
        "code": error.detail.lower().replace(" ", "_"),
        "success": False,
    }
    return JSONResponse(document, status_code=error.status_code, headers=error.headers, media_type=MEDIA_TYPE)


async def _answer_client_gone(_request: Request, _error: Exception) -> Response:
    # The client has disconnected, so the status shows only in logs. nginx uses 499 for the same.
    return Response(status_code=499)


async def _answer_internal_error(request: Request, _error: Exception) -> Response:
    # Starlette raises the error again after this response, and the server logs it with its traceback. The response
    # passes no middleware, so it must add their headers here.
    response = refusal(Problem("An error of the service, not of the image. It has been logged."), request.url.path)
    response.headers.update({**SECURITY_HEADERS, "Server-Timing": server_timing(request.scope)})
    return response
