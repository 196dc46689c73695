"""`python -m ingest.images.worker`: decodes images that may be expensive, under limits of memory and CPU time.

A file can make a decoder run for minutes, take gigabytes or crash. In this process, that costs only the sender of the
file. Each job on stdin is decoded and answered on stdout, until stdin ends.

    job     lengths of both parts (two unsigned 32-bit numbers), seconds of CPU time that the image may take (32-bit
            floating point), the model's description (JSON), the file
    reply   P (pixels) or E (error), the length of the rest (unsigned 32-bit), pixels or JSON {"error", "detail"}

All numbers are little-endian. The first reply is READY, as soon as the process can take jobs.
"""

import contextlib
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from ingest.errors import DamagedImage, Problem, TooManyPixels, UnsupportedMediaType
from stream.host.cpu import IDLE_NICENESS, lower_priority, short_pauses
from stream.model import ModelDescription

#: Head of a job, and of a reply.
JOB: Final = struct.Struct("<IIf")
REPLY: Final = struct.Struct("<cI")
PIXELS: Final = b"P"
ERROR: Final = b"E"
READY: Final = b"R"

#: The problems that a reply can name.
PROBLEMS: Final[dict[str, type[Problem]]] = {
    kind.__name__: kind for kind in (DamagedImage, TooManyPixels, UnsupportedMediaType)
}

#: The rest of the CPU time is for reading the file, and for the timer, which is late by some ticks of the clock.
_DECODING_SHARE: Final = 0.9

#: The signal that ends the process when one image takes too much CPU time.
OUT_OF_TIME: Final = signal.SIGPROF


def main(memory_bytes: int, max_pixels: int, niceness: int) -> None:
    """Serve jobs until stdin ends."""
    lower_priority(niceness)
    from ingest.images.decode import to_pixels  # Not at the top: it takes 0.2 s, which should have this priority.
    from ingest.images.formats import enable_heic

    enable_heic()  # Now, so that the library's own 25 MB do not count as an image's.

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The terminal sends it to all; the parent ends its workers.
    _limit_memory(memory_bytes)
    pauses = short_pauses if niceness >= IDLE_NICENESS else contextlib.nullcontext
    jobs, replies = sys.stdin.buffer, sys.stdout.buffer
    replies.write(READY)
    replies.flush()
    while head := jobs.read(JOB.size):
        *sizes, cpu_s = JOB.unpack(head)
        description, data = (_exactly(jobs, size) for size in sizes)
        # A handler in Python could not interrupt a decoder. So the signal keeps its default: it ends the process.
        signal.setitimer(signal.ITIMER_PROF, cpu_s * _DECODING_SHARE)
        with pauses():
            kind, reply = _answer(lambda: to_pixels(data, ModelDescription.decode(description), max_pixels))  # noqa: B023
        signal.setitimer(signal.ITIMER_PROF, 0)
        del data
        replies.write(REPLY.pack(kind, len(reply)) + reply)
        replies.flush()


def _exactly(jobs: BinaryIO, size: int) -> bytes:
    data = jobs.read(size)
    if len(data) < size:
        sys.exit(0)  # The parent has ended.
    return data


def _answer(decode: Callable[[], bytes]) -> tuple[bytes, bytes]:
    try:
        return PIXELS, decode()
    except tuple(PROBLEMS.values()) as problem:
        return ERROR, json.dumps({"error": type(problem).__name__, "detail": problem.detail}).encode()


def _limit_memory(memory_bytes: int) -> None:
    """Allow that much more address space than the process has now, where the system can count it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    try:
        main(*map(int, sys.argv[1:]))
    except BrokenPipeError:
        # The parent was killed. At an ordinary end, flushing stdout would fail once more, with a message.
        os._exit(0)
