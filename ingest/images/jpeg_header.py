"""Reads the header of a JPEG: what comes before the pixels, and how many scans there are. It says what decoding costs.

It runs on the event loop for files of any size, so none may take more than some 20 ms, and nothing copies the file.
"""

import math
from dataclasses import dataclass
from operator import mul
from typing import Final

import numpy as np
import simplejpeg

from ingest.errors import DamagedImage
from ingest.images.cost import Cost
from ingest.images.geometry import UPRIGHT, Orientation
from ingest.images.metadata import EXIF_MARK, MAX_SEARCHED, orientation_of

#: A camera writes about ten segments before the pixels. A large colour profile takes some hundred.
_MAX_SEGMENTS: Final = 4096
#: Bytes before the first scan up to which metadata is left in the file for the decoder.
_LARGE_HEAD: Final = 2**18
#: More bytes than the header of a scan has.
_SCAN_HEADER: Final = 256
#: Segments from the first scan on. An image of 100 scans has 300.
_MAX_SCAN_SEGMENTS: Final = 1024
#: Each scan of a progressive JPEG walks over the whole image, and a scan of empty blocks takes a hundred bytes. So a
#: file of 1 MB could keep a core busy for minutes. Encoders write about ten scans.
_MAX_SCANS: Final = 100
#: The event loop itself decodes images up to these sizes (ingest/images/decoder.py). The time of one scan depends on
#: its bytes and on its pixels.
QUICK_BYTES: Final = 256 * 1024
_QUICK_PIXELS: Final = 2**19
#: Rows are scaled one by one, to the width of the input each, however narrow the image is.
_QUICK_ROWS: Final = 2048

#: Seconds of one core per pixel, per sample of each further scan, and per byte of the file.
_PIXEL_S: Final = 4e-9
_SCAN_S: Final = 0.7e-9
_BYTE_S: Final = 15e-9
#: libjpeg keeps a coefficient of 2 bytes for each sample if there are several scans.
_COEFFICIENT_BYTES: Final = 2
_OUTPUT_BYTES: Final = 4
#: Seconds per pixel of the image that is scaled along its rows alone, which a tall image makes large.
_NARROW_S: Final = 6e-9

_JFIF: Final = 0xE0
_APP1: Final = 0xE1
_ADOBE: Final = 0xEE
_START_OF_SCAN: Final = 0xDA
END_OF_IMAGE: Final = 0xD9
_APPLICATION_SEGMENTS: Final = range(0xE0, 0xF0)
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL_FRAMES: Final = (0xC0, 0xC1)
#: The fast decoder writes a lossless image in full into the buffer of a scaled one, behind its end. With arithmetic
#: coding, it takes bytes that are missing for zeros. Pillow decodes both.
_FAST_FRAMES: Final = frozenset((0xC0, 0xC1, 0xC2))
_BARE: Final = frozenset((0x00, 0x01, *range(0xD0, 0xD9)))  # markers without a length: stuffing, TEM, RST, SOI
#: Entropy-coded data is searched in blocks, which grow to this size.
_FIRST_BLOCK: Final = 2**13
_LAST_BLOCK: Final = 2**18

_XMP_MARK: Final = b"http://ns.adobe.com/xap/1.0/\0"


