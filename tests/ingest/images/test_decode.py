"""Images of every format become the same pixels: upright, opaque, of the model's size."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from ingest.images import resampling
from ingest.images.decode import EncodedImage, to_pixels
from ingest.images.jpeg import read_header
from stream.model import Interpolation, ModelDescription
from tests.support.images import (
    encoded,
    grey_jpeg_of_odd_sampling,
    model,
    noisy_scene,
    one_of_each,
    run_length_bmp,
    scene,
    stored_turned,
)

MOST = 50_000_000


def decoded(data: bytes, wanted: ModelDescription | None = None) -> npt.NDArray[np.int16]:
    wanted = wanted or model()
    pixels = to_pixels(data, wanted, MOST)
    assert len(pixels) == wanted.input_bytes
    return np.frombuffer(pixels, np.uint8).reshape(wanted.height, wanted.width, 3).astype(np.int16)


def expected(image: Image.Image, wanted: ModelDescription | None = None) -> npt.NDArray[np.int16]:
    """What the definition says, step by step, by Pillow alone."""
    wanted = wanted or model()
    kind = Image.Resampling[wanted.resize.interpolation.upper()]
    image = image.convert("RGB")
    if wanted.resize.mode == "crop":
        assert wanted.resize.shorter_side is not None
        side, short = wanted.resize.shorter_side, min(image.size)
        width, height = side * image.width // short, side * image.height // short
        left, top = round((width - wanted.width) / 2), round((height - wanted.height) / 2)
        image = image.resize((width, height), kind)
        image = image.crop((left, top, left + wanted.width, top + wanted.height))
    else:
        image = image.resize((wanted.width, wanted.height), kind)
    return np.asarray(image).astype(np.int16)


def distance(one: npt.NDArray[np.int16], other: npt.NDArray[np.int16]) -> float:
    return float(np.abs(one - other).mean())


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_a_lossless_format_gives_the_scaled_image(kind: str) -> None:
    """PNG, BMP and TIFF carry the very pixels."""
    assert distance(decoded(encoded(scene(), kind)), expected(scene())) < 0.3


@pytest.mark.parametrize(("kind", "near"), [("JPEG", 2.0), ("WEBP", 3.0), ("HEIF", 2.0), ("AVIF", 2.0), ("GIF", 8.0)])
def test_a_lossy_format_comes_near_the_scaled_image(kind: str, near: float) -> None:
    """JPEG and WebP lose little, GIF has 256 colours."""
    assert distance(decoded(encoded(scene(), kind)), expected(scene())) < near


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(160, 120), (120, 160), (47, 200), (30, 20)])
def test_squash_is_exactly_pillows_resize(interpolation: Interpolation, size: tuple[int, int]) -> None:
    """An image that its format keeps exactly gives exactly the pixels that a script with Pillow would give."""
    wanted = model(48, 48, interpolation=interpolation)
    image = noisy_scene(*size)
    assert np.array_equal(decoded(encoded(image, "PNG"), wanted), expected(image, wanted))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("shorter_side", [60, 48, 20])
@pytest.mark.parametrize("size", [(160, 120), (120, 160), (150, 150), (400, 100), (47, 200), (30, 20)])
def test_crop_is_resize_and_cut_in_one_step(
    interpolation: Interpolation, shorter_side: int, size: tuple[int, int]
) -> None:
    """The same as scaling the shorter side and cutting the centre, up to the rounding of one more pass."""
    wanted = model(48, 48, shorter_side=shorter_side, interpolation=interpolation)
    image = noisy_scene(*size)
    in_two_steps = expected(image, model(48, 48, shorter_side=max(48, shorter_side), interpolation=interpolation))
    assert distance(decoded(encoded(image, "PNG"), wanted), in_two_steps) < 0.3


def test_a_crop_of_an_oblong_input_never_leaves_the_image() -> None:
    """Where the shorter side is too short for the input, the image is scaled until it covers it."""
    pixels = decoded(encoded(Image.new("RGB", (100, 100), (9, 9, 9)), "PNG"), model(64, 48, shorter_side=50))
    assert pixels.min() == pixels.max() == 9


@pytest.mark.parametrize("scaler", ["fast", "pillow"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("shorter_side", [None, 60])
def test_both_scalers_give_the_same(
    monkeypatch: pytest.MonkeyPatch, scaler: str, interpolation: Interpolation, shorter_side: int | None
) -> None:
    """A small JPEG gives the pixels of Pillow's full decode and resize, with the fast scaler's wheel and without."""
    if scaler == "pillow":
        monkeypatch.setattr(resampling, "simd", None)
    wanted = model(48, 48, shorter_side=shorter_side, interpolation=interpolation)
    for size in ((90, 80), (80, 95), (40, 30)):
        data = encoded(noisy_scene(*size), "JPEG", quality=90)
        ours, theirs = decoded(data, wanted), expected(Image.open(io.BytesIO(data)), wanted)
        assert distance(ours, theirs) < 0.03
        assert np.abs(ours - theirs).max() <= 2


def test_a_crop_keeps_the_proportions_and_the_centre() -> None:
    """A wide image loses its ends, not its shape: red in the middle is halfway."""
    pixels = decoded(encoded(scene(400, 100), "PNG"), model(64, 64, shorter_side=64))
    assert 90 < pixels[:, 0, 0].mean() < 100
    assert 155 < pixels[:, -1, 0].mean() < 165


@pytest.mark.parametrize("shorter_side", [None, 60])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_image(kind: str, orientation: int, shorter_side: int | None) -> None:
    """However the camera was held, the model sees the scene upright; large JPEGs are scaled while decoding."""
    wanted = model(64, 48, shorter_side=shorter_side)
    image = scene(640, 480)
    assert distance(decoded(stored_turned(image, orientation, kind), wanted), expected(image, wanted)) < 1.5


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_exif_alone_does_not_turn_a_container(kind: str) -> None:
    """ISO 23008-12: only the container's own orientation counts. Cameras write both, and one turn is enough."""
    turned = stored_turned(scene(), 6, kind)
    angle = turned.index(b"irot") + 4
    assert turned[angle] in (1, 3)
    upright = turned[:angle] + b"\0" + turned[angle + 1 :]
    stored = scene().transpose(Image.Transpose.ROTATE_90)
    assert distance(decoded(upright), expected(stored)) < 2


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_damaged_metadata_of_a_container_costs_nothing(kind: str) -> None:
    """EXIF that no reader understands, and XMP, next to an orientation that counts."""
    exif = Image.Exif()
    exif[0x0112], exif[0x0131] = 6, "a camera"
    stored = scene().transpose(Image.Transpose.ROTATE_90)
    data = encoded(stored, kind, exif=exif.tobytes(), xmp=b"<x:xmpmeta tiff:Orientation='3'/>", quality=95)
    assert b"irot" in data
    directory = data.index(b"MM\0*") + 4
    damaged = data[:directory] + b"\xff" * 4 + data[directory + 4 :]
    assert distance(decoded(damaged), expected(scene())) < 2


