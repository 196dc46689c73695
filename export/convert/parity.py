"""The same pixels through the framework and through ONNX Runtime, and how far they may differ."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from export.errors import BeyondTolerance

IMAGES = 16

#: Largest difference of one probability. Float32 on two runtimes differs by about 1e-6; a wrong
#: channel order, padding or epsilon by 1e-2 and more.  1e-4 is also what clients are promised.
TOLERANCE = 1e-4

#: Of the range that the answers to different images span. An untrained network gives nearly the
#: same answer to every image, so that 1e-4 alone would let anything pass.
SPREAD_TOLERANCE = 1e-2

#: Below this two runtimes can't be told apart in float32.
NOISE = 2e-6

#: The first is a single image, so that both ends of a batch's sizes are tried.
BATCHES = (1, 3, 4, 4, 4)

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Answer = Callable[[Pixels], Floats]


@dataclass(frozen=True, slots=True)
class Parity:
    images: int
    max_abs_difference: float
    top1_agreement: float


def golden(height: int, width: int) -> Pixels:
    """uint8 [height,width,3] that looks different in every channel, mirrored and turned.

    Two ramps in coarse steps, a disc and a bar: structure at several scales that still compresses to a
    few kilobytes.
    """
    y, x = _grid(height, width)
    red = 17 * np.floor(16 * x)
    green = np.where(np.hypot(y - 0.4, x - 0.6) < 0.25, 230.0, 18 * np.floor(7 * y))
    blue = np.where((x > 0.1) & (x < 0.3), 200.0, 40.0)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def sample_images(height: int, width: int) -> Pixels:
    """uint8 [16,height,width,3]: the golden image, then ramps, blobs and noise; the same at each call."""
    random = np.random.Generator(np.random.PCG64(2))
    makers = [(_ramps, _blobs, _noise)[index % 3] for index in range(IMAGES - 1)]
    return np.stack([golden(height, width), *(make(random, height, width) for make in makers)])


def _grid(height: int, width: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    y, x = np.mgrid[0:height, 0:width]
    return y / height, x / width


def _ramps(random: np.random.Generator, height: int, width: int) -> Pixels:
    """In each channel a plane wave of its own direction and length."""
    y, x = _grid(height, width)
    waves = [np.sin(6.3 * (a * x + b * y) + c) for a, b, c in random.uniform(-4, 4, (3, 3))]
    return (127.5 + 127.4 * np.stack(waves, axis=-1)).astype(np.uint8)


def _blobs(random: np.random.Generator, height: int, width: int) -> Pixels:
    """Discs of one colour each, one upon the other."""
    y, x = _grid(height, width)
    image = np.full((height, width, 3), random.integers(0, 256, 3), np.uint8)
    for centre_y, centre_x, radius in random.uniform(0, 1, (12, 3)):
        image[np.hypot(y - centre_y, x - centre_x) < radius / 4] = random.integers(0, 256, 3)
    return image


def _noise(random: np.random.Generator, height: int, width: int) -> Pixels:
    """Grain about one colour."""
    colour = random.uniform(60, 200, 3)
    return (colour + random.normal(0, 30, (height, width, 3))).clip(0, 255).astype(np.uint8)


def answers(answer: Answer, images: Pixels) -> Floats:
    """`answer` for all images, in batches of several sizes."""
    return np.concatenate([answer(batch) for batch in _batches(images)])


def _batches(images: Pixels) -> Iterator[Pixels]:
    assert sum(BATCHES) == len(images)
    start = 0
    for size in BATCHES:
        yield images[start : start + size]
        start += size


def compare(expected: Floats, actual: Floats, *, tolerance: float = TOLERANCE) -> Parity:
    """Both [images,classes]. Raises BeyondTolerance where they differ by more than is allowed."""
    if expected.shape != actual.shape:
        raise BeyondTolerance(f"the shapes differ: {expected.shape} and {actual.shape}; nothing was written")
    parity = Parity(
        images=len(expected),
        max_abs_difference=float(np.abs(expected - actual).max()),
        top1_agreement=float((expected.argmax(axis=1) == actual.argmax(axis=1)).mean()),
    )
    allowed = _allowed(expected, tolerance)
    # ExportReport so that a difference which is not a number fails as well.
    if not parity.max_abs_difference <= allowed:
        raise BeyondTolerance(
            f"ONNX Runtime differs from the original by {parity.max_abs_difference:.1e}, {allowed:.1e} is"
            f" allowed; top-1 agreement {parity.top1_agreement:.0%}; nothing was written"
        )
    return parity


def _allowed(expected: Floats, tolerance: float) -> float:
    spread = float(np.ptp(expected, axis=0).max())
    return min(tolerance, max(NOISE, SPREAD_TOLERANCE * spread))
