"""What is no image, half an image or far too much of one is refused, each with its own status and advice."""

import importlib.util
import re

import pytest
from PIL import Image, features

from ingest.errors import DamagedImage, Problem, TooManyPixels, UnsupportedMediaType
from ingest.images import pillow
from ingest.images.cost import _ESTIMATES, FREE, estimate
from ingest.images.decode import EncodedImage, format_of, to_pixels
from ingest.images.formats import FORMATS, SUPPORTED, TITLES, ImageFormat
from tests.support.image_files import jpeg_files
from tests.support.images import bomb, encoded, model, noisy_scene, one_of_each, scene

MOST = 50_000_000


@pytest.mark.parametrize("name", TITLES)
def test_every_format_has_a_sample_an_estimate_and_a_plugin(name: str) -> None:
    """Without an estimate, each of its files would be damaged. Without a sample, no test here would decode one."""
    samples = [data for data in one_of_each().values() if format_of(data) == name]
    assert samples, f"add {name} to one_of_each in tests/support/images.py"
    is_estimated = name in _ESTIMATES and estimate(samples[0], name) != FREE
    assert name == "JPEG" or is_estimated, f"estimate the cost of {name} in ingest/images/cost.py"
    package, _, plugin = Image.OPEN[name][0].__module__.rpartition(".")
    assert package != "PIL" or hasattr(pillow, plugin), f"import {plugin} in ingest/images/pillow.py"


@pytest.mark.parametrize("kind", ["progressive", "baseline"])
def test_a_jpeg_of_endless_scans_is_damaged(kind: str) -> None:
    """Each scan makes the decoder walk over all pixels, and costs the sender a few bytes."""
    data = encoded(scene(), "JPEG", progressive=kind == "progressive")
    if kind == "baseline":
        # The first scan is said to hold one of the three components.
        start = data.index(b"\xff\xda")
        data = data[: start + 2] + b"\0\x08\x01\x01\0\0\x3f\0" + data[start + 14 :]
    last = data.rindex(b"\xff\xda")
    with pytest.raises(DamagedImage, match="scans"):
        to_pixels(data[:-2] + data[last:-2] * 101 + data[-2:], model(), MOST)


@pytest.mark.parametrize("data", [b"hello world", b"%PDF-1.7", b'{"image": 1}', b"<svg xmlns=''/>", b"\0" * 100])
def test_what_is_no_image_is_unsupported(data: bytes) -> None:
    """415, and the detail names the formats that are taken."""
    with pytest.raises(UnsupportedMediaType, match=re.escape(SUPPORTED)):
        to_pixels(data, model(), MOST)


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "PCX", "JPEG2000"])
def test_a_format_that_only_pillow_knows_is_unsupported(kind: str) -> None:
    """Pillow opens forty formats; the seldom used ones are where its security holes were."""
    if kind == "JPEG2000" and not features.check("jpg_2000"):
        return
    with pytest.raises(UnsupportedMediaType):
        to_pixels(encoded(scene(), kind), model(), MOST)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_32_bit_samples_are_unsupported(mode: str) -> None:
    """Nobody knows which value is white: a clear refusal instead of a wrong image."""
    with pytest.raises(UnsupportedMediaType, match="8 or 16 bits"):
        to_pixels(encoded(scene().convert("L").convert(mode), "TIFF"), model(), MOST)


def test_an_empty_file_is_damaged() -> None:
    """422, since a file was sent, but nothing is in it."""
    with pytest.raises(DamagedImage, match="empty"):
        to_pixels(b"", model(), MOST)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("image_format", FORMATS, ids=list(TITLES))
def test_half_a_file_is_damaged(image_format: ImageFormat, part: float) -> None:
    """A broken upload is refused, never classified. The message has no words of a decoder."""
    data = encoded(noisy_scene(), image_format.name)
    what = r"(ends .*|is damaged or incomplete|is damaged or of a rare kind)"
    with pytest.raises(DamagedImage) as caught:
        to_pixels(data[: int(len(data) * part)], model(), MOST)
    assert re.fullmatch(
        rf"The {image_format.title} file {what}\. Send the whole file(, or a PNG)?\.", caught.value.detail
    )


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
@pytest.mark.parametrize("size", range(1, 40))
def test_the_first_bytes_of_a_container_are_damaged(kind: str, size: int) -> None:
    """Whichever field of its header ends early. What comes before the codec's name may belong to either format."""
    what = f"The {'HEIC or AVIF' if size < 12 else TITLES[kind]} file .*" if size > 3 else "The data ends too early .*"
    with pytest.raises(DamagedImage, match=f"{what} Send the whole file"):
        to_pixels(encoded(scene(), kind)[:size], model(), MOST)


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0", b"B", b"R", b"\xff"])
def test_so_little_data_is_called_no_format(data: bytes) -> None:
    """One zero byte was called a HEIC or AVIF file."""
    with pytest.raises(DamagedImage, match=r"^The data ends too early to tell its format"):
        format_of(data)


