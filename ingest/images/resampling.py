"""Scaling a box of pixels to the size of the model's input. Knows no format and no model.

The scaling is Pillow's: a convolution whose support grows with the reduction, so that nothing aliases, first along
the rows, then along the columns, rounded to 8 bits after each. What JPEG decodes to is scaled by fast_image_resize
(cykooz-resizer) with AVX2 or NEON where its wheel is installed: 0.22 ms of CPU instead of 1.5 ms from 500 x 375 to
224 x 224, bicubic, one core of an EPYC (0.28 ms with pixels of three bytes). Left to itself it takes the columns first,
and 0.2 of 255 lie between the two on average; in two steps in Pillow's order it is 0.003, and never more than 2.
"""

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from PIL import Image

from ingest.images.geometry import Frame
from stream.model import Interpolation

try:
    import cykooz_resizer as simd
except ImportError:  # no wheel for this machine (Linux on ARM), and none is needed
    simd = None

#: What both scalers take for four bytes a pixel that mean nothing to them. Pillow's RGBX is not known to the fast one,
#: and RGBA would be: its colours count by their fourth byte.
_FOUR_BYTES: Final = "CMYK"

#: What lies between the two steps is kept for the next picture up to this size, 4 MB.
_KEPT_PIXELS: Final = 2**20

_PILLOW: Final = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, slots=True)
class Raw:
    """Pixels as a decoder left them, row by row: red, green, blue and a byte that means nothing.

    The buffer may be longer, and its thread fills it again for the next picture.
    """

    buffer: bytearray
    width: int
    height: int

    def image(self) -> Image.Image:
        """The same memory for a scaler."""
        return _image_over(self.buffer, _FOUR_BYTES, self.width, self.height)


def resample(raw: Raw, frame: Frame, interpolation: Interpolation) -> bytes:
    """The frame of a decoded picture, uint8 [frame.height, frame.width, 3], not turned yet."""
    if simd is None or interpolation == "nearest":
        scaled = _by_pillow(raw.image(), frame, interpolation)
        return _image_over(scaled.tobytes(), "RGBX", frame.width, frame.height).tobytes("raw", "RGB")
    return _per_thread.scaler().scale(raw, frame, interpolation)


def resample_image(image: Image.Image, frame: Frame, interpolation: Interpolation) -> bytes:
    """The same of a Pillow image in mode L or RGB, by Pillow: it needs no copy of a large picture."""
    return _by_pillow(image, frame, interpolation).convert("RGB").tobytes()


def _by_pillow(image: Image.Image, frame: Frame, interpolation: Interpolation) -> Image.Image:
    box = _within(frame, image.width, image.height)
    return image.resize((frame.width, frame.height), _PILLOW[interpolation], box=box)


def _image_over(memory: bytes | bytearray, mode: str, width: int, height: int) -> Image.Image:
    """An image of four bytes a pixel that lies in this memory; nothing is copied."""
    return Image.frombuffer(mode, (width, height), memory, "raw", mode, 0, 1)


def _within(frame: Frame, width: int, height: int) -> tuple[float, float, float, float]:
    """The frame's box without what rounding put beyond the edges, which neither scaler accepts."""
    left, top, right, bottom = frame.box
    return (max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom))


@dataclass(frozen=True, slots=True)
class _Plan:
    """The two steps of a scaling with the images that they fill: first the columns, then the rows.

    `colours` is `scaled` once more, the same memory under the name by which Pillow finds red, green and blue.
    """

    narrow: Image.Image
    columns: "simd.ResizeOptions"
    scaled: Image.Image
    rows: "simd.ResizeOptions"
    colours: Image.Image


class _Scaler:
    """One thread's scaler: it holds a lock while it works, and keeps its intermediate buffers.

    Those of one camera are of one size: the plan for the last one is kept, unless it is large.
    """

    def __init__(self) -> None:
        kinds = {
            "bilinear": simd.FilterType.bilinear,
            "bicubic": simd.FilterType.catmull_rom,  # a = -0.5, as Pillow's bicubic
            "lanczos": simd.FilterType.lanczos3,
        }
        self._algorithms = {name: simd.ResizeAlg.convolution(kind) for name, kind in kinds.items()}
        self._resizer = simd.Resizer()
        self._kept_plan = lru_cache(maxsize=1)(self._plan)

    def scale(self, raw: Raw, frame: Frame, interpolation: Interpolation) -> bytes:
        plan_for = self._kept_plan if frame.width * raw.height <= _KEPT_PIXELS else self._plan
        plan = plan_for(raw.width, raw.height, frame, interpolation)
        self._resizer.resize_pil(raw.image(), plan.narrow, plan.columns)
        self._resizer.resize_pil(plan.narrow, plan.scaled, plan.rows)
        return plan.colours.tobytes("raw", "RGB")

    def _plan(self, width: int, height: int, frame: Frame, interpolation: Interpolation) -> _Plan:
        left, top, right, bottom = _within(frame, width, height)
        algorithm = self._algorithms[interpolation]
        memory = bytearray(frame.width * frame.height * 4)
        return _Plan(
            narrow=Image.new(_FOUR_BYTES, (frame.width, height)),
            columns=simd.ResizeOptions(resize_alg=algorithm, crop_box=simd.CropBox(left, 0, right - left, height)),
            scaled=_image_over(memory, _FOUR_BYTES, frame.width, frame.height),
            rows=simd.ResizeOptions(resize_alg=algorithm, crop_box=simd.CropBox(0, top, frame.width, bottom - top)),
            colours=_image_over(memory, "RGBX", frame.width, frame.height),
        )


class _PerThread(threading.local):
    def __init__(self) -> None:
        self._scaler: _Scaler | None = None

    def scaler(self) -> _Scaler:
        if self._scaler is None:
            self._scaler = _Scaler()
        return self._scaler


_per_thread = _PerThread()
