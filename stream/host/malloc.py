"""What becomes of freed memory: it stays with the process, for the next image, or goes back to the system.

Every image takes and frees some buffers of 0.1 to 0.6 MB. By default glibc gives each back to the system at once and
asks for it again, and the system fills 340 pages with zeros meanwhile: 0.5 ms of the 1.6 ms that a small image
takes from file to pixels on one core of an EPYC. glibc raises these bounds by itself, up to 32 MB, but only once
something of such a size was freed.
"""

import ctypes
from typing import Final

# mallopt(3): from which size on a buffer is mapped by itself, and how much may lie free at the heap's end.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

#: Larger than each buffer of one image; 16 MB for both made a worker with 32 clients 30 MB larger.
_MAPPED_FROM_BYTES: Final = 2 * 2**20

#: Some images' buffers, since several are under way: with 2 MB a worker with 8 clients still got 25 new pages for
#: each of them, with 8 MB it gets 7, and is 1 MB larger.
_FREE_AT_END_BYTES: Final = 8 * 2**20


def keep_freed_memory() -> None:
    """To be called once, at the start of a process; does nothing where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _FREE_AT_END_BYTES)


def give_back_freed_memory() -> None:
    """After much was freed at once; does nothing where the C library is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
