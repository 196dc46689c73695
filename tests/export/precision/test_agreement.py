"""How the answers of a smaller network are held against fp32's."""

import numpy as np
import pytest

from export.errors import TooFarFromFp32
from export.precision import agreement

FP32 = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.36, 0.34, 0.3], [0.29, 0.42, 0.29]], np.float32)


def test_undecided_images_are_distinguished() -> None:
    """Third and fourth have a lead of 0.02 and 0.13; only the third changes its first class."""
    other = FP32[:, [0, 1, 2]].copy()
    other[2] = (0.3, 0.38, 0.32)
    found = agreement.measure(FP32, other, kind="held-out")
    assert (found.images, found.top1_agreement) == (4, 0.75)
    assert (found.decided_images, found.decided_top1_agreement) == (3, 1.0)
    assert found.max_abs_difference == pytest.approx(0.06)
    assert str(found) == (
        "same top-1 as fp32 on 3 of 4 held-out images (3 of the 3 where fp32 leads by 0.1), largest difference 6.0e-02"
    )


def test_without_a_decided_image_nothing_is_said_of_them() -> None:
    """An untrained network is never sure."""
    flat = np.full((2, 3), 1 / 3, np.float32)
    found = agreement.measure(flat, flat, kind="synthetic")
    assert found.decided_top1_agreement is None
    assert str(found) == "same top-1 as fp32 on 2 of 2 synthetic images, largest difference 0.0e+00"
    agreement.check(found, least=1.0)


@pytest.mark.parametrize(("changed", "refused"), [((), False), ((2,), True), ((0,), True), ((0, 1, 2, 3), True)])
def test_less_than_wanted_is_refused(changed: tuple[int, ...], refused: bool) -> None:
    """Over all images as over those that fp32 is sure of."""
    other = FP32.copy()
    for row in changed:
        other[row] = np.roll(other[row], 1)
    found = agreement.measure(FP32, other, kind="held-out")
    if refused:
        with pytest.raises(TooFarFromFp32, match=r"90% is wanted, nothing was written: .*--min-agreement"):
            agreement.check(found, least=0.9)
        agreement.check(found, least=0.0)
    else:
        agreement.check(found, least=0.9)


def test_a_mistake_where_fp32_is_sure_weighs_more() -> None:
    """19 of 20 agree, but the one is one of the five that matter."""
    fp32 = np.array([[0.9, 0.1]] * 5 + [[0.51, 0.49]] * 15, np.float32)
    other = fp32.copy()
    other[0] = (0.1, 0.9)
    found = agreement.measure(fp32, other, kind="held-out")
    assert found.top1_agreement == 0.95
    with pytest.raises(TooFarFromFp32):
        agreement.check(found, least=0.9)


def test_what_is_not_a_number_never_agrees() -> None:
    """An overflow in fp16 gives such rows; argmax alone would take them for the first class."""
    other = FP32.copy()
    other[0] = np.nan
    with pytest.raises(TooFarFromFp32):
        agreement.check(agreement.measure(FP32, other, kind="synthetic"), least=0.0)


def test_labels_agree_if_each_of_them_does() -> None:
    """One label on the other side of 0.5 is another answer; close to 0.5 fp32 itself is undecided."""
    fp32 = np.array([[0.9, 0.1], [0.9, 0.45]], np.float32)
    other = np.array([[0.8, 0.2], [0.9, 0.55]], np.float32)
    found = agreement.measure(fp32, other, kind="held-out", output_kind="labels")
    assert (found.top1_agreement, found.decided_images, found.decided_top1_agreement) == (0.5, 1, 1.0)
    assert str(found).startswith("same labels as fp32 on 1 of 2 held-out images")


def test_values_agree_within_a_share_of_their_range() -> None:
    """Whatever their unit is."""
    fp32 = np.array([[0.0], [1000.0], [500.0]], np.float32)
    other = fp32 + np.array([[40.0], [0.0], [60.0]], np.float32)
    found = agreement.measure(fp32, other, kind="synthetic", output_kind="values")
    assert found.top1_agreement == pytest.approx(2 / 3)
    agreement.check(found, least=0.5)
    with pytest.raises(TooFarFromFp32, match="within 5% of fp32's range on 2 of 3"):
        agreement.check(found, least=0.9)


def test_synthetic_images_count_where_fp32_is_decided() -> None:
    """An image of nothing has no first class that would matter."""
    other = FP32.copy()
    other[2] = (0.3, 0.38, 0.32)
    agreement.check(agreement.measure(FP32, other, kind="synthetic"), least=0.9)
    with pytest.raises(TooFarFromFp32):
        agreement.check(agreement.measure(FP32, other, kind="held-out"), least=0.9)
