"""Freed memory, kept."""

import platform
import subprocess
import sys

import pytest

# Takes and frees buffers of an image's size, and prints how many pages the system had to fill for each.
_PROGRAM = """
import resource, sys
from stream.host.malloc import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(10):
    buffers = [bytearray(600_000) for _ in range(3)]
    del buffers
before = faults()
for _ in range(100):
    buffers = [bytearray(600_000) for _ in range(3)]
    del buffers
print((faults() - before) / 100)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_buffers_of_an_image_are_taken_from_memory_that_was_freed() -> None:
    """Without it, each buffer is a hundred fresh pages; with it, none."""
    assert _faults("given back") > 50
    assert _faults("kept") < 1


def _faults(what: str) -> float:
    run = subprocess.run([sys.executable, "-c", _PROGRAM, what], check=True, capture_output=True, text=True)
    return float(run.stdout)
