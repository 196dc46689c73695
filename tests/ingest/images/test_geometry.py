"""Crop boxes are those of export, and each of EXIF's orientations turns an image and its boxes alike."""

import random
import struct
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from export.artefact import description
from export.images import resize as twin
from ingest.images.geometry import UPRIGHT, crop_box
from ingest.images.metadata import orientation_of
from stream.model import Resize, ResizeMode
from tests.support.images import model


def exif(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """An EXIF block of three tags, the orientation in the middle."""
    tags = [(0x0100, 3, 1, 7), (0x0112, kind, 1, orientation), (0x0128, 3, 1, 2)]
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(order + "HIH", 42, 8, len(tags))
    return b"Exif\0\0" + head + b"".join(struct.pack(order + "HHIHxx", *tag) for tag in tags)


@pytest.mark.parametrize("number", range(1, 9))
def test_a_box_cut_before_the_turn_is_the_box_cut_after_it(number: int) -> None:
    """Also where the box lies off the centre."""
    orientation = orientation_of(exif(number))
    stored = np.arange(7 * 5 * 3).reshape(5, 7, 3)
    upright = orientation.apply(stored)
    height, width = upright.shape[:2]
    assert orientation.size(7, 5) == (width, height)
    left, top, right, bottom = (int(edge) for edge in orientation.stored_box((1, 2, 4, 5), width, height))
    assert np.array_equal(orientation.apply(stored[top:bottom, left:right]), upright[2:5, 1:4])


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_are_read(order: str) -> None:
    """Intel's and Motorola's."""
    assert orientation_of(exif(6, order)) == orientation_of(exif(6)) != UPRIGHT


def test_the_introduction_may_be_missing() -> None:
    """PNG and WebP carry EXIF without the six bytes that stand before it in JPEG."""
    assert orientation_of(exif(8)[6:]) == orientation_of(exif(8))


@pytest.mark.parametrize(
    "raw",
    [b"", b"Exif\0\0", b"II*\0", b"II*\0\xff\xff\xff\xff", exif(6)[:20], exif(0), exif(9), exif(6, kind=2), b"text"],
)
def test_what_makes_no_sense_turns_nothing(raw: bytes) -> None:
    """Damaged EXIF, values that do not exist, and values of another type."""
    assert orientation_of(raw) == UPRIGHT


@pytest.mark.parametrize("mode", get_args(ResizeMode))
def test_crop_boxes_are_exactly_those_of_export(mode: ResizeMode) -> None:
    """Calibration and parity prepare images as the service does: equal boxes on random sizes, to the last bit."""
    dice = random.Random(7)
    for _ in range(2000):
        width, height, into_width, into_height = (dice.randint(1, most) for most in (6000, 6000, 4000, 4000))
        side = dice.choice([None, dice.randint(1, 800)])
        wanted = replace(model(into_width, into_height), resize=Resize(mode, "bicubic", side))
        ours = crop_box(width, height, UPRIGHT, wanted)
        theirs = twin.box(width, height, into_height, into_width, description.Resize(mode, side, "bicubic"))
        assert ours.box == theirs, (width, height, into_width, into_height, side)
        inner = (ours.left, ours.top, ours.width, ours.height)
        if mode == "pad_to_aspect_ratio":
            assert inner == twin.padding(width, height, into_height, into_width)
        else:
            assert inner == (0, 0, into_width, into_height)
