"""Several images of one request at the same time; one that fails spoils no other. Knows no image."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from ingest.errors import Problem
from ingest.metrics import PROBLEMS

T = TypeVar("T")


async def each_or_problem(work: Iterable[Coroutine[Any, Any, T]]) -> list[T | Problem]:
    """The results of all, a Problem in the place of what failed; anything else that is raised is raised here."""

    async def guarded(one: Coroutine[Any, Any, T]) -> T | Problem:
        try:
            return await one
        except Problem as problem:
            PROBLEMS.labels(problem.code).inc()
            return problem

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(guarded(one)) for one in work]
    return [task.result() for task in running]
