"""Receives request messages, so that those that are still arriving cannot fill the memory.

gRPC says nothing about a message before all of it is there. So the number of messages that arrive at once is limited,
each counted with the largest size. Until a message may arrive, flow control holds back all but its first 64 KiB.
"""

import asyncio
from typing import Any, Final

import grpc

from ingest.errors import BadParameter, RequestTimeout
from ingest.grpc_api.context import Context
from ingest.upload_memory import refusal

#: Seconds for which others wait before the message that began to arrive first has to go. Any other client's message
#: takes far less.
_PATIENCE_S: Final = 1.0

#: Within these seconds gRPC cancels a call whose client has gone.
_GONE_S: Final = 0.1


class Arrivals:
    """The messages of one process that are arriving: `most` at once, each within `timeout_s`."""

    def __init__(self, most: int, *, timeout_s: float) -> None:
        self._free = asyncio.Semaphore(most)
        self._timeout_s = timeout_s
        self._arriving: dict[asyncio.Timeout, float] = {}

    async def read(self, context: Context) -> Any:  # noqa: ANN401 (the message that the method takes)
        """The request. Raises RequestTimeout, Overloaded, and BadParameter if there is none."""
        await self._acquire()
        loop = asyncio.get_running_loop()
        timeout = asyncio.timeout(self._timeout_s)
        try:
            async with timeout:
                self._arriving[timeout] = loop.time()
                message = await context.read()
        except TimeoutError:
            if timeout not in self._arriving:
                raise refusal() from None
            raise RequestTimeout(
                f"The request did not arrive within {self._timeout_s:g} s. Send it again, or smaller images."
            ) from None
        finally:
            self._arriving.pop(timeout, None)
            self._free.release()
        if message is grpc.aio.EOF:
            # If the client has gone, gRPC says so first, and then cancels the call.
            await asyncio.sleep(_GONE_S)
            raise BadParameter("The call has no request.")
        return message

    async def _acquire(self) -> None:
        while self._free.locked():
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._free.acquire()
                return
            except TimeoutError:
                self._refuse_oldest()
        await self._free.acquire()

    def _refuse_oldest(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for timeout, began_s in self._arriving.items():
            if now_s - began_s >= _PATIENCE_S:
                timeout.reschedule(now_s)
                del self._arriving[timeout]
            return
