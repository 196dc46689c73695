"""Normalisations by name, and with the user's own numbers."""

import numpy as np
import pytest

from export import arguments
from export.convert.normalisation import NORMALISATIONS, by_name

PIXELS = np.random.default_rng(1).integers(0, 256, (2, 4, 4, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("numbers", "name"),
    [
        ("0.485,0.456,0.406/0.229,0.224,0.225", "torch"),
        ("0.5/0.5", "tf"),
        ("127.5/127.5", "tf"),
        ("0.5,0.5,0.5/0.5", "tf"),
        ("0/255", "unit"),
        ("0,0,0/1,1,1", "unit"),
    ],
)
def test_numbers_are_for_unit_pixels_or_for_bytes(numbers: str, name: str) -> None:
    """Those of a deviation above 1 are for bytes."""
    np.testing.assert_allclose(by_name(numbers).applied(PIXELS), NORMALISATIONS[name].applied(PIXELS), atol=1e-5)


def test_numbers_fit_their_channels_only() -> None:
    """One number holds for any, three for RGB."""
    assert [by_name("0.1307/0.3081").fits(channels) for channels in (1, 3, 4)] == [True, True, True]
    assert [by_name("0.1,0.2,0.3/0.2").fits(channels) for channels in (1, 3, 4)] == [False, True, False]
    assert [NORMALISATIONS["caffe"].fits(channels) for channels in (1, 3, 4)] == [False, True, False]


@pytest.mark.parametrize("name", ["unit", "torch", "0.1,0.2,0.3/0.2", "0.5/0.5"])
def test_channels_may_be_swapped_first(name: str) -> None:
    """The numbers are then for the channels in the order of BGR."""
    made = by_name(f"{name}:bgr")
    np.testing.assert_array_equal(made.applied(PIXELS), by_name(name).applied(PIXELS[..., ::-1]))
    assert [made.fits(channels) for channels in (1, 3, 4)] == [False, True, False]


@pytest.mark.parametrize(
    "text",
    [
        "caffe:bgr",
        ":bgr",
        "0.5:bgr",
        "0.5",
        "0.5/0",
        "0.5/-1",
        "0.5/nan",
        "a/b",
        "1/2/3",
        "0.1,0.2/0.3,0.4,0.5",
        "/",
        "imagenet",
    ],
)
def test_what_is_no_normalisation_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the forms that there are."""
    with pytest.raises(SystemExit):
        arguments.parse(["resnet50", "--preprocess", text])
    error = capsys.readouterr().err
    assert text in error
    assert "MEAN/STD" in error