@pytest.mark.parametrize("brand", [b"mp42", b"qt  ", b"crx ", b"M4A ", b"j2ki"])
def test_another_codec_in_the_container_is_unsupported(brand: bytes) -> None:
    """Videos, sound and camera raw files open with the same box."""
    data = bytearray(encoded(scene(), "AVIF"))
    for own in (b"avif", b"avis"):
        data[:64] = data[:64].replace(own, brand)
    with pytest.raises(UnsupportedMediaType, match="HEIC, AVIF"):
        to_pixels(bytes(data), model(), MOST)


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_a_brand_among_the_compatible_ones_counts(kind: str) -> None:
    """Some encoders name the container first."""
    data = bytearray(encoded(scene(), kind))
    own = bytes(data[8:12])
    data[8:12] = b"mif1"
    assert own in data[16:40]
    assert to_pixels(bytes(data), model(), MOST) == to_pixels(encoded(scene(), kind), model(), MOST)


def test_a_container_of_endless_boxes_is_damaged() -> None:
    """To walk over millions of them would take seconds of the event loop."""
    data = encoded(scene(), "AVIF")
    size = int.from_bytes(data[:4])
    with pytest.raises(DamagedImage, match="boxes"):
        EncodedImage(data[:size] + b"\0\0\0\x08free" * 5000 + data[size:]).cost(model(), MOST)


def test_heic_without_its_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """415, whose detail is for the client and for the operator of the service."""
    data = encoded(scene(), "HEIF")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UnsupportedMediaType, match=r"Send a JPEG.*pip install pillow-heif"):
        to_pixels(data, model(), MOST)


@pytest.mark.parametrize("size", [(500, 375), (2000, 1500)])
@pytest.mark.parametrize("missing", [1, 2, 3, 10, 1000])
def test_a_jpeg_without_its_last_bytes_is_damaged(size: tuple[int, int], missing: int) -> None:
    """Also where it is decoded at a fraction of its size."""
    with pytest.raises(DamagedImage):
        to_pixels(encoded(noisy_scene(*size), "JPEG")[:-missing], model(), MOST)


def test_a_truncated_jpeg_that_was_given_an_end_is_damaged() -> None:
    """Half of the pixels would be grey; Pillow would not have said so."""
    data = encoded(noisy_scene(), "JPEG")
    with pytest.raises(DamagedImage):
        to_pixels(data[: len(data) // 2] + b"\xff\xd9", model(), MOST)


def test_padding_does_not_hide_that_the_rest_is_missing() -> None:
    """The end may come where the next restart interval should begin. What follows would be grey."""
    data = encoded(noisy_scene(), "JPEG", restart_marker_blocks=8)
    restart = data.index(b"\xff\xd3", len(data) // 2)
    with pytest.raises(DamagedImage):
        to_pixels(data[:restart] + bytes(20) + b"\xff\xd9", model(), MOST)
    with pytest.raises(DamagedImage):
        to_pixels(data[:restart] + bytes(20) + data[restart : restart + 2000] + b"\xff\xd9", model(), MOST)


def test_segments_between_scans_hide_no_scans() -> None:
    """They would not count otherwise, and each one costs a few bytes."""
    with pytest.raises(DamagedImage, match="segments"):
        to_pixels(jpeg_files.with_hidden_scans(64, 5000, 200), model(), MOST)


@pytest.mark.parametrize("kind", TITLES)
def test_a_bomb_is_refused_by_its_header(kind: str) -> None:
    """413 before any pixel is decoded: the files are too small to hold what they promise."""
    data = bomb(kind)
    assert len(data) < 100_000
    with pytest.raises(TooManyPixels, match="Scale it down"):
        to_pixels(data, model(), MOST)


def test_the_limit_of_pixels_is_exact() -> None:
    """Width times height may reach the limit, and not pass it."""
    for kind in ("JPEG", "PNG"):
        assert to_pixels(encoded(scene(100, 50), kind), model(), 5000)
        with pytest.raises(TooManyPixels, match="100 x 50"):
            to_pixels(encoded(scene(100, 50), kind), model(), 4999)


def test_a_damaged_file_writes_nothing_to_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff would write a line for each bad row, straight to the error output."""
    data = bytearray(encoded(noisy_scene().convert("1"), "TIFF", compression="group4"))
    for offset in range(1000, len(data) - 1000, 50):
        data[offset] ^= 0x55
    assert to_pixels(bytes(data), model(), MOST)  # bad rows of a fax are bridged, as in every viewer
    assert capfd.readouterr() == ("", "")


def test_every_error_says_what_to_do() -> None:
    """A client that reads only the detail knows what is wrong, and what to send instead."""
    for data in (b"", b"hello", encoded(scene(), "PNG")[:200], bomb("PNG")):
        with pytest.raises(Problem) as caught:
            to_pixels(data, model(), MOST)
        assert len(caught.value.detail.split(". ")) >= 2
        assert "0x" not in caught.value.detail
