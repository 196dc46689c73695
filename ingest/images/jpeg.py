"""Reads the header of a JPEG, and decodes it with libjpeg-turbo (simplejpeg), scaled while it decodes.

The header has what comes before the pixels, and how many scans there are. The event loop reads it for files of any
size, within some 15 ms and without a copy. decode.py has Pillow decode the rare kinds, or refuses them.

Measured, in ms of CPU on one core of a Xeon, libjpeg-turbo 3:

                              500 x 375, 69 KB      4000 x 3000, 3.2 MB
    Pillow, full                      0.74                  50.9
    Pillow, draft                     0.74 (1/1)            28.0 (1/8)
    simplejpeg 8/8                    0.66                  38.9
    7/8   6/8   5/8            1.09  0.96  0.81      61.8  52.0  44.5
    4/8   3/8                  0.56  0.59            29.2  31.5
    2/8   1/8                  0.52  0.46            26.8  23.8

Only 1/1, 1/2, 1/4 and 1/8 have SIMD code in libjpeg-turbo. The steps between cost more than they save, even if they
cover the target with fewer pixels. So the scale is a power of two. A small image is decoded in full, with the same
pixels as in Pillow. simplejpeg reads from memory and writes to memory, without Pillow's parsing in Python. (The wheel
of PyTurboJPEG contains no library.)
"""

import math
import re
import threading
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import simplejpeg

from ingest.errors import DamagedImage
from ingest.images.geometry import UPRIGHT, Orientation
from ingest.images.metadata import EXIF_MARK, MAX_SEARCHED, orientation_of
from ingest.images.resampling import PixelBuffer, Pixels, cmyk_to_rgb

#: Segments before the first scan, and as many from there on. A camera writes about ten. A large colour profile takes
#: some hundred, and 100 scans take 300. To read this many takes up to 20 ms.
MAX_SEGMENTS: Final = 4096
#: Bytes before the first scan up to which metadata is left in the file for the decoder.
_LARGE_HEAD: Final = 2**18
#: More bytes than the header of a scan has.
_SCAN_HEADER: Final = 256
#: Each scan of a progressive JPEG walks over the whole image, and a scan of empty blocks takes a hundred bytes. So a
#: file of 1 MB could keep a core busy for minutes. Encoders write about ten scans.
_MAX_SCANS: Final = 100
#: The event loop itself decodes images up to these sizes (ingest/images/decoder.py). The time of one scan depends on
#: its bytes and on its pixels.
QUICK_BYTES: Final = 256 * 1024
_QUICK_PIXELS: Final = 2**19
#: Rows are scaled one by one, to the width of the input each, however narrow the image is.
_QUICK_ROWS: Final = 2048

_JFIF: Final = 0xE0
_APP1: Final = 0xE1
_ADOBE: Final = 0xEE
_START_OF_SCAN: Final = 0xDA
_END_OF_IMAGE: Final = 0xD9
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

#: Buffers up to this size are kept for the next image. New memory costs 0.2 ms of page faults for 0.6 MB.
_MAX_KEPT_BYTES: Final = 4 * 2**20

#: libjpeg's warning of padding before the end, which some cameras write.
_PADDING: Final = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_DAMAGE: Final = ("Corrupt JPEG data", "Premature end of JPEG file")

_XMP_MARK: Final = b"http://ns.adobe.com/xap/1.0/\0"


@dataclass(frozen=True, slots=True)
class Frame:
    """What the frame header says. `sampling` has the sampling factors of each component in one byte."""

    width: int = 0
    height: int = 0
    sampling: bytes = b""
    components: int = 0
    sequential: bool = False


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
    frame: Frame
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


def read_header(data: bytes, most_segments: int = MAX_SEGMENTS) -> JpegHeader | None:
    """Read the header; None if it has more segments.

    Raises DamagedImage if the file ends there, or has far too many scans.
    """
    segments, scan = _segments(data, most_segments)
    if not scan:
        return None
    frame = _frame(data, segments)
    # A progressive image has many scans even if the first one holds all components.
    single = frame.sequential and data[scan + 4 : scan + 5] == bytes([frame.components])
    scans = 1 if single else _count_scans(data, scan, most_segments)
    if not scans:
        return None
    orientation = _orientation(data, segments)
    if not _FAST_FRAMES.issuperset(marker for marker, _, _ in segments if marker in _FRAMES):
        return JpegHeader(data, orientation, scans, segments, frame, None, "")
    try:
        head = data if scan <= _LARGE_HEAD else _without_metadata(data, segments, scan + _SCAN_HEADER)
        height, width, colours, _ = simplejpeg.decode_jpeg_header(head)
    except ValueError:
        return JpegHeader(data, orientation, scans, segments, frame, None, "")
    return JpegHeader(data, orientation, scans, segments, frame, (width, height), colours)


