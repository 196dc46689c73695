"""The part of gRPC's context of a call that is used here. The package grpcio has no types of its own."""

from collections.abc import Iterable
from typing import Any, NoReturn, Protocol

Metadata = Iterable[tuple[str, str | bytes]]


class Context(Protocol):
    """One call, as `grpc.aio.ServicerContext` has it."""

    async def read(self) -> Any:  # noqa: ANN401 (the next message, or EOF)
        """The next message from the client, `grpc.aio.EOF` after the last."""

    async def write(self, message: object) -> None:
        """Send a message to the client."""

    async def abort(self, code: object, details: str, trailing_metadata: tuple[tuple[str, str], ...]) -> NoReturn:
        """End the call with this status, by an exception."""

    def invocation_metadata(self) -> Metadata | None:
        """What the client sent with the call."""

    def set_trailing_metadata(self, trailing_metadata: tuple[tuple[str, str], ...]) -> NoReturn:
        """Send this with the end of the call."""

    def peer(self) -> str:
        """The client's address."""

    def time_remaining(self) -> float | None:
        """Seconds until the client's deadline, None without one."""
