"""The images that both runtimes see, and how far their answers may differ."""

import zlib

import numpy as np
import pytest

from export.convert import parity
from export.errors import BeyondTolerance

EXPECTED = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], np.float32)


def test_the_images_are_the_same_each_time() -> None:
    """Sixteen, of the size asked for, no two alike, the golden image first."""
    images = parity.sample_images(30, 40)
    assert images.shape == (16, 30, 40, 3)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, parity.sample_images(30, 40))
    np.testing.assert_array_equal(images[0], parity.golden(30, 40))
    assert len({image.tobytes() for image in images}) == 16


def test_the_golden_image_tells_every_mistake() -> None:
    """Swapped channels, a mirrored or a turned image are other images, and it stays small in the file."""
    golden = parity.golden(224, 224)
    for wrong in (golden[..., ::-1], golden[:, ::-1], golden[::-1], golden.transpose(1, 0, 2)):
        assert np.abs(golden.astype(int) - wrong).mean() > 10
    assert len(zlib.compress(golden.tobytes(), 9)) < 8_000


def test_equal_answers_have_no_difference() -> None:
    """And agree on every first place."""
    assert parity.compare(EXPECTED, EXPECTED.copy()) == parity.Parity(2, 0.0, 1.0)


def test_differences_are_counted() -> None:
    """The largest of all probabilities, and the share of first places that agree."""
    tied = np.array([[0.5, 0.5], [0.9, 0.1]], np.float32)
    other = np.array([[0.49995, 0.50005], [0.9, 0.1]], np.float32)
    found = parity.compare(tied, other)
    assert found.max_abs_difference == pytest.approx(5e-5, rel=0.01)
    assert found.top1_agreement == 0.5


@pytest.mark.parametrize("wrong", [EXPECTED + np.float32(2e-4), EXPECTED * np.float32("nan"), EXPECTED[:, ::-1]])
def test_a_larger_difference_is_refused(wrong: parity.Floats) -> None:
    """Not a number is no agreement either."""
    with pytest.raises(BeyondTolerance, match="nothing was written"):
        parity.compare(EXPECTED, wrong)


def test_answers_of_another_shape_are_refused() -> None:
    """Broadcasting must not make them equal."""
    with pytest.raises(BeyondTolerance, match="shapes differ"):
        parity.compare(EXPECTED, EXPECTED[:1])


def test_a_network_that_says_one_thing_to_all_is_held_tighter() -> None:
    """Where the answers span 0.001, a difference of 5e-5 is five hundredths of all there is to tell."""
    expected = np.array([[0.500, 0.500], [0.501, 0.499]], np.float32)
    with pytest.raises(BeyondTolerance, match=r"1\.0e-05 is allowed"):
        parity.compare(expected, expected + np.float32(5e-5))


def test_batches_of_several_sizes_are_tried() -> None:
    """A graph that was frozen for one size would fail at another."""
    sizes = []

    def answer(images: parity.Pixels) -> parity.Floats:
        sizes.append(len(images))
        return images.reshape(len(images), -1)[:, :2].astype(np.float32)

    images = parity.sample_images(4, 4)
    np.testing.assert_array_equal(parity.answers(answer, images), images.reshape(16, -1)[:, :2])
    assert len(set(sizes)) > 2
