"""What each call passes, whatever its method: log scope, API key, rate limit, counting, and the status of a problem.

Over HTTP, middleware and exception handlers do the same.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final, NoReturn, Protocol, TypeVar

from ingest.errors import Problem
from ingest.grpc_api.access import Access, is_open, is_traced
from ingest.grpc_api.context import Context, Metadata
from ingest.grpc_api.status import problem_metadata, status_code
from ingest.metrics import PROBLEMS
from ingest.middleware.request_metrics import (
    CLIENT_GONE,
    ID_METADATA,
    RequestRecorder,
    begin_request,
    current_request_id,
)
from ingest.priority import PRIORITY, header_priority
from stream.keys import Priority

logger = logging.getLogger(__name__)

#: Methods whose requests are images to be classified.
_CLASSIFICATION: Final = ("/ModelInfer", "/ModelStreamInfer")

OK: Final = 200

#: Most bytes of a sentence. gRPC writes a byte as three if it is no ASCII, and clients refuse 8 KiB of metadata.
_MOST_DETAIL: Final = 2000

T = TypeVar("T")


def ignore_status(_status: int) -> None:
    """What a request does that is not traced."""


@dataclass(slots=True)
class Call:
    """One call. `trailing` is the metadata that follows its response.

    `note_status` takes the status with which a request ends, as one over HTTP would have it.
    """

    method: str
    context: Context
    trailing: dict[str, str] = field(default_factory=dict)
    note_status: Callable[[int], None] = ignore_status
    metadata: Metadata = field(init=False)

    def __post_init__(self) -> None:
        # gRPC makes it again each time that it is asked.
        self.metadata = self.context.invocation_metadata() or ()

    @property
    def headers(self) -> dict[str, str]:
        """The metadata that is text, by its names in lower case."""
        return {name: value for name, value in self.metadata if isinstance(value, str)}

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the client's deadline, None without one."""
        return self.context.time_remaining()

    @property
    def priority(self) -> Priority:
        """The class that the metadata `priority` asks for, as the header does over HTTP; raises BadParameter."""
        return header_priority(str(value) for name, value in self.metadata if name == PRIORITY)

    def begin_request(self) -> None:
        """From now on, log lines name the request that the metadata names, and its images."""
        begin_request(self.headers.get(ID_METADATA, ""))

    def send_trailing(self) -> None:
        self.trailing[ID_METADATA] = current_request_id()
        self.context.set_trailing_metadata(tuple(self.trailing.items()))


class Tracer(Protocol):
    """Records a span around each request, with the status that `call.note_status` gets."""

    def request(self, call: Call) -> AbstractContextManager[None]: ...


class Calls:
    """Runs calls, and counts them by method and by the status that a request over HTTP would have.

    `tracer` records their spans, if traces are wanted.
    """

    def __init__(self, access: Access, recorder: RequestRecorder, tracer: Tracer | None = None) -> None:
        self._access = access
        self._recorder = recorder
        self._tracer = tracer
        self._running = 0
        #: Set while no call runs.
        self.idle = asyncio.Event()
        self.idle.set()

    async def run(self, call: Call, serve: Callable[[Call], Awaitable[T]], *, streamed: bool = False) -> T:
        """What `serve` returns for one call. If it is `streamed`, it counts, records and traces its requests itself."""
        call.begin_request()
        with nullcontext() if streamed else self.trace(call):
            return await self._run(call, serve, streamed=streamed)

    def trace(self, call: Call) -> AbstractContextManager[None]:
        """A span around one request, if it is wanted. `record` says how it ends."""
        if self._tracer is None or not is_traced(call.method):
            return nullcontext()
        return self._tracer.request(call)

    async def _run(self, call: Call, serve: Callable[[Call], Awaitable[T]], *, streamed: bool) -> T:
        began_s = time.perf_counter()
        status = CLIENT_GONE
        self._running += 1
        self.idle.clear()
        try:
            if not is_open(call.method):
                self._access.authenticate(call.metadata)
                if not streamed:
                    await self.count(call)
            response = await serve(call)
            call.send_trailing()
            status = OK
            return response
        except asyncio.CancelledError:
            # gRPC cancels a call whose deadline has passed, as it does one whose client has gone.
            status = 504 if call.remaining_s == 0 else CLIENT_GONE
            raise
        except Exception as error:  # noqa: BLE001 (a fault of ours is logged)
            problem = as_problem(error, call)
            status = problem.status
            await _abort(call, problem)
        finally:
            self._running -= 1
            if not self._running:
                self.idle.set()
            if not streamed or status != OK:
                self.record(call, status, time.perf_counter() - began_s)

    async def count(self, call: Call) -> None:
        """Count one request for the rate limit; raises TooManyRequests and StreamUnavailable."""
        await self._access.count(call.metadata, call.context.peer(), call.trailing)

    def record(self, call: Call, status: int, seconds: float) -> None:
        """Count one request in the metrics, and note its status in its span."""
        call.note_status(status)
        self._recorder.count("POST", call.method, status, seconds)
        if call.method.endswith(_CLASSIFICATION):
            self._recorder.note_classification(status, seconds)


def as_problem(error: Exception, call: Call) -> Problem:
    """The problem that this error is to the client. A fault of ours is logged, and its client learns no more."""
    if not isinstance(error, Problem):
        logger.error("a call of %s failed", call.method, exc_info=error)
        error = Problem("An error of the service, not of the image. It has been logged.")
    PROBLEMS.labels(error.code).inc()
    return error


async def _abort(call: Call, problem: Problem) -> NoReturn:
    call.trailing |= problem_metadata(problem) | {ID_METADATA: current_request_id()}
    detail = problem.detail.encode(errors="replace")[:_MOST_DETAIL].decode(errors="ignore")
    await call.context.abort(status_code(problem), detail, tuple(call.trailing.items()))
