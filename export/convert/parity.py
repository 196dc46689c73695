"""Compares the artefact with the owner's model on the same images, alone and in batches."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from export.errors import BeyondTolerance, NotAClassifier

IMAGES = 16

#: Largest difference of one probability. Float32 on two runtimes differs by about 1e-6; a wrong channel order, padding
#: or epsilon by 1e-2 and more. 1e-4 is also what clients are promised.
TOLERANCE = 1e-4

#: Of the range that the answers to different images span. An untrained network gives nearly the same answer to every
#: image, so that 1e-4 alone would let anything pass.
SPREAD_TOLERANCE = 1e-2

#: Below this, float32 cannot tell two runtimes apart.
NOISE = 2e-6

#: Images 1 to 6 also run alone: in the batches below they have neighbours.
ALONE = slice(1, 7)

#: The first is a single image, so that both ends of a batch's sizes are tried.
BATCHES = (1, 3, 4, 8)

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Answer = Callable[[Pixels], Floats]


@dataclass(frozen=True, slots=True)
class Parity:
    """`top1_agreement` is None for values, which have no first class. `constant`: all images get one answer."""

    images: int
    max_abs_difference: float
    top1_agreement: float | None
    constant: bool = False

    def __str__(self) -> str:
        difference = f"largest difference {self.max_abs_difference:.1e} over {self.images} images, alone and in batches"
        if self.top1_agreement is None:
            return difference
        return f"{difference}, same top-1 on {round(self.top1_agreement * self.images)}"

    def as_json(self) -> dict[str, float | None]:
        found: dict[str, float | None] = asdict(self)
        return found


def golden(height: int, width: int, channels: int = 3) -> Pixels:
    """uint8 [height,width,channels] that looks different in every channel, mirrored and turned.

    Two ramps in coarse steps, a disc and a bar: structure at several scales that still compresses to a
    few kilobytes.
    """
    y, x = _grid(height, width)
    red = 17 * np.floor(16 * x)
    green = np.where(np.hypot(y - 0.4, x - 0.6) < 0.25, 230.0, 18 * np.floor(7 * y))
    blue = np.where((x > 0.1) & (x < 0.3), 200.0, 40.0)
    alpha = 255 - 15 * np.floor(6 * y)
    layers = {1: [green], 3: [red, green, blue], 4: [red, green, blue, alpha]}[channels]
    return np.stack(layers, axis=-1).astype(np.uint8)


def sample_images(height: int, width: int, channels: int = 3) -> Pixels:
    """uint8 [16,height,width,channels]: the golden image, then ramps, blobs and noise; the same at each call."""
    random = np.random.Generator(np.random.PCG64(2))
    makers = [(_ramps, _blobs, _noise)[index % 3] for index in range(IMAGES - 1)]
    made = [make(random, height, width, channels) for make in makers]
    return np.stack([golden(height, width, channels), *made])


def _grid(height: int, width: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    y, x = np.mgrid[0:height, 0:width]
    return y / height, x / width


def _ramps(random: np.random.Generator, height: int, width: int, channels: int) -> Pixels:
    """In each channel a plane wave of its own direction and length."""
    y, x = _grid(height, width)
    waves = [np.sin(6.3 * (a * x + b * y) + c) for a, b, c in random.uniform(-4, 4, (channels, 3))]
    return (127.5 + 127.4 * np.stack(waves, axis=-1)).astype(np.uint8)


def _blobs(random: np.random.Generator, height: int, width: int, channels: int) -> Pixels:
    """Discs of one colour each, one upon the other."""
    y, x = _grid(height, width)
    image = np.full((height, width, channels), random.integers(0, 256, channels), np.uint8)
    for centre_y, centre_x, radius in random.uniform(0, 1, (12, 3)):
        image[np.hypot(y - centre_y, x - centre_x) < radius / 4] = random.integers(0, 256, channels)
    return image


def _noise(random: np.random.Generator, height: int, width: int, channels: int) -> Pixels:
    """Grain about one colour."""
    colour = random.uniform(60, 200, channels)
    return (colour + random.normal(0, 30, (height, width, channels))).clip(0, 255).astype(np.uint8)


def answers(answer: Answer, images: Pixels) -> Floats:
    """`answer` for all images, in batches of several sizes."""
    return np.concatenate([_rows(answer(batch), len(batch)) for batch in _batches(images)])


def answers_alone(answer: Answer, images: Pixels) -> Floats:
    """`answer` for some of the images, one at a time."""
    return np.concatenate([_rows(answer(image[np.newaxis]), 1) for image in images[ALONE]])


def _rows(given: Floats, images: int) -> Floats:
    """What the model gave; raises NotAClassifier if it is not one row per image."""
    if given.ndim == 0 or len(given) != images:
        raise NotAClassifier(
            f"the model answers {images} image{'s' if images > 1 else ''} with {len(np.atleast_1d(given))} row(s):"
            " one row per image is needed"
        )
    return given


def _batches(images: Pixels) -> Iterator[Pixels]:
    assert sum(BATCHES) == len(images)
    start = 0
    for size in BATCHES:
        yield images[start : start + size]
        start += size


def check_independent(
    in_batches: Floats, alone: Floats, again: Callable[[], Floats], *, tolerance: float = TOLERANCE
) -> None:
    """Raises NotAClassifier if the model's answer to an image depends on the other images of the batch, or on chance.

    `again` gives the answers to the images alone a second time.
    """
    allowed = tolerance * magnitude(in_batches)
    difference = float(np.abs(in_batches[ALONE] - alone).max())
    # Written so that a difference which is not a number fails as well.
    if not difference <= allowed:
        if not (chance := float(np.abs(again() - alone).max())) <= allowed:
            raise NotAClassifier(
                f"the model answers the same image differently each time (by up to {chance:.1e}): it draws random"
                " numbers, as dropout and noise do in training. Save the model for inference (training=False)"
            )
        raise NotAClassifier(
            "the model's answer to an image depends on the other images in its batch (by up to"
            f" {difference:.1e}), so no server can batch it. PyTorch: call model.eval() before torch.onnx.export;"
            " ONNX Runtime's dynamic quantisation: quantise statically; Keras: save the model for inference"
        )


def compare(expected: Floats, actual: Floats, *, tolerance: float = TOLERANCE, ranked: bool = True) -> Parity:
    """Both [images,outputs]; `ranked`: the outputs are classes. Raises BeyondTolerance if they differ by too much."""
    if expected.shape != actual.shape:
        raise BeyondTolerance(f"the shapes differ: {expected.shape} and {actual.shape}; nothing was written")
    same = (expected.argmax(axis=1) == actual.argmax(axis=1)).mean()
    parity = Parity(
        images=len(expected),
        max_abs_difference=float(np.abs(expected - actual).max()),
        top1_agreement=float(same) if ranked else None,
        constant=bool(np.ptp(expected, axis=0).max() <= NOISE * magnitude(expected)),
    )
    allowed = _allowed(expected, tolerance)
    if not parity.max_abs_difference <= allowed:
        raise BeyondTolerance(
            f"the converted model differs from the original by {parity.max_abs_difference:.1e}, and {allowed:.1e} is"
            f" allowed{'' if not ranked else f' (same top-1 on {same:.0%} of the images)'}; nothing was written."
            " --tolerance P accepts more, for a model that computes in fewer than 32 bits"
        )
    return parity


def magnitude(expected: Floats) -> float:
    """1 for probabilities; the largest number for values that are larger."""
    return max(1.0, float(np.abs(expected).max()))


def _allowed(expected: Floats, tolerance: float) -> float:
    spread = float(np.ptp(expected, axis=0).max())
    return min(tolerance * magnitude(expected), max(NOISE * magnitude(expected), SPREAD_TOLERANCE * spread))
