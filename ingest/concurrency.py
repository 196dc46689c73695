"""Work for one request: several images at the same time, and cancellation when the client disconnects."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from ingest.errors import Problem
from ingest.metrics import PROBLEMS

T = TypeVar("T")


async def gather_or_problem(work: Iterable[Coroutine[Any, Any, T]]) -> list[T | Problem]:
    """The results in order, with a Problem in place of each that failed. Any other exception is raised."""

    async def result_or_problem(one: Coroutine[Any, Any, T]) -> T | Problem:
        try:
            return await one
        except Problem as problem:
            PROBLEMS.labels(problem.code).inc()
            return problem

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(result_or_problem(one)) for one in work]
    return [task.result() for task in running]


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result. If the client disconnects first, the work is cancelled and ClientDisconnect is raised."""
    task = asyncio.current_task()
    assert task
    watcher = asyncio.ensure_future(_cancel_when_disconnected(request, task))
    try:
        return await work
    except asyncio.CancelledError:
        if watcher.done() and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watcher.cancel()


async def _cancel_when_disconnected(request: Request, task: asyncio.Task[Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    task.cancel()
