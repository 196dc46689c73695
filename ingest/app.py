"""The web application: routes, errors and what lives as long as the process. Reads no environment."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

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
from ingest.auth.keyfile import keys_of
from ingest.backpressure import Gate
from ingest.dashboard.request_window import Recent
from ingest.dashboard.snapshot import Lookout
from ingest.dispatch.registry import Catalog
from ingest.errors import MEDIA_TYPE, Problem
from ingest.images.decoder import Decoder
from ingest.metrics import REDIS
from ingest.middleware.auth import Access
from ingest.middleware.rate_limit import Limit, Limiter
from ingest.middleware.request_metrics import Measured, server_timing
from ingest.middleware.same_origin import SameOrigin
from ingest.middleware.security_headers import PROTECTIVE, Protective
from ingest.middleware.stopwatch import Stopwatch
from ingest.oip.endpoints import routes as inference_protocol
from ingest.openapi.endpoint import OPENAPI, OpenApi
from ingest.openapi.operation import Described
from ingest.place import RESULT
from ingest.refusal import refusal
from ingest.responses import answer_problem
from ingest.serving.shutdown import end_with, on_end
from ingest.uploads import Limits
from stream.connection.clients import Connections
from stream.host.cpu import usable_cores
from stream.settings import Settings

logger = logging.getLogger(__name__)

#: Requests of the largest size that may lie in memory, in one process, and wait to be decoded.
_LARGEST_WAITING = 4


def create_app(
    settings: Settings, metrics_folder: Path | None = None, *, outermost: Sequence[Middleware] = ()
) -> Starlette:
    """The application of one ingest process; several that share a port share a folder for their metrics.

    `outermost` is what each request passes first.
    """
    connections = Connections(settings, REDIS)
    catalog = Catalog(connections, settings)
    decoder = Decoder(
        threads=settings.decode_threads or max(1, usable_cores() // settings.worker_count),
        max_pixels=settings.max_pixels,
        gate=Gate(max_backlog=settings.max_backlog, max_wait_s=settings.max_wait_s),
        most_bytes=_LARGEST_WAITING * settings.max_upload_bytes,
    )
    limits = Limits(
        max_bytes=settings.max_upload_bytes,
        max_images=settings.max_images,
        body_timeout_s=settings.upload_timeout_s,
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        running = asyncio.create_task(catalog.run())
        end_with(running, "catalog")
        on_end(live.close)
        # Of workers that share a port, one that has not looked yet would refuse what the others take.
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.redis_timeout_s):
                await catalog.looked.wait()
        yield
        running.cancel()
        decoder.close()
        await connections.aclose()

    predict = Predict(catalog, decoder, limits, longest_s=settings.request_timeout_s)
    stored = Stored(catalog, longest_s=settings.request_timeout_s)
    recent = Recent()
    live = Live(Lookout(connections, settings, recent).look)
    letters = Letters(connections, request_ttl_s=settings.result_ttl_s + settings.request_timeout_s)
    scrape = Scrape(connections, timeout_s=settings.redis_timeout_s, folder=metrics_folder)
    app = Starlette(
        routes=[
            Described("/predict", predict.__call__, {"POST": operations.predict(limits)}),
            *Page().routes(),
            Described("/live", live.__call__, operations.LIVE),
            Described("/dead/{model}/{id}/replay", letters.replay, {"POST": operations.REPLAY}),
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
            ClientDisconnect: _answer_nobody,
            Exception: _answer_our_mistake,
        },
        middleware=[*outermost, Middleware(Stopwatch, recent=recent), *_guards(settings, connections.shared)],
        lifespan=lifespan,
    )
    # A path that is nearly right is a 404 that says so, not a redirect that most clients do not follow with a POST.
    app.router.redirect_slashes = False
    keys, limited = bool(keys_of(settings)), bool(settings.rate_limit_per_s)
    described = OpenApi(app.routes, catalog, keys=keys, limited=limited)
    app.routes.append(Described("/openapi.json", described.__call__, OPENAPI))
    return app


def _guards(settings: Settings, redis: Redis) -> list[Middleware]:
    """What each request passes on its way in, the outermost first; what is not asked for is not there."""
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    guards = [Middleware(Measured), Middleware(Protective)]
    if origins:
        methods = ["GET", "POST", "DELETE"]
        guards.append(
            Middleware(
                CORSMiddleware, allow_origins=origins, allow_methods=methods, allow_headers=["*"], expose_headers=["*"]
            )
        )
    guards.append(Middleware(SameOrigin, allowed=origins))
    if keys := keys_of(settings):
        guards.append(Middleware(Access, keys=keys))
    if settings.rate_limit_per_s:
        per_s, burst = settings.rate_limit_per_s, settings.rate_limit_burst
        limit = Limit(redis, per_s=per_s, burst=burst, timeout_s=settings.redis_timeout_s)
        guards.append(Middleware(Limiter, limit=limit))
    return guards


async def _answer_http_error(_request: Request, error: Exception) -> Response:
    """Starlette's own errors (404, 405) in the shape of all others."""
    assert isinstance(error, HTTPException)
    document = {
        "type": "about:blank",
        "title": error.detail,
        "status": error.status_code,
        "detail": f"{error.detail}. Photographs are sent by POST to /predict.",
        "code": error.detail.lower().replace(" ", "_"),
        "success": False,
    }
    return JSONResponse(document, status_code=error.status_code, headers=error.headers, media_type=MEDIA_TYPE)


async def _answer_nobody(_request: Request, _error: Exception) -> Response:
    # The client has gone; the status only shows in logs. 499 is nginx's for the same.
    return Response(status_code=499)


async def _answer_our_mistake(request: Request, _error: Exception) -> Response:
    # Starlette raises the error again after this answer, and the server logs it with its traceback.
    # It comes from outside of all guards, so it brings their headers itself.
    answer = refusal(Problem("An error of the service, not of the image. It has been logged."), request.url.path)
    answer.headers.update({**PROTECTIVE, "Server-Timing": server_timing(request.scope)})
    return answer
