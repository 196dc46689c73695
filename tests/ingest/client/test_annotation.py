"""Copies of images with their labels drawn in: upright, readable, in the same folders."""

import io
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest.client.annotation import Annotator, copy_path, drawn_on
from ingest.client.decision import Prediction, Result
from ingest.client.item import Item, UnreadableError, image
from tests.support.images import noisy_scene, one_of_each, scene, stored_turned

CAT = Result(
    (Prediction("tabby", 0.92), Prediction("Egyptian cat", 0.05), Prediction("tiger cat", 0.01)), "m", "1", "a"
)
LINES = ["tabby  92.0%", "Egyptian cat  5.0%", "tiger cat  1.0%"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def annotated(data: bytes, name: str = "photos/cat.jpg") -> Image.Image:
    Annotator(Path("copies")).annotate(Item(name, lambda: data), data, CAT)
    with Image.open(Path("copies") / name) as copy:
        copy.load()
        return copy


def test_copies_lie_in_the_same_folders(folder: Path) -> None:
    """Below the working folder as the images do, else as below the root; two images never share a copy."""
    assert copy_path(image("photos/a/b.jpg"), "JPEG") == Path("photos/a/b.jpg")
    assert copy_path(image(str(folder / "photos" / "b.jpg")), "JPEG") == Path("photos/b.jpg")
    assert copy_path(image("/elsewhere/b.jpg"), "JPEG") == Path("elsewhere/b.jpg")
    assert copy_path(image("../b.jpg"), "JPEG") == (folder.parent / "b.jpg").relative_to("/")
    assert copy_path(image("-"), "PNG") == Path("stdin.png")
    assert copy_path(Item("v.mp4", bytes, 20), "JPEG") == Path("v.mp4/frame_00000020.jpg")


@pytest.mark.parametrize("background", ["white", "black", "gray", "yellow", "scene", "noise"])
def test_the_text_is_readable_on_any_background(background: str) -> None:
    """White text on a shade that is dark whatever was there: a contrast of 4.5 to 1 at least (WCAG 2.2, 1.4.3)."""
    noise = np.random.default_rng(5).integers(0, 256, (375, 500, 3), np.uint8)
    plain = {"scene": noisy_scene(), "noise": Image.fromarray(noise)}
    image = plain.get(background) or Image.new("RGB", (500, 375), background)
    drawn = drawn_on(image, LINES)
    changed = np.asarray(drawn.convert("L"), int)[:20, :60]
    shade, text = np.percentile(changed, 40), changed.max()
    assert text >= 250
    assert (luminance(text) + 0.05) / (luminance(shade) + 0.05) >= 4.5
    assert np.array_equal(np.asarray(drawn)[200:], np.asarray(image)[200:]), "the rest is as it was"


def luminance(grey: float) -> float:
    """Relative luminance of a grey of 0 to 255 in sRGB (WCAG 2.2)."""
    share = grey / 255
    return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4


def test_a_small_or_narrow_image_has_its_labels_too() -> None:
    """The widest line fits, as long as text of 10 pixels do."""
    for width, height in ((150, 400), (300, 60), (4000, 3000), (8, 8)):
        drawn = drawn_on(Image.new("RGB", (width, height), "gray"), LINES)
        assert drawn.size == (width, height)
        text = np.argwhere(np.asarray(drawn.convert("L")) > 200)
        if width >= 150:
            assert 0.05 * width < text[:, 1].max() < width - 2


def test_a_long_label_is_made_smaller() -> None:
    """All of it is there: nothing is cut off at the right edge."""
    drawn = drawn_on(Image.new("RGB", (400, 400), "gray"), ["W" * 28])
    text = np.argwhere(np.asarray(drawn.convert("L")) > 200)
    assert 350 < text[:, 1].max() < 398


def test_a_copy_is_upright(folder: Path) -> None:
    """As EXIF asks, and it does not ask again."""
    upright = scene(160, 120)
    copy = annotated(stored_turned(upright, 6))
    assert copy.size == (160, 120)
    assert copy.getexif().get(0x0112, 1) == 1
    difference = np.abs(np.asarray(copy, int)[80:] - np.asarray(upright, int)[80:])
    assert difference.mean() < 6


@pytest.mark.parametrize("kind", sorted(one_of_each()))
def test_every_kind_of_image_has_a_copy_of_its_format(kind: str, folder: Path) -> None:
    """With 16 bits, palettes, transparency, several frames: what it looks like stays."""
    data = one_of_each()[kind]
    with Image.open(io.BytesIO(data)) as image:
        expected = image.format
    copy = annotated(data, f"photos/{kind}")
    assert copy.format == expected
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [kind], "no unfinished file is left"


@pytest.mark.parametrize("kind", sorted(set(one_of_each()) - {"bmp rle"}))
def test_every_kind_of_image_looks_as_it_did(kind: str) -> None:
    """Not black, not white, not inverted: the mean brightness of parts without labels is that of the scene."""
    with Image.open(io.BytesIO(one_of_each()[kind])) as image:
        drawn = drawn_on(image, [])
    found, truth = (np.asarray(each.convert("L"), int) for each in (drawn, scene(40, 30)))
    if found.shape == truth.shape:
        for rows in (slice(10, 20), slice(20, 30)):
            assert found[rows].mean() == pytest.approx(truth[rows].mean(), abs=12)
    else:
        assert kind == "jpeg turned"


def test_a_copy_of_heic_needs_its_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service has it, and the client's machine may not."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UnreadableError, match="pip install pillow-heif"):
        annotated(one_of_each()["heic"])


def test_a_copy_that_cannot_be_drawn_is_reported(folder: Path) -> None:
    """The message goes into the image's row."""
    with pytest.raises(UnreadableError, match="no copy could be drawn"):
        annotated(b"not an image")


def test_the_next_run_removes_what_a_killed_run_left(folder: Path) -> None:
    """An unfinished copy is known by the process that wrote it. Those of running processes stay."""
    unfinished = folder / "copies" / ".unfinished"
    unfinished.mkdir(parents=True)
    ended = subprocess.Popen(["true"])
    ended.wait()
    for pid in (ended.pid, os.getpid()):
        (unfinished / f"{pid}-1").touch()
    annotator = Annotator(folder / "copies")
    assert [path.name for path in unfinished.iterdir()] == [f"{os.getpid()}-1"]
    (unfinished / f"{os.getpid()}-1").unlink()
    annotator.close()
    assert not unfinished.exists()
