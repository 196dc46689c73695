"""Has gRPC's server answer calls of methods that it does not have, whatever bytes name them.

grpcio (1.85) decodes the path of such a call as UTF-8, and ends the whole server if it is none. The paths of registered
methods are compared in gRPC's core and never decoded. So all methods are registered, and each call that arrives as one
of an unregistered method is ended here. grpcio has no public place to do that.
"""

import asyncio
import contextlib

import grpc
from grpc._cython import cygrpc


def install() -> None:
    """Have the servers that are made from now on answer such calls."""
    cygrpc.AioServer = _Server


class _Server(cygrpc.AioServer):  # type: ignore[misc]  # grpcio has no types
    async def _request_call(self) -> None:
        """Wait for calls of unregistered methods, and end them. The class above would serve the first of them."""
        loop = asyncio.get_running_loop()
        ending: set[asyncio.Task[None]] = set()
        while True:
            call = await super()._request_call()
            context = cygrpc._ServicerContext(call, None, None, loop)  # noqa: SLF001
            ending.add(task := loop.create_task(_end(context)))
            task.add_done_callback(ending.discard)


async def _end(context: grpc.aio.ServicerContext) -> None:
    # Besides AbortError, it raises what gRPC raises if the client has gone.
    with contextlib.suppress(Exception):
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "There is no such method.")
