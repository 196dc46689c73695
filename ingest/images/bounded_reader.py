"""A file in memory that can be read for so long only. Knows no format.

Pillow walks over chunks, sub-blocks, runs and tags in Python, and copies the value of every tag: a hostile file
of 20 MB can hold ten million empty chunks, or five thousand tags that all name the same megabyte. Counting
calls and bytes bounds both, for every format alike.
"""

import io
from typing import Final

#: A read and what the caller does with it take about 2 microseconds: 0.4 s at most.
_MOST_READS: Final = 200_000
#: An honest file is read about three times (recognised, parsed, decoded).
_TIMES_READ: Final = 8
_FREE_BYTES: Final = 4 * 2**20


class TooMuchReading(OSError):
    """The file is made so that reading it never pays."""


class BoundedReader(io.BytesIO):
    """Bytes as a file; raises TooMuchReading where they are read too often."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads = _MOST_READS
        self._bytes = len(data) * _TIMES_READ + _FREE_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        """As BytesIO's."""
        got = super().read(size)
        self._reads -= 1
        self._bytes -= len(got)
        if self._reads < 0 or self._bytes < 0:
            raise TooMuchReading("it has far too many small pieces")
        return got
