"""Deletes what is kept of one request: its pixels, its outcome and its dead letter."""

from results.dead_letters import DeadLetters
from results.outcome import Failed
from results.store import Store


async def delete_ended(store: Store, dead_letters: DeadLetters, request_id: str) -> bool:
    """Delete the outcome of a request that has ended, and its dead letter, which may outlive the outcome.

    False if there is neither.
    """
    state = await store.state(request_id)
    gave_up = isinstance(state, Failed) or state == "unknown"
    dropped = gave_up and await dead_letters.drop_of_request(request_id)
    return await store.delete(request_id) or dropped
