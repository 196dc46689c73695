"""EXIF's eight orientations: where a box of the upright picture lies in the stored one, and how it is turned."""

import struct

import numpy as np
import pytest

from ingest.images.orientation import UPRIGHT, turn_of


def exif(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """An EXIF block of three tags, the orientation in the middle."""
    tags = [(0x0100, 3, 1, 7), (0x0112, kind, 1, orientation), (0x0128, 3, 1, 2)]
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(order + "HIH", 42, 8, len(tags))
    return b"Exif\0\0" + head + b"".join(struct.pack(order + "HHIHxx", *tag) for tag in tags)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_cut_before_the_turn_is_the_box_cut_after_it(orientation: int) -> None:
    """Also where the box lies off the centre."""
    turn = turn_of(exif(orientation))
    stored = np.arange(7 * 5 * 3).reshape(5, 7, 3)
    upright = turn.apply(stored)
    height, width = upright.shape[:2]
    assert turn.size(7, 5) == (width, height)
    left, top, right, bottom = (int(edge) for edge in turn.stored_box((1, 2, 4, 5), width, height))
    assert np.array_equal(turn.apply(stored[top:bottom, left:right]), upright[2:5, 1:4])


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_are_read(order: str) -> None:
    """Intel's and Motorola's."""
    assert turn_of(exif(6, order)) == turn_of(exif(6)) != UPRIGHT


def test_the_introduction_may_be_missing() -> None:
    """PNG and WebP carry EXIF without the six bytes that stand before it in JPEG."""
    assert turn_of(exif(8)[6:]) == turn_of(exif(8))


@pytest.mark.parametrize(
    "raw",
    [b"", b"Exif\0\0", b"II*\0", b"II*\0\xff\xff\xff\xff", exif(6)[:20], exif(0), exif(9), exif(6, kind=4), b"text"],
)
def test_what_makes_no_sense_turns_nothing(raw: bytes) -> None:
    """Damaged EXIF, values that do not exist, and values of another type."""
    assert turn_of(raw) == UPRIGHT