@pytest.mark.parametrize("alpha", [False, True])
def test_a_heic_of_tiles_is_put_together(alpha: bool) -> None:
    """As phones store it, in tiles of 512 x 512."""
    image = scene(700, 600)
    if alpha:
        image.putalpha(255)
    assert distance(decoded(encoded(image, "HEIF", grid_tile_size=512)), expected(image.convert("RGB"))) < 2


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_grey_and_transparent_containers_are_understood(kind: str) -> None:
    """Grey stays grey, and transparent pixels lie on white."""
    grey = scene().convert("L")
    assert distance(decoded(encoded(grey, kind)), expected(grey)) < 2
    clear = Image.new("RGBA", (160, 120), (0, 0, 0, 0))
    assert decoded(encoded(clear, kind)).min() > 250


def test_damaged_exif_turns_nothing() -> None:
    """Metadata that makes no sense does not cost the client the prediction."""
    data = encoded(scene(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", quality=95)
    assert distance(decoded(data), expected(scene())) < 2


@pytest.mark.parametrize("size", [(500, 375), (501, 377), (2003, 1501), (1200, 4001)])
@pytest.mark.parametrize("shorter_side", [None, 256])
def test_scaled_decoding_changes_little(size: tuple[int, int], shorter_side: int | None) -> None:
    """A large JPEG is decoded at a fraction of its size; the pixels stay those of the full decode."""
    wanted = model(224, 224, shorter_side=shorter_side)
    data = encoded(noisy_scene(*size), "JPEG", quality=90)
    difference = np.abs(decoded(data, wanted) - expected(Image.open(io.BytesIO(data)), wanted))
    assert difference.mean() < 0.8  # grain is the hardest; natural images change by 0.2
    assert difference.max() < 16


def test_nearest_takes_pixels_of_the_full_jpeg() -> None:
    """A filter that picks single pixels must not pick them from a smoothed image."""
    wanted = model(interpolation="nearest")
    data = encoded(noisy_scene(1600, 1200), "JPEG", quality=90)
    assert np.array_equal(decoded(data, wanted), expected(Image.open(io.BytesIO(data)), wanted))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_its_first_frame(kind: str) -> None:
    """What moves is classified by what it shows first."""
    red, blue = Image.new("RGB", (40, 30), (255, 0, 0)), Image.new("RGB", (40, 30), (0, 0, 255))
    pixels = decoded(encoded(red, kind, save_all=True, append_images=[blue]))
    assert pixels[..., 0].mean() > 240
    assert pixels[..., 2].mean() < 15


def test_a_run_length_encoded_bmp_is_read() -> None:
    """BMP stores its rows from below: the first run is the lowest row."""
    pixels = decoded(run_length_bmp(), model(40, 30, interpolation="nearest"))
    assert pixels[:, 0, 0].tolist() == list(range(29, -1, -1))


def test_the_name_of_no_format_matters_only_the_bytes() -> None:
    """bytes, bytearray and memoryview of a file are the same file."""
    data = encoded(scene(), "JPEG")
    assert to_pixels(data, model(), MOST) == to_pixels(bytearray(data), model(), MOST)
    assert to_pixels(data, model(), MOST) == to_pixels(memoryview(data), model(), MOST)


def test_a_jpeg_with_padding_before_its_end_is_taken() -> None:
    """Some cameras pad the pixel data; every viewer shows such an image."""
    data = encoded(scene(), "JPEG", quality=95)
    assert distance(decoded(data[:-2] + bytes(20) + data[-2:]), expected(scene())) < 2


def test_a_jpeg_with_something_behind_its_end_is_taken() -> None:
    """Phones append depth maps and films to an image."""
    data = encoded(scene(), "JPEG", quality=95)
    assert distance(decoded(data + b"a film" * 1000), expected(scene())) < 2


def test_an_unusual_subsampling_is_left_to_pillow() -> None:
    """The fast decoder names six ways to sample colours; a JPEG of another way is decoded all the same."""
    data = grey_jpeg_of_odd_sampling()
    assert (header := read_header(data)) is not None
    assert header.size is None
    assert set(decoded(data).ravel().tolist()) == {128}


def test_an_image_of_one_pixel_fills_the_input() -> None:
    """One pixel is an image."""
    for shorter_side in (None, 100):
        assert decoded(encoded(Image.new("RGB", (1, 1), (9, 9, 9)), "PNG"), model(shorter_side=shorter_side)).max() == 9


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1)])
def test_a_strip_is_cropped_without_being_scaled_in_full(size: tuple[int, int]) -> None:
    """Scaled by its shorter side this strip would have more than a gigabyte."""
    pixels = decoded(encoded(Image.new("RGB", size, (9, 9, 9)), "PNG"), model(224, 224, shorter_side=256))
    assert pixels.min() == pixels.max() == 9


def test_many_threads_decode_at_once() -> None:
    """Threads share nothing that shows: the pixels are those of one thread alone."""
    files = [*one_of_each().values(), encoded(noisy_scene(), "JPEG"), encoded(noisy_scene(1600, 1200), "JPEG")]
    alone = [to_pixels(data, model(), MOST) for data in files]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(lambda data: to_pixels(data, model(), MOST), files)) == alone


@pytest.mark.parametrize(
    ("data", "quick"),
    [
        (encoded(scene(), "JPEG"), True),
        (encoded(scene(), "JPEG", progressive=True), False),
        (encoded(scene(), "PNG"), False),
        (encoded(Image.new("RGB", (4000, 3000)), "JPEG"), False),
        (encoded(noisy_scene(800, 600), "JPEG", quality=100), False),
        (encoded(Image.new("RGB", (8, 65_500)), "JPEG"), False),
    ],
    ids=["small image", "many scans", "another format", "many pixels", "many bytes", "many rows"],
)
def test_quick_is_what_takes_a_few_milliseconds_whatever_made_it(data: bytes, quick: bool) -> None:
    """A scan for its bytes and its pixels; many scans, or another decoder, may take any time."""
    assert EncodedImage(data).is_quick == quick
