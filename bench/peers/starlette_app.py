"""Bare Starlette: each request is decoded and classified by itself in a thread pool; no queue, no batches."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bench.peers.work import CORES, Network

network = Network(threads=1)
pool = ThreadPoolExecutor(CORES)


async def predict(request: Request) -> JSONResponse:
    async with request.form() as form:
        upload = form["image"]
        assert isinstance(upload, UploadFile)
        image = await upload.read()
    return JSONResponse(await asyncio.get_running_loop().run_in_executor(pool, classify, image))


def classify(image: bytes) -> dict[str, Any]:
    return network.answer(network.probabilities(network.pixels(image)[None])[0])


app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
