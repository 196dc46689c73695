"""Normalisation and resize found by labelled images, and when the verdict is refused."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from export.artefact.description import Resize
from export.convert import measure
from export.convert.measure import Trial
from export.convert.original import ImageInput
from export.errors import ImagesUnusable, NormalisationUnclear
from export.images import folder

SQUASH = Resize("squash", None, "bicubic")
GIVEN = ImageInput(8, 8, 3, "nhwc", "float32")


def trial(mode: str, right: npt.NDArray[np.bool_], *, sure: float = 0.9, resize: Resize = SQUASH) -> Trial:
    own = np.where(right, sure, 1 - sure)
    return Trial(mode, resize, right, np.log(own), np.stack([own, 1 - own], axis=1))


def right(count: int, of: int = 40) -> npt.NDArray[np.bool_]:
    return np.arange(of) < count


def test_the_clearly_best_is_taken() -> None:
    """With the reason and the runner-up."""
    best, assumption = measure.choose([trial("unit", right(38)), trial("tf", right(25)), trial("none", right(10))])
    assert best.preprocess == "unit"
    assert assumption.why.startswith("right on 95% of 40 labelled images, the next best, tf, on 62%; ")
    assert assumption.why.endswith("state them with --preprocess MEAN/STD")
    assert assumption.basis == "measured"


@pytest.mark.parametrize(("first", "second"), [(38, 37), (38, 36), (20, 19), (40, 40)])
def test_what_could_be_chance_is_refused(first: int, second: int) -> None:
    """The table is part of the message."""
    with pytest.raises(NormalisationUnclear, match="no normalisation is clearly best") as refused:
        measure.choose([trial("unit", right(first)), trial("tf", right(second))])
    assert "squash, bicubic" in str(refused.value)
    assert f"(the best: unit {first / 40:.0%}; too close: tf {second / 40:.0%}):" in str(refused.value)


def test_probabilities_decide_where_the_first_classes_do_not() -> None:
    """A wrong scale often leaves the first class, and takes the certainty away."""
    trials = [trial("unit", right(40), sure=0.99), trial("tf", right(40), sure=0.6)]
    assert measure.choose(trials)[0].preprocess == "unit"


@pytest.mark.parametrize("larger", ["none", "tf"])
def test_certainty_alone_does_not_speak_for_larger_inputs(larger: str) -> None:
    """They would make any network more certain: of a toy model that is always right, they say nothing."""
    trials = [trial("unit", right(40), sure=0.6), trial(larger, right(40), sure=0.99)]
    with pytest.raises(NormalisationUnclear, match="no normalisation is clearly best"):
        measure.choose(trials)


def test_the_best_resize_goes_with_the_normalisation() -> None:
    """Each normalisation is judged by its best one."""
    nearest = Resize("squash", None, "nearest")
    trials = [trial("unit", right(30)), trial("unit", right(39), resize=nearest), trial("tf", right(20))]
    assert measure.choose(trials)[0].resize == nearest


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Bright and dark images, six of each; one more can't be read."""
    for name, level in (("bright", 200), ("dark", 60)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(6):
            Image.new("RGB", (20, 10), (level + index,) * 3).save(tmp_path / "photos" / name / f"{index}.png")
    (tmp_path / "photos" / "dark" / "broken.jpg").write_bytes(b"nothing")
    return tmp_path / "photos"


def test_subfolders_are_matched_by_name_or_in_order(labelled: Path) -> None:
    """The order of the outputs is that of the labels, not that of the folders."""
    images = folder.labelled(labelled)
    assert images.classes == ("bright", "dark")
    by_name = measure.truth(images, ("dark", "other", "bright"))
    assert by_name.classes.tolist() == [2] * 6 + [0] * 6
    assert by_name.skipped == 1
    by_order = measure.truth(images, ("hell", "dunkel"))
    assert by_order.classes.tolist() == [0] * 6 + [1] * 6
    assert (by_name.unnamed, by_order.unnamed) == ((), ("bright", "dark"))
    for labels in (("one", "two", "three"), ("dark", "hell")):
        with pytest.raises(ImagesUnusable, match="there is no class 'bright'"):
            measure.truth(images, labels)


def test_every_combination_runs_on_the_owners_model(labelled: Path) -> None:
    """Here a model that takes 0..1 and calls bright what is above 0.5."""
    found = measure.truth(folder.labelled(labelled), ("bright", "dark"))
    counts = []

    def classify(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        bright = np.clip(images.mean(axis=(1, 2, 3)) / 1.02, 0, 1)
        return np.stack([bright, 1 - bright], axis=1)

    modes = ("unit", "tf", "none")
    trials = measure.tried(
        classify,
        found,
        GIVEN,
        modes=modes,
        resizes=tuple(measure.RESIZES.values())[:2],
        on_progress=lambda *count: counts.append(count),
    )
    assert counts[-1] == (6, 6)
    assert {trial.preprocess: trial.accuracy for trial in trials} == {"unit": 1.0, "tf": 1.0, "none": 0.5}
    assert measure.table(trials).splitlines()[0].split() == ["unit", "tf", "none"]


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    """One subfolder per class is what Keras's loaders expect, too."""
    (tmp_path / "only").mkdir()
    with pytest.raises(ImagesUnusable, match="needs one subfolder per"):
        folder.labelled(tmp_path)
    with pytest.raises(ImagesUnusable, match="is not a folder"):
        folder.labelled(tmp_path / "gone")
