"""TIFF files of kinds that Pillow does not write, put together tag by tag (TIFF 6.0)."""

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

#: By the number of the type.
_LAYOUTS = {1: "B", 3: "H", 4: "I", 8: "h"}

SHORT = 3

#: Tags, as their type and their values.
Tags = dict[int, tuple[int, tuple[int, ...]]]


def shorts(*values: int) -> tuple[int, tuple[int, ...]]:
    """The values of a tag, as SHORT."""
    return SHORT, values


def tiff(samples: npt.NDArray[Any], tags: Tags, order: str = "<") -> bytes:
    """An uncompressed file of [height, width, ...] samples, which must have the byte order of the file.

    The file says that it has unsigned grey samples of 8 bits in one strip, unless `tags` say otherwise.
    """
    height, width = samples.shape[:2]
    data = samples.tobytes()
    usual: Tags = {256: shorts(width), 257: shorts(height), 258: shorts(8), 259: shorts(1), 262: shorts(1),
                   273: (4, (8,)), 277: shorts(1), 278: shorts(height), 279: (4, (len(data),))}  # fmt: skip
    wanted = {tag: value for tag, value in sorted((usual | tags).items()) if value[1]}
    start = 8 + len(data) + len(data) % 2
    behind = start + 2 + 12 * len(wanted) + 4
    directory, long = b"", b""
    for tag, (kind, values) in wanted.items():
        value = struct.pack(order + _LAYOUTS[kind] * len(values), *values)
        if len(value) > 4:
            value, long = struct.pack(order + "I", behind + len(long)), long + value + bytes(len(value) % 2)
        directory += struct.pack(order + "HHI", tag, kind, len(values)) + value.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, start)
    return b"".join(
        ((head + data).ljust(start, b"\0"), struct.pack(order + "H", len(wanted)), directory, bytes(4), long)
    )


def planes(samples: "np.ndarray[tuple[int, int, int], Any]") -> Tags:
    """The tags of a file whose channels [channels, height, width] lie one behind the other."""
    size = samples[0].nbytes
    return {284: shorts(2), 273: (4, tuple(8 + size * number for number in range(len(samples)))),
            279: (4, (size,) * len(samples))}  # fmt: skip
