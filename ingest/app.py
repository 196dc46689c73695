"""The web application: routes, errors and what lives as long as the process. Reads no environment."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingest.answers import answer_problem, problem_response
from ingest.catalog import Catalog
from ingest.decoding import Decoder
from ingest.predict import Predict
from ingest.problems import MEDIA_TYPE, NoConsumer, Problem, StreamUnavailable
from ingest.stored import Stored
from ingest.uploads import Limits
from stream.connection import connect
from stream.cores import usable_cores
from stream.settings import Settings

logger = logging.getLogger(__name__)


def create_app(settings: Settings) -> Starlette:
    """The application of one ingest process."""
    redis = connect(settings)
    catalog = Catalog(redis, settings)
    decoder = Decoder(
        threads=settings.decode_threads or max(1, usable_cores() // settings.workers), max_pixels=settings.max_pixels
    )
    limits = Limits(
        max_bytes=settings.max_upload_bytes,
        max_images=settings.max_images,
        body_timeout_s=settings.upload_timeout_s,
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        running = asyncio.create_task(catalog.run())
        yield
        running.cancel()
        decoder.close()
        await redis.aclose()

    predict = Predict(catalog, decoder, limits, longest_s=settings.request_timeout_s)
    stored = Stored(catalog, longest_s=settings.request_timeout_s)
    app = Starlette(
        routes=[
            Route("/predict", predict.__call__, methods=["POST"]),
            Route("/predict/{model}", predict.__call__, methods=["POST"]),
            Route("/results/{id}", stored.get),
            Route("/results/{id}", stored.delete, methods=["DELETE"]),
            Route("/healthz", _alive),
            Route("/readyz", _ready(catalog)),
        ],
        exception_handlers={
            Problem: answer_problem,
            HTTPException: _answer_http_error,
            ClientDisconnect: _answer_nobody,
            Exception: _answer_our_mistake,
        },
        lifespan=lifespan,
    )
    # A path that is nearly right is a 404 that says so, not a redirect that most clients do not follow with a POST.
    app.router.redirect_slashes = False
    return app


async def _alive(_request: Request) -> Response:
    return JSONResponse({"status": "alive"})


def _ready(catalog: Catalog) -> Callable[[Request], Awaitable[Response]]:
    async def ready(_request: Request) -> Response:
        if catalog.outage:
            raise StreamUnavailable(f"{catalog.outage}.", retry_after_s=2)
        if not catalog.served:
            raise NoConsumer("No consumer with a warm model is alive.", retry_after_s=2)
        return JSONResponse({"status": "ready", "models": catalog.served})

    return ready


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


async def _answer_our_mistake(_request: Request, _error: Exception) -> Response:
    # Starlette raises the error again after this answer, and the server logs it with its traceback.
    return problem_response(Problem("An error of the service, not of the image. It has been logged."))