def _segments(data: bytes, most: int) -> tuple[tuple[tuple[int, int, int], ...], int]:
    """The segments before the first scan, and where that scan starts: 0 if there are more segments."""
    position = 2
    segments: list[tuple[int, int, int]] = []
    for _ in range(most):
        start = data.find(b"\xff", position)
        marker = data[start + 1] if 0 <= start < len(data) - 3 else _END_OF_IMAGE
        if marker == 0xFF or marker in _BARE:
            position = start + (1 if marker == 0xFF else 2)
            continue
        if marker == _END_OF_IMAGE:
            raise DamagedImage("The JPEG file ends before its pixels begin. Send the whole file.")
        if marker == _START_OF_SCAN:
            return tuple(segments), start
        position = start + 2 + int.from_bytes(data[start + 2 : start + 4])
        segments.append((marker, start, position))
    return (), 0


def _frame(data: bytes, segments: tuple[tuple[int, int, int], ...]) -> Frame:
    for marker, start, end in segments:
        if marker in _FRAMES and len(body := data[start + 4 : end]) > 5:
            width, height = int.from_bytes(body[3:5]), int.from_bytes(body[1:3])
            return Frame(width, height, body[7::3][: body[5]], body[5], marker in _SEQUENTIAL_FRAMES)
    return Frame()


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


def _count_scans(data: bytes, scan: int, most: int) -> int:
    """The scans up to the end of the image: phones append films, in which any bytes may occur. 0: more segments."""
    scans, position = 0, scan
    for _ in range(most):
        marker = data[position + 1]
        if marker == _END_OF_IMAGE:
            break
        scans += marker == _START_OF_SCAN
        position = _next_marker(data, position + 2 + int.from_bytes(data[position + 2 : position + 4]))
        if position < 0:
            break
    else:
        return 0
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


def decode(header: JpegHeader, divisor: int, *, fast_dct: bool = False, grey: bool = False) -> PixelBuffer | None:
    """Decode the image with each side divided. None if this decoder cannot decode the file after all.

    With `fast_dct`, the pixels are those of TensorFlow. With `grey`, only the luma is decoded, except of CMYK.

    Raises DamagedImage if pixels are missing or the entropy-coded data makes no sense. libjpeg would continue with
    grey, and a prediction for grey is worse than none.
    """
    try:
        return _decode(header, divisor, fast_dct=fast_dct, grey=grey)
    except ValueError as error:
        if padding := _PADDING.match(str(error)):
            unpadded = replace(header, data=_without_padding(header, int(padding[1])))
            if len(unpadded.data) < len(header.data):
                return decode(unpadded, divisor, fast_dct=fast_dct, grey=grey)
        if str(error).startswith(_DAMAGE):
            raise DamagedImage("The JPEG file is damaged or incomplete. Send the whole file.") from error
        return None


def _without_padding(header: JpegHeader, size: int) -> bytes:
    """The file without the bytes before its end.

    To ignore the warning instead would hide the next one: that the end came in the middle of the image.
    """
    end = header.data.find(bytes((0xFF, _END_OF_IMAGE)), header.segments[-1][2] if header.segments else 0)
    while end > 0 and header.data[end - 1] == 0xFF:
        end -= 1
    return header.data[: end - size] + header.data[end:] if end >= size else header.data


def _decode(header: JpegHeader, divisor: int, *, fast_dct: bool, grey: bool) -> PixelBuffer:
    assert header.size
    width, height = (-(-side // divisor) for side in header.size)
    is_cmyk = header.colours in ("CMYK", "YCCK")
    grey = grey and not is_cmyk
    buffer = _per_thread.buffer(height * width * (1 if grey else 4))
    pixels = simplejpeg.decode_jpeg(
        header.for_decoder, "CMYK" if is_cmyk else "GRAY" if grey else "RGBX",
        min_height=height, min_width=width, buffer=buffer, strict=True, fastdct=fast_dct,
    )  # fmt: skip
    if is_cmyk:
        cmyk_to_rgb(pixels)
    return PixelBuffer(buffer, pixels.shape[1], pixels.shape[0], grey)


class _PerThread(threading.local):
    def __init__(self) -> None:
        self._kept = bytearray()

    def buffer(self, size: int) -> Pixels:
        if size > _MAX_KEPT_BYTES:
            # Not a bytearray, which fills itself with zeros: with 48 MB, that holds the interpreter for 40 ms.
            return np.empty(size, np.uint8)
        if size > len(self._kept):
            self._kept = bytearray(size)
        return self._kept


_per_thread = _PerThread()