@dataclass(frozen=True, slots=True)
class _Frame:
    """What the frame header says. `sampling` has the sampling factors of each component in one byte."""

    width: int = 0
    height: int = 0
    sampling: bytes = b""
    components: int = 0
    sequential: bool = False

    @property
    def samples(self) -> float:
        """The number of samples per pixel: 1.5 with the usual subsampling, 3 if the header does not say."""
        across, down = [one >> 4 for one in self.sampling], [one & 15 for one in self.sampling]
        return sum(map(mul, across, down)) / max(1, max(across) * max(down)) if across else 3.0


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """A file and what its header says. If `scans` is 1, one scan holds all of its pixels.

    `size` is width and height as the fast decoder sees them, None if that decoder does not accept the file. `colours`
    is its name of the colour space.
    """

    data: bytes
    orientation: Orientation
    scans: int
    segments: tuple[tuple[int, int, int], ...]  # marker, start, end
    frame: _Frame
    size: tuple[int, int] | None
    colours: str

    @property
    def is_quick(self) -> bool:
        """Whether a file of at most QUICK_BYTES takes at most 4 ms of a core, even if it is hostile."""
        if self.scans > 1 or self.size is None or self.size[1] > _QUICK_ROWS:
            return False
        return math.prod(self.size) <= _QUICK_PIXELS

    @property
    def dimensions(self) -> tuple[int, int]:
        """Width and height."""
        return self.size or (self.frame.width, self.frame.height)

    def cost(self, divisor: int, input_side: int) -> Cost:
        """The cost of decoding it with each side divided, and of scaling it to an input of at most that side."""
        width, height = self.dimensions
        divisor = divisor if self.size else 1
        pixels, narrow = width * height, input_side * height // divisor
        memory = (pixels // divisor**2 + narrow) * _OUTPUT_BYTES
        seconds = pixels * _PIXEL_S + narrow * _NARROW_S + len(self.data) * _BYTE_S
        if self.scans > 1:
            samples = pixels * self.frame.samples
            memory += int(samples * _COEFFICIENT_BYTES)
            seconds += samples * self.scans * _SCAN_S
        return Cost(pixels, memory, seconds, width, height)

    def bare(self) -> bytes:
        """The file without application segments, except JFIF's and Adobe's, which say how colours are stored."""
        return _without_metadata(self.data, self.segments, len(self.data))

    @property
    def for_decoder(self) -> bytes:
        """The file, or without metadata if that is large: the decoder would copy each part of a colour profile."""
        return self.bare() if self.segments and self.segments[-1][2] > _LARGE_HEAD else self.data


def _without_metadata(data: bytes, segments: tuple[tuple[int, int, int], ...], stop: int) -> bytes:
    kept, position = [], 0
    for marker, start, end in segments:
        if marker in _APPLICATION_SEGMENTS and marker not in (_JFIF, _ADOBE):
            kept.append(data[position:start])
            position = end
    return b"".join([*kept, data[position:stop]])


def read_header(data: bytes) -> JpegHeader:
    """Read the header. Raises DamagedImage if the file ends there, or has far too many scans."""
    segments, scan = _segments(data)
    frame = _frame(data, segments)
    # A progressive image has many scans even if the first one holds all components.
    single = frame.sequential and data[scan + 4 : scan + 5] == bytes([frame.components])
    scans = 1 if single else _count_scans(data, scan)
    orientation = _orientation(data, segments)
    if not _FAST_FRAMES.issuperset(marker for marker, _, _ in segments if marker in _FRAMES):
        return JpegHeader(data, orientation, scans, segments, frame, None, "")
    try:
        head = data if scan <= _LARGE_HEAD else _without_metadata(data, segments, scan + _SCAN_HEADER)
        height, width, colours, _ = simplejpeg.decode_jpeg_header(head)
    except ValueError:
        return JpegHeader(data, orientation, scans, segments, frame, None, "")
    return JpegHeader(data, orientation, scans, segments, frame, (width, height), colours)


def _segments(data: bytes) -> tuple[tuple[tuple[int, int, int], ...], int]:
    """The segments before the first scan, and where that scan starts."""
    position = 2
    segments: list[tuple[int, int, int]] = []
    for _ in range(_MAX_SEGMENTS):
        start = data.find(b"\xff", position)
        marker = data[start + 1] if 0 <= start < len(data) - 3 else END_OF_IMAGE
        if marker == 0xFF or marker in _BARE:
            position = start + (1 if marker == 0xFF else 2)
            continue
        if marker == END_OF_IMAGE:
            break
        if marker == _START_OF_SCAN:
            return tuple(segments), start
        position = start + 2 + int.from_bytes(data[start + 2 : start + 4])
        segments.append((marker, start, position))
    raise DamagedImage("The JPEG file ends before its pixels begin. Send the whole file.")


def _frame(data: bytes, segments: tuple[tuple[int, int, int], ...]) -> _Frame:
    for marker, start, end in segments:
        if marker in _FRAMES and len(body := data[start + 4 : end]) > 5:
            width, height = int.from_bytes(body[3:5]), int.from_bytes(body[1:3])
            return _Frame(width, height, body[7::3][: body[5]], body[5], marker in _SEQUENTIAL_FRAMES)
    return _Frame()


def _orientation(data: bytes, segments: tuple[tuple[int, int, int], ...]) -> Orientation:
    exif = bytearray()
    xmp = b""
    for marker, start, end in segments:
        if marker != _APP1:
            continue
        # EXIF above 64 KB goes on in the next segment. A look at each segment must not copy the whole file.
        if data.startswith(EXIF_MARK, start + 4):
            if len(exif) < MAX_SEARCHED:
                exif += data[start + (4 + len(EXIF_MARK) if exif else 4) : end]
        elif data.startswith(_XMP_MARK, start + 4):
            xmp = data[start + 4 + len(_XMP_MARK) : end]
    return orientation_of(bytes(exif), xmp) if exif or xmp else UPRIGHT


def _count_scans(data: bytes, scan: int) -> int:
    """The scans up to the end of the image: phones append films, in which any bytes may occur."""
    scans, position = 0, scan
    for _ in range(_MAX_SCAN_SEGMENTS):
        marker = data[position + 1]
        if marker == END_OF_IMAGE:
            break
        scans += marker == _START_OF_SCAN
        position = _next_marker(data, position + 2 + int.from_bytes(data[position + 2 : position + 4]))
        if position < 0:
            break
    else:
        raise DamagedImage("The JPEG file has far too many segments between its scans. Save the image again.")
    if scans > _MAX_SCANS:
        raise DamagedImage(
            f"The JPEG file has more than {_MAX_SCANS} scans, which no encoder writes. Save the image again."
        )
    return scans


def _next_marker(data: bytes, position: int) -> int:
    """Where the entropy-coded data from this position on ends; -1 if it does not.

    It takes 0.4 ns for each byte, whatever they are. A regular expression takes 10 ns where it almost matches.
    """
    size = _FIRST_BLOCK
    while position < len(data) - 1:
        block = np.frombuffer(data, np.uint8, min(size, len(data) - position), position)
        second = block[1:]
        ends = (block[:-1] == 0xFF) & (second >= 0x02) & (second != 0xFF) & ((second < 0xD0) | (second > 0xD8))
        if ends[found := int(ends.argmax())]:
            return position + found
        position += len(second)
        size = min(2 * size, _LAST_BLOCK)
    return -1
