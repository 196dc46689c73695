"""`POST /v2/models/{model}/infer`: a tensor of images in, a tensor of probabilities out. Knows no Redis."""

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from ingest.disconnects import unless_gone
from ingest.dispatch.registry import Catalog
from ingest.images.decoder import Decoder
from ingest.oip.body import coding_of, read_body, unpacked
from ingest.oip.bulk import Convoy
from ingest.oip.infer_request import Asked, read
from ingest.oip.infer_response import answer
from ingest.oip.selection import select
from ingest.oip.wire import HEADER_LENGTH, split, take_apart
from ingest.responses import cache_status
from ingest.uploads import Limits
from stream.model import ModelDescription

#: JSON of more bytes is read beside the event loop.
_MOST_AT_ONCE: Final = 2**16

P = ParamSpec("P")
T = TypeVar("T")


class Inference:
    """The endpoint."""

    def __init__(self, catalog: Catalog, decoder: Decoder, limits: Limits, *, longest_s: float) -> None:
        self._catalog = catalog
        self._decoder = decoder
        self._limits = limits
        self._longest_s = longest_s
        # Unpacking and reading take a core and some times the tensor's size in memory: one after the other.
        self._reading = asyncio.Lock()

    async def __call__(self, request: Request) -> Response:
        dispatch, version = select(self._catalog, request.path_params)
        model = dispatch.model
        coding = coding_of(request)
        dispatch.refuse_if_full()
        asked = await self._read(request, model, packed=bool(coding))
        convoy = Convoy(dispatch, self._decoder, model, version=version, longest_s=self._longest_s)
        answers = await unless_gone(request, convoy.classify(asked.images))
        labels = {version: await dispatch.labels(version) for version in {done.version for done in answers}}
        response = await answer(asked, dispatch.name, answers, [labels[done.version] for done in answers])
        response.headers.update(cache_status(answers, on=dispatch.caches))
        return response

    async def _read(self, request: Request, model: ModelDescription, *, packed: bool) -> Asked:
        body = await read_body(request, self._limits)
        if packed:
            body = await self._beside(unpacked, body, self._limits)
        text, binary = split(body, request.headers.get(HEADER_LENGTH))
        if len(text) <= _MOST_AT_ONCE:
            return _asked(text, binary, model)
        return await self._beside(_asked, text, binary, model)

    async def _beside(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        async with self._reading:
            return await asyncio.to_thread(work, *arguments, **named)


def _asked(text: bytes, binary: memoryview, model: ModelDescription) -> Asked:
    return read(take_apart(text, binary), height=model.height, width=model.width)
