"""Hostile files and forms: a Problem with a 4xx status or valid pixels, nothing else, soon, and without memory kept.

SLUICE_FUZZ_CASES sets how many cases each of the random tests tries.
"""

import ctypes
import gc
import os
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.errors import Problem
from ingest.images.decode import EncodedImage
from tests.support.images import bomb, chunk, encoded, model, one_of_each, png, run_length_bmp, scene

CASES = int(os.environ.get("SLUICE_FUZZ_CASES", "1500"))
FILES = one_of_each()
MODEL = model()
#: Seconds that the worst file may take; without a bound each of them takes more, some of them minutes.
LONGEST_S = 3.0
#: Memory that it may take at its worst: 50 million pixels, once as decoded and once as converted.
MOST_BYTES = 2**29

SIGNATURES = [
    b"",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"RIFF\0\1\0\0WEBPVP8 ",
    b"II*\0\x08\0\0\0",
    b"MM\0*",
]
# As in production, where Pillow's warnings are ignored: as errors they would end some files before they can do harm.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

thorough = settings(
    max_examples=max(50, CASES // 5), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def verdict(data: bytes, most: int = 50_000_000) -> int:
    """200 for valid pixels, else the status of the Problem; everything else fails the test."""
    try:
        image = EncodedImage(data)
        image.cost(MODEL, most)
        pixels = image.to_pixels(MODEL, most)
    except Problem as problem:
        status = problem.status
    else:
        status = 200 if len(pixels) == MODEL.input_bytes else 500
    assert status == 200 or 400 <= status < 500
    return status


def memory(line: str) -> int:
    """Bytes that this process has (VmRSS) or had at most (VmHWM), where the system tells it; else always the same."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else [f"{line}: 1 kB"]
    return next(int(each.split()[1]) * 1024 for each in lines if each.startswith(line))


def kept_bytes() -> int:
    """What the process keeps for good: without garbage, and without what the allocator only has not given back yet."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return memory("VmRSS")


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_is_refused(name: str) -> None:
    """Cut anywhere, a file is damaged; only what stands behind the pixels, or the first frame, may be missing."""
    data = FILES[name]
    step = max(1, len(data) * len(FILES) // (2 * CASES))
    statuses = Counter(verdict(data[:length]) for length in range(0, len(data), step))
    assert set(statuses) <= {200, 413, 415, 422}
    if "animated" not in name:
        assert statuses[200] <= max(1, sum(statuses.values()) // 5)
    assert statuses[415] <= 8


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_are_refused_or_harmless(name: str) -> None:
    """One to four wrong bits anywhere in a file."""
    chance = random.Random(name)
    for _ in range(max(1, CASES // len(FILES))):
        data = bytearray(FILES[name])
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        verdict(bytes(data))


@pytest.mark.parametrize("name", FILES)
def test_headers_full_of_extremes_are_refused_or_harmless(name: str) -> None:
    """Sizes, counts and offsets of zero, of the largest number, and of a neighbour's value."""
    chance = random.Random(name)
    extremes = [
        b"\0" * 4,
        b"\xff" * 4,
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\x7f",
        b"\0\0\0\1",
        b"\xff\xff",
        b"\0\0",
        b"\x80",
    ]
    for _ in range(max(1, CASES // len(FILES))):
        data = bytearray(FILES[name])
        for _ in range(chance.randint(1, 3)):
            offset, value = chance.randrange(min(len(data), 400)), chance.choice(extremes)
            data[offset : offset + len(value)] = value
        verdict(bytes(data))


@thorough
@given(st.sampled_from(SIGNATURES), st.binary(max_size=400))
def test_any_bytes_are_refused_or_harmless(signature: bytes, rest: bytes) -> None:
    """Noise, with and without a signature before it."""
    verdict(signature + rest)


@thorough
@given(st.sampled_from(sorted(FILES)), st.sampled_from(sorted(FILES)), st.data())
def test_files_grown_together_are_refused_or_harmless(one: str, other: str, data: st.DataObject) -> None:
    """The beginning of one file and the end of another, or a piece twice, or a piece left out."""
    head, tail = FILES[one], FILES[other]
    verdict(head[: data.draw(st.integers(0, len(head)))] + tail[data.draw(st.integers(0, len(tail))) :])


def tiff_of(entries: list[tuple[int, int, int, int]], rest: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory: tag, kind, count, value."""
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0\x08\0\0\0" + directory + b"\0\0\0\0" + rest


def tiff_of_a_million_tiles() -> bytes:
    count = 4_000_000  # entries of this directory end at byte 134, and the offsets follow
    size = 2000
    tags = [(256, 4, 1, size), (257, 4, 1, size), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    tags += [(322, 4, 1, 1), (323, 4, 1, 1), (324, 4, count, 134), (325, 4, count, 134)]
    return tiff_of(tags, b"\0" * 4 * count)


def tiff_whose_tags_all_name_the_same_megabyte() -> bytes:
    tags = [(256, 4, 1, 8), (257, 4, 1, 8), *((tag, 7, 2**20, 70_000) for tag in range(1000, 6000))]
    return tiff_of(tags, bytes(2**20 + 20_000))


def gif_with(extension: bytes) -> bytes:
    """A GIF with this extension before its image."""
    data = encoded(scene().convert("P"), "GIF")
    image = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    return data[:image] + extension + data[image:]


def bmp_of_empty_lines(width: int, height: int) -> bytes:
    data = bytearray(run_length_bmp())
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data[:-2]) + b"\x01\x01\0\0" * 100_000


def exif_that_names_itself() -> bytes:
    entries = b"".join(struct.pack("<HHII", tag % 65_535, 7, 60_000, 8) for tag in range(5000))
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 5000) + entries


def progressive_of_many_scans() -> bytes:
    data = encoded(scene(4000, 3000), "JPEG", progressive=True, quality=30)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * 5000 + data[-2:]


HOSTILE: dict[str, Callable[[], bytes]] = {
    "png of empty chunks": lambda: png(40, 30, 8, 2, b"", chunk(b"tIME", b"") * 1_500_000),
    "png of empty pixel chunks": lambda: png(40, 30, 8, 2, b"", chunk(b"IDAT", b"") * 1_500_000),
    "png of a text bomb": lambda: png(40, 30, 8, 2, b"", chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**28), 9))),
    "png of a profile bomb": lambda: png(40, 30, 8, 2, b"", chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**28), 9))),
    "png of too many pixels for its size": lambda: png(40, 30, 8, 2, bytes(2**26)),
    "png of no size": lambda: png(0, 0, 8, 2, b""),
    "png of exif that names itself": lambda: encoded(scene(), "PNG", exif=exif_that_names_itself()),
    "tiff of a million tiles": tiff_of_a_million_tiles,
    "tiff whose tags name the same megabyte": tiff_whose_tags_all_name_the_same_megabyte,
    "tiff of a directory beyond 63 bits": lambda: b"II+\0\x08\0\0\0" + b"\xff" * 100,
    "tiff that is its own next directory": lambda: tiff_of([(256, 4, 1, 8), (257, 4, 1, 8)])[:-4] + b"\x08\0\0\0",
    "gif of comments": lambda: gif_with(b"\x21\xfe" + (b"\xff" + b"x" * 255) * 78_000 + b"\0"),
    "gif of tiny blocks": lambda: gif_with(b"\x21\xfe" + b"\x01x" * 10_000_000 + b"\0"),
    "bmp of empty lines": lambda: bmp_of_empty_lines(1900, 2000),
    "bmp of empty long lines": lambda: bmp_of_empty_lines(7000, 7000),
    "bmp of a negative size": lambda: bmp_of_empty_lines(-1, -(2**31)),
    "jpeg of nothing but marks": lambda: b"\xff\xd8" + b"\xff" * 20_000_000,
    "jpeg of empty segments": lambda: b"\xff\xd8" + b"\xff\xe5\0\2" * 5_000_000,
    "jpeg of many scans": progressive_of_many_scans,
    "jpeg of exif that names itself": lambda: encoded(scene(), "JPEG", exif=exif_that_names_itself()),
    "webp of the largest canvas": lambda: bomb("WEBP"),
    "jpeg of the largest size": lambda: bomb("JPEG", 65_500, 65_500),
    "png of the largest size": lambda: bomb("PNG", 2**31 - 1, 2**31 - 1),
    "gif of the largest size": lambda: bomb("GIF", 65_535, 65_535),
    "bmp of the largest size": lambda: bomb("BMP", 2**31 - 1, 2**31 - 1),
    "zip": lambda: b"PK\3\4" + bytes(1000),
    "elf": lambda: Path("/proc/self/exe").read_bytes()[:100_000] if Path("/proc/self/exe").exists() else b"\x7fELF",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_made_to_exhaust_us_is_refused_soon(name: str) -> None:
    """Twenty megabytes at most, made to cost minutes or gigabytes: an answer comes within seconds."""
    data = HOSTILE[name]()
    assert len(data) < 25_000_000
    before = memory("VmHWM")
    began = time.process_time()
    verdict(data)
    assert time.process_time() - began < LONGEST_S
    assert memory("VmHWM") < before + MOST_BYTES
