"""The requests of one model that were made before, by their ids: where they stand, and what is left of them."""

import asyncio

from ingest.dispatch.partitions import Partitions
from ingest.errors import redis_errors_as_503
from results.outcome import UNANSWERED, Done, Failed, Outcome
from results.store import State


class EarlierRequests:
    """Finds, cancels and deletes requests. `ingest` names the process that waits for outcomes."""

    def __init__(self, partitions: Partitions, *, result_ttl_s: float, ingest: str) -> None:
        self._partitions = partitions
        self._result_ttl_s = result_ttl_s
        self._ingest = ingest

    async def state(self, request_id: str) -> State:
        """Where a request of this model stands; raises StreamUnavailable."""
        partition = self._partitions.of_request(request_id)
        with redis_errors_as_503():
            return await partition.store.state(request_id) if partition else "unknown"

    async def cancel(self, request_id: str) -> bool:
        """Cancel a request that is still queued; False if there is none. Raises StreamUnavailable."""
        partition = self._partitions.of_request(request_id)
        with redis_errors_as_503():
            return await partition.store.cancel(request_id) if partition else False

    async def delete(self, request_id: str) -> bool:
        """Delete the outcome of a request that has ended, and its dead letter with the pixels.

        False if there is neither. Raises StreamUnavailable.
        """
        partition = self._partitions.of_request(request_id)
        with redis_errors_as_503():
            return await partition.delete(request_id) if partition else False

    async def wait(self, request_id: str, wait_s: float) -> State:
        """Where a request stands: as soon as it has ended, and after `wait_s` seconds at the latest."""
        if wait_s <= 0:
            return await self.state(request_id)
        partition = self._partitions.of_reserved(request_id)
        reply = partition.expect(request_id)
        try:
            with redis_errors_as_503():
                state = await partition.store.subscribe(request_id, self._ingest)
            if state != "queued":
                return state
            async with asyncio.timeout(wait_s):
                return await reply
        except TimeoutError:
            return await self.state(request_id)
        finally:
            reply.cancel()

    async def at_deadline(self, request_id: str) -> Outcome:
        """The outcome of a request that was not answered in time.

        A reply that was trimmed from the reply stream is found in the store.
        """
        state = await self.state(request_id)
        if isinstance(state, Done | Failed):
            return state
        if state == "unknown":
            with redis_errors_as_503():
                store = self._partitions.of_reserved(request_id).store
                return await store.report_vanished(request_id, ttl_s=self._result_ttl_s)
        return Failed(request_id, "expired", UNANSWERED)
