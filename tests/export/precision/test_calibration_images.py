"""CalibrationImages for the calibration: seen as the service sees them, half held out, bad ones left out."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.artefact.description import Resize
from export.errors import ImagesUnusable
from export.precision import calibration_images
from ingest.images.decode import to_pixels
from tests.support import images as test_images
from tests.support.models import tiny_onnx

SQUASH = Resize("squash", None, "bicubic")


@pytest.mark.parametrize(("width", "height"), [(160, 120), (50, 333), (64, 48), (20, 15), (333, 41)])
@pytest.mark.parametrize("shorter_side", [None, 72])
def test_an_image_becomes_what_the_service_makes_of_it(
    tmp_path: Path, width: int, height: int, shorter_side: int | None
) -> None:
    """Else the ranges would be those of other pixels."""
    test_images.scene(width, height).save(tmp_path / "00.png")
    for index in range(1, calibration_images.MIN_IMAGES):
        test_images.scene(100 + index, 80 + 3 * index).save(tmp_path / f"{index:02}.png")
    resize = SQUASH if shorter_side is None else Resize("crop", shorter_side, "bicubic")
    found = calibration_images.read(tmp_path, height=48, width=64, resize=resize)
    served = to_pixels((tmp_path / "00.png").read_bytes(), test_images.model(shorter_side=shorter_side), 10**6)
    np.testing.assert_array_equal(found.calibration[0], np.frombuffer(served, np.uint8).reshape(48, 64, 3))


def test_every_kind_of_file_is_seen_as_the_service_sees_it(tmp_path: Path) -> None:
    """Turned by EXIF, transparent on white, 16 bits scaled."""
    turned = test_images.stored_turned(test_images.scene(), 6, "PNG")
    alpha = test_images.scene()
    alpha.putalpha(alpha.convert("L"))
    deep = test_images.png_of_16_bits(np.asarray(test_images.scene().convert("L"), np.uint16) * 257)
    files = [turned, test_images.encoded(alpha, "PNG"), deep]
    files += [test_images.encoded(test_images.scene(100 + n, 80), "PNG") for n in range(calibration_images.MIN_IMAGES)]
    for index, data in enumerate(files):
        (tmp_path / f"{index:02}.png").write_bytes(data)
    found = calibration_images.read(tmp_path, height=48, width=64, resize=SQUASH)
    seen = [found.calibration[0], found.held_out[0], found.calibration[1]]
    for data, pixels in zip(files, seen, strict=False):
        served = np.frombuffer(to_pixels(data, test_images.model(), 10**6), np.uint8).reshape(48, 64, 3)
        # A turned one is scaled along the other axis first, and rounded between the two.
        np.testing.assert_allclose(pixels.astype(int), served, atol=4)
        assert np.abs(pixels.astype(int) - served).mean() < 0.1


def test_half_of_them_are_held_out(tmp_path: Path) -> None:
    """None is in both halves, not even under another name; damaged files are counted and left out."""
    folder = tiny_onnx.images(tmp_path / "photos", 20)
    for copied in ("003", "004", "005"):
        (folder / f"z{copied}.png").write_bytes((folder / f"{copied}.png").read_bytes())
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image either")
    (folder / "more").mkdir()
    test_images.scene().save(folder / "more" / "UPPER.JPG")
    reported = []
    found = calibration_images.read(
        folder, height=8, width=8, resize=SQUASH, on_progress=lambda *counts: reported.append(counts)
    )
    assert (len(found.calibration), len(found.held_out), found.skipped) == (11, 10, 1)
    both = {pixels.tobytes() for half in (found.calibration, found.held_out) for pixels in half}
    assert len(both) == 21
    assert reported[-1] == (25, 25)


def test_of_very_many_an_even_selection_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first to the last of the list."""
    monkeypatch.setattr(calibration_images, "MAX_IMAGES", 20)
    folder = tiny_onnx.images(tmp_path / "photos", 60, size=8)
    found = calibration_images.read(folder, height=8, width=8, resize=SQUASH)
    read = [pixels for pair in zip(found.calibration, found.held_out, strict=True) for pixels in pair]
    wanted = [np.asarray(Image.open(folder / f"{number:03}.png")) for number in range(0, 60, 3)]
    np.testing.assert_array_equal(read, wanted)


def test_too_few_are_refused(tmp_path: Path) -> None:
    """No folder, an empty one, few images, many copies of few."""
    with pytest.raises(ImagesUnusable, match="is not a folder: pass --calibrate"):
        calibration_images.find(tmp_path / "gone")
    with pytest.raises(ImagesUnusable, match="holds 0 images, at least 16 are needed"):
        calibration_images.find(tmp_path)
    folder = tiny_onnx.images(tmp_path / "photos", 15)
    with pytest.raises(ImagesUnusable, match="holds 15 images"):
        calibration_images.find(folder)
    copy = io.BytesIO((folder / "000.png").read_bytes())
    (folder / "copy.png").write_bytes(copy.getvalue())
    with pytest.raises(ImagesUnusable, match=r"holds 15 images that can be read and differ \(16 files\)"):
        calibration_images.read(folder, height=8, width=8, resize=SQUASH)
