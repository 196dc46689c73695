"""Limits the memory of all request bodies that are arriving, so that slow clients cannot fill it together.

Bytes count as they arrive, not as declared, and so does what can lie in the buffers that they pass through. If all of
it exceeds the limit, the upload that began first has to go: a client that sends at a normal rate is done long before it
is the oldest. What it held is freed at once, and goes back to the system.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from ingest.errors import Overloaded
from stream.host.malloc import give_back_freed_memory

#: What an upload takes besides its bytes: its connection, its task and the state of its parsers.
_UPLOAD_BYTES: Final = 16 * 1024
#: The event loop reads that many bytes of a connection at once. They are here before their upload takes them.
READ_BYTES: Final = 256 * 1024
#: A buffer that grows is an eighth larger than its contents.
_SPARE_SHIFT: Final = 3

#: Seconds after which the memory of uploads that were not completed goes back to the system. By then their tasks have
#: ended. malloc would keep it, and the next uploads might not fit into it.
_TRIM_AFTER_S: Final = 0.2

#: Retry-After of a refused upload, in seconds.
_RETRY_S: Final = 5.0


def needed_for(body_bytes: int) -> int:
    """What one upload of this size takes at most."""
    return _grown(body_bytes) + READ_BYTES + _UPLOAD_BYTES


def _grown(size: int) -> int:
    return size + (size >> _SPARE_SHIFT)


class UploadMemory:
    """The uploads of one process, in the order in which they began, and the bytes of each."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._used = 0
        self._uploads: dict[UploadInProgress, int] = {}
        self._trimming = False
        self._trim_again = False

    @property
    def used(self) -> int:
        """Bytes of all bodies that are arriving."""
        return self._used

    def begin(self, timeout: asyncio.Timeout, unread_bytes: int = READ_BYTES) -> "UploadInProgress":
        """A new upload. `timeout` covers it, and ends it if it has to go.

        `unread_bytes` is what may be read from its connection before the upload takes it. Raises Overloaded.
        """
        upload = UploadInProgress(self, timeout)
        self._uploads[upload] = 0
        self._take(upload, _UPLOAD_BYTES + min(unread_bytes, READ_BYTES))
        return upload

    def add(self, upload: "UploadInProgress", size: int) -> None:
        """A chunk of this upload has arrived. Raises Overloaded if this upload has to go."""
        if upload.refused:
            raise refusal()
        self._take(upload, _grown(size))

    def _take(self, upload: "UploadInProgress", size: int) -> None:
        self._uploads[upload] += size
        self._used += size
        while self._used > self._max_bytes:
            oldest = next(iter(self._uploads))
            self.abandon(oldest)
            if oldest is upload:
                raise refusal()
            oldest.refuse()

    def end(self, upload: "UploadInProgress") -> None:
        """This upload takes no memory here any more."""
        self._used -= self._uploads.pop(upload, 0)

    def abandon(self, upload: "UploadInProgress") -> None:
        """As `end`, of an upload that is not complete."""
        self.end(upload)
        self._trim_again = True
        self._plan_trim()

    def _plan_trim(self) -> None:
        if self._trim_again and not self._trimming:
            self._trim_again, self._trimming = False, True
            asyncio.get_running_loop().call_later(_TRIM_AFTER_S, self._trim)

    def _trim(self) -> None:
        give_back_freed_memory()
        self._trimming = False
        self._plan_trim()


class UploadInProgress:
    """One body that is arriving."""

    def __init__(self, memory: UploadMemory, timeout: asyncio.Timeout) -> None:
        self._memory = memory
        self._timeout = timeout
        self._free: Callable[[], None] | None = None
        self.refused = False

    def free_with(self, free: Callable[[], None]) -> None:
        """Free the bytes with this function if the upload has to go. Its own task would run only a moment later."""
        self._free = free

    def add(self, size: int) -> None:
        """A chunk has arrived. Raises Overloaded."""
        self._memory.add(self, size)

    def refuse(self) -> None:
        """End it: its task gets a TimeoutError, if it waits for the next chunk."""
        self.refused = True
        if self._free:
            self._free()
        self._timeout.reschedule(asyncio.get_running_loop().time())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._memory.end(self)
        else:
            self._memory.abandon(self)


def refusal() -> Overloaded:
    return Overloaded(
        "Too many uploads are in progress, and this one began first. Send it again after the time in Retry-After.",
        retry_after_s=_RETRY_S,
    )
