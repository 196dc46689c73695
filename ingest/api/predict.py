"""`POST /predict`: photographs in, labels out. Knows neither formats nor Redis, only who does."""

import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ingest.api.async_requests import Deferred
from ingest.api.top import top_of
from ingest.concurrency import each_or_problem
from ingest.disconnects import unless_gone
from ingest.dispatch.model_client import Dispatch, Picture
from ingest.dispatch.registry import Catalog
from ingest.errors import Problem
from ingest.images.decoder import Decoder
from ingest.metrics import BATCH_SIZE
from ingest.responses import cache_status, prediction, stages
from ingest.shapes import Failure, Named, Results, named
from ingest.uploads import Limits, Upload, read_uploads
from results.outcome import Done
from stream.model import ModelDescription


class Predict:
    """The endpoint. One image gets the plain answer; several get a list in the order in which they were sent."""

    def __init__(self, catalog: Catalog, decoder: Decoder, limits: Limits, *, longest_s: float) -> None:
        self._catalog = catalog
        self._decoder = decoder
        self._limits = limits
        self._longest_s = longest_s

    async def __call__(self, request: Request) -> Response:
        started = time.perf_counter()
        dispatch = self._catalog.find(request.path_params.get("model"))
        model = dispatch.model
        top = top_of(request, classes=len(model.labels))
        dispatch.refuse_if_full()
        deferred = Deferred(request, dispatch, self._decoder, longest_s=self._longest_s)
        uploads = await read_uploads(request, self._limits)
        if deferred.wanted:
            return await deferred.answer(model, uploads, top)
        work = [self._classify(dispatch, model, upload, top) for upload in uploads]
        if len(work) == 1:
            done, decode_ms = await unless_gone(request, work[0])
            request.scope[BATCH_SIZE] = done.batch
            body = prediction(done, model=dispatch.name, labels=await dispatch.labels(done.version))
            total_ms = (time.perf_counter() - started) * 1000
            headers = stages(done, decode_ms=decode_ms, total_ms=total_ms)
            return JSONResponse(body, headers=headers | cache_status([done], on=dispatch.caches))
        outcomes = await unless_gone(request, each_or_problem(work))
        answers = [outcome[0] for outcome in outcomes if not isinstance(outcome, Problem)]
        headers = cache_status(answers, on=dispatch.caches)
        return JSONResponse(await _results(dispatch, uploads, outcomes), headers=headers)

    async def _classify(
        self, dispatch: Dispatch, model: ModelDescription, upload: Upload, top: int
    ) -> tuple[Done, float]:
        began = time.perf_counter()
        pixels = await self._decoder.decode(upload, model)
        decode_ms = (time.perf_counter() - began) * 1000
        return await dispatch.classify(model, Picture(pixels, top, self._decoder.remaining_s)), decode_ms


async def _results(dispatch: Dispatch, uploads: list[Upload], outcomes: list[tuple[Done, float] | Problem]) -> Results:
    problems = [outcome for outcome in outcomes if isinstance(outcome, Problem)]
    if len(problems) == len(outcomes) and all(problem.status >= 500 for problem in problems):
        raise problems[0]
    results: list[Named] = []
    for upload, outcome in zip(uploads, outcomes, strict=True):
        if isinstance(outcome, Problem):
            results.append(named(upload.filename, Failure(success=False, error=outcome.document())))
        else:
            done, _ = outcome
            answer = prediction(done, model=dispatch.name, labels=await dispatch.labels(done.version))
            results.append(named(upload.filename, answer))
    return Results(success=True, results=results)
