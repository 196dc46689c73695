"""`POST /dead-letters/{model}/{id}/replay`: queue a dead letter again."""

from typing import Final, Literal

from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from ingest.errors import StreamUnavailable, UnknownDeadLetter, redis_errors_as_503
from ingest.openapi.operation import DocumentedResponse, Operation
from ingest.responses import JSONResponse
from results.dead_letters import AllDeadLetters, DeadLetter, DeadLetters, NotReplayable
from stream.connection.clients import Connections
from stream.keys import Partition, valid_model_name
from stream.presence import partition_counts


class Replayed(TypedDict):
    """The dead letter that is queued again."""

    success: Literal[True]
    id: str


class ReplayEndpoint:
    """The endpoint. The result of a replayed request is kept for `request_ttl_s`."""

    def __init__(self, connections: Connections, *, request_ttl_s: float) -> None:
        self._connections = connections
        self._request_ttl_s = request_ttl_s

    async def __call__(self, request: Request) -> Response:
        model, dead_letter_id = request.path_params["model"], request.path_params["id"]
        if not valid_model_name(model):
            raise _unknown(dead_letter_id)
        with redis_errors_as_503():
            count = (await partition_counts(self._connections.shared)).get(model, 1)
            dead_letters = AllDeadLetters(self._connections, [Partition(model, number) for number in range(count)])
            dead_letter = next((one for one in await dead_letters.all() if one.id == dead_letter_id), None)
            if dead_letter is None or not await self._replay(dead_letters.in_partition_of(dead_letter), dead_letter):
                raise _unknown(dead_letter_id)
        return JSONResponse(Replayed(success=True, id=dead_letter_id))

    async def _replay(self, dead_letters: DeadLetters, dead_letter: DeadLetter) -> bool:
        try:
            return await dead_letters.replay(dead_letter, request_ttl_s=self._request_ttl_s)
        except NotReplayable as error:
            raise UnknownDeadLetter(f"{error}.") from error


def _unknown(dead_letter_id: str) -> UnknownDeadLetter:
    return UnknownDeadLetter(
        f"There is no dead letter {dead_letter_id[:60]!r}. It was replayed or dropped, or newer ones displaced it."
    )


REPLAY: Final = Operation(
    "Replay a dead letter",
    {200: DocumentedResponse("It is queued.", Replayed)},
    (UnknownDeadLetter, StreamUnavailable),
)
