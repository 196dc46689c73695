"""Limits the memory of all request bodies that are arriving, so that slow clients cannot fill it together.

Bytes count as they arrive, not as declared. If they exceed the limit, the upload that began first has to go: a client
that sends at a normal rate is done long before it is the oldest.
"""

import asyncio
from types import TracebackType
from typing import Final, Self

from ingest.errors import Overloaded

#: What a chunk takes in addition to its bytes. Clients can send one byte at a time.
_CHUNK_BYTES: Final = 64

#: Retry-After of a refused upload, in seconds.
_RETRY_S: Final = 5.0


class UploadMemory:
    """The uploads of one process, in the order in which they began, and the bytes of each."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._used = 0
        self._uploads: dict[UploadInProgress, int] = {}

    @property
    def used(self) -> int:
        """Bytes of all bodies that are arriving."""
        return self._used

    def begin(self, timeout: asyncio.Timeout) -> "UploadInProgress":
        """A new upload. `timeout` covers it, and ends it if it has to go."""
        upload = UploadInProgress(self, timeout)
        self._uploads[upload] = 0
        return upload

    def add(self, upload: "UploadInProgress", size: int) -> None:
        """A chunk of this upload has arrived. Raises Overloaded if this upload has to go."""
        if upload.refused:
            raise refusal()
        self._uploads[upload] += size + _CHUNK_BYTES
        self._used += size + _CHUNK_BYTES
        while self._used > self._max_bytes:
            oldest = next(iter(self._uploads))
            self.end(oldest)
            if oldest is upload:
                raise refusal()
            oldest.refuse()

    def end(self, upload: "UploadInProgress") -> None:
        """This upload takes no memory here any more."""
        self._used -= self._uploads.pop(upload, 0)


class UploadInProgress:
    """One body that is arriving."""

    def __init__(self, memory: UploadMemory, timeout: asyncio.Timeout) -> None:
        self._memory = memory
        self._timeout = timeout
        self.refused = False

    def add(self, size: int) -> None:
        """A chunk has arrived. Raises Overloaded."""
        self._memory.add(self, size)

    def refuse(self) -> None:
        """End it: its task gets a TimeoutError, if it waits for the next chunk."""
        self.refused = True
        self._timeout.reschedule(asyncio.get_running_loop().time())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._memory.end(self)


def refusal() -> Overloaded:
    return Overloaded(
        "Too many uploads are in progress, and this one began first. Send it again after the time in Retry-After.",
        retry_after_s=_RETRY_S,
    )
