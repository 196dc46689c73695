"""What the choice among resizes that labelled images cannot tell apart may cost, and when it is refused."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from export import arguments
from export.convert import tied_resizes
from export.convert.measure import MAX_IMAGES, RESIZES, Trial
from export.errors import ResizeUnclear

FIRST, SECOND, THIRD, *_ = RESIZES.values()


def right(count: int, of: int = 40, *, first: int = 0) -> npt.NDArray[np.bool_]:
    """From the image `first` on, so many are right."""
    return (np.arange(of) >= first) & (np.arange(of) < first + count)


def trial(resize: object, right: npt.NDArray[np.bool_], *, sure: float = 0.9, mode: str = "unit") -> Trial:
    own = np.where(right, sure, 1 - sure)
    return Trial(mode, resize, right, np.log(own), np.stack([own, 1 - own], axis=1))  # type: ignore[arg-type]


def test_a_resize_counts_as_measured_if_it_is_clearly_best() -> None:
    """Against the others with its normalisation; what another normalisation gives does not matter."""
    best = trial(FIRST, right(40))
    found = tied_resizes.assumption(best, [best, trial(SECOND, right(25)), trial(SECOND, right(40), mode="tf")])
    assert (found.value, found.basis) == (str(FIRST), "measured")
    assert found.why == "right on 100% of 40 labelled images"


def test_an_assumed_resize_comes_with_its_price() -> None:
    """The images whose first class changes, and the largest change of a probability, among those that come close."""
    best = trial(FIRST, right(39))
    others = [trial(SECOND, right(39, first=1), sure=0.8), trial(THIRD, right(20))]
    found = tied_resizes.assumption(best, [best, *others, trial(THIRD, right(40), mode="tf")])
    assert found.basis == "assumed"
    assert found.why == (
        "right on 98% of 40 labelled images, but 1 of 2 others come too close to tell: with them, the top class of up"
        " to 2 of 40 images differs, and a probability by up to 0.7. --like LOADER names the loader of the training"
    )


def test_images_on_which_the_resize_changes_nothing_are_called_so() -> None:
    """Those of the model's own size, for one."""
    best = trial(FIRST, right(39))
    found = tied_resizes.assumption(best, [best, trial(SECOND, right(39))])
    assert "with them, no answer differs, since all images have the model's own size or" in found.why


@pytest.mark.parametrize(
    ("wins", "losses", "images", "refuses"),
    [(4, 0, 40, False), (4, 2, 40, False), (3, 3, 40, True), (1, 1, 8, False), (2, 2, 8, True), (8, 6, 120, False),
     (8, 7, 120, True)],
)  # fmt: skip
def test_images_that_contradict_the_choice_are_refused(wins: int, losses: int, images: int, *, refuses: bool) -> None:
    """More than one in twenty and more than one: if the other is right for the model, they would all be wrong."""
    best = trial(FIRST, right(images - losses, images))
    trials = [best, trial(SECOND, right(images - wins, images, first=wins))]
    if not refuses:
        tied_resizes.check(best, trials, "sluice serve x.keras")
        return
    message = f"on {losses} of {images} images another one is right where the best is wrong"
    with pytest.raises(ResizeUnclear, match=message) as refused:
        tied_resizes.check(best, trials, "sluice serve x.keras")
    assert f"top class of up to {wins + losses} of {images} images differs" in str(refused.value)
    assert "\n  sluice serve x.keras --like image_dataset_from_directory   (" in str(refused.value)
    assert "\n  sluice serve x.keras --like load_img   (" in str(refused.value)
    assert "; the same as flow_from_directory)" in str(refused.value)
    assert ("give more images" in str(refused.value)) == (images < MAX_IMAGES)
    assert "choose the first" in str(refused.value)
    assert "--like pillow" not in str(refused.value)


@pytest.mark.parametrize("options", RESIZES)
def test_each_resize_is_what_its_options_state(tmp_path: Path, options: str) -> None:
    """They are the advice."""
    (tmp_path / "model.h5").touch()
    given = arguments.parse([str(tmp_path / "model.h5"), *options.split()])
    assert given.job is not None
    assert given.job.resize.resolved(8, 8, given.job.default_resize()) == RESIZES[options]
