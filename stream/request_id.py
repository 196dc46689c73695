"""The id of a request: random digits, then the number of its partition if that is not 0.

    3f2a...    32 hexadecimal digits: partition 0
    3f2a...-2  partition 2

So any ingest finds it, however many partitions there are by now.
"""

import re
import uuid

#: Most partitions of a model. Each costs every consumer and every ingest a connection.
MAX_PARTITIONS = 64

_PARTITION = re.compile(r"-([1-9]\d?)\Z")


def new_id(partition: int = 0) -> str:
    """An id that cannot be guessed: 122 random bits (RFC 9562, 5.4)."""
    return uuid.uuid4().hex + (f"-{partition}" if partition else "")


def partition_of(request_id: str) -> int:
    """The number of the partition that a request with this id was sent to."""
    found = _PARTITION.search(request_id)
    return int(found[1]) if found else 0
