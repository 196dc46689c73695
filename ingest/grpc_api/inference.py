"""The methods that classify: one request in a call, or a stream of them."""

import asyncio
import functools
import time
from typing import Final

import grpc

from ingest.errors import RETRY_S, Overloaded
from ingest.grpc_api import inference_pb2 as pb
from ingest.grpc_api.calls import OK, Call, Calls, as_problem
from ingest.grpc_api.messages import as_message, as_response, values_in
from ingest.oip.infer_runner import InferRunner
from ingest.responses import cache_status

#: Streams that one process serves at once: each may hold a request of the largest size.
_MAX_STREAMS: Final = 64


class InferMethods:
    """ModelInfer and ModelStreamInfer. Cancelling a call cancels its work."""

    def __init__(self, runner: InferRunner, calls: Calls) -> None:
        self._runner = runner
        self._calls = calls
        self._streams = 0
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End each stream as soon as the request that it works on is answered."""
        self._closing.set()

    async def infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        """The answer to one request. Raises a Problem."""
        version = request.model_version or None
        target = self._runner.target(request.model_name, version, call.priority, call.headers)
        read = functools.partial(as_message, request)
        asked = await self._runner.parse(read, target, size=values_in(request))
        answer = await self._runner.run(asked, target, remaining_s=call.remaining_s)
        call.trailing["x-sluice-provider"] = answer.providers
        status = cache_status(answer.predictions, enabled=target.client.caches)
        call.trailing.update({name.lower(): value for name, value in status.items()})
        return as_response(asked, answer)

    async def stream(self, call: Call) -> None:
        """Answer one request after the other, in order. A problem is the answer to its request, and ends no stream."""
        if self._streams >= _MAX_STREAMS:
            raise Overloaded("Too many streams are open. Use one of those, or ModelInfer.", retry_after_s=RETRY_S)
        self._streams += 1
        try:
            while (request := await self._next(call)) is not None:
                await call.context.write(await self._answer(request, call))
        finally:
            self._streams -= 1

    async def _next(self, call: Call) -> pb.ModelInferRequest | None:
        """The next request, None after the last. Raises Overloaded if the server stops."""
        reading, closing = asyncio.ensure_future(call.context.read()), asyncio.create_task(self._closing.wait())
        try:
            await asyncio.wait((reading, closing), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                raise Overloaded("The server stops. Open the stream again.", retry_after_s=RETRY_S)
            request = reading.result()
            return None if request is grpc.aio.EOF else request
        finally:
            reading.cancel()
            closing.cancel()

    async def _answer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelStreamInferResponse:
        call.begin_request()
        with self._calls.trace(call):
            return await self._answer_traced(request, call)

    async def _answer_traced(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelStreamInferResponse:
        began_s = time.perf_counter()
        status = OK
        try:
            await self._calls.count(call)
            return pb.ModelStreamInferResponse(infer_response=await self.infer(request, call))
        except Exception as error:  # noqa: BLE001 (a fault of ours is logged)
            problem = as_problem(error, call)
            status = problem.status
            failed = pb.ModelInferResponse(id=request.id)
            return pb.ModelStreamInferResponse(error_message=problem.detail, infer_response=failed)
        finally:
            self._calls.record(call, status, time.perf_counter() - began_s)
