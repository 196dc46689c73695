"""A file in memory with a limit on how often it is read.

Pillow reads chunks, sub-blocks, runs and tags in Python, and copies the value of every tag. A hostile file of 20 MB can
hold ten million empty chunks, or five thousand tags that all name the same megabyte. A limit on the number of calls and
on the bytes bounds both, for every format alike.
"""

import io
from typing import Final

#: One read, and what the caller does with it, takes about 2 microseconds: 0.4 s at most.
_MAX_READS: Final = 200_000
#: A valid file is read about three times: to recognise, to parse and to decode it.
_TIMES_READ: Final = 8
_FREE_BYTES: Final = 4 * 2**20


class ReadBudgetExceeded(OSError):
    """The file is made so that reading it takes far too long."""


class BoundedReader(io.BytesIO):
    """Bytes as a file. Raises ReadBudgetExceeded if they are read too often."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads = _MAX_READS
        self._bytes = len(data) * _TIMES_READ + _FREE_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        """As BytesIO's."""
        data = super().read(size)
        self._reads -= 1
        self._bytes -= len(data)
        if self._reads < 0 or self._bytes < 0:
            raise ReadBudgetExceeded("it consists of far too many small pieces")
        return data
