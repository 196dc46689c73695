"""What is said where labelled images speak against a normalisation or against the order of the labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from export.artefact.description import Assumption, Resize
from export.convert import doubts, measure
from export.convert.measure import Trial, Truth
from export.errors import NormalisationUnclear

#: Twenty images of each of two classes, and ten of each of four.
TWO = Truth(tuple(Path(f"{index}.png") for index in range(40)), np.repeat([0, 1], 20), 0)
FOUR = Truth(TWO.files, np.repeat([0, 1, 2, 3], 10), 0)
NAMES = ("cat", "dog")
MORE = ("cat", "dog", "fox", "owl")
STATED = Assumption("tf", "stated", "--preprocess, although the model begins with x / 255")


def trial(mode: str, right: int, found: Truth = TWO) -> Trial:
    """Right on so many of the images. The others get each of the other classes equally often."""
    classes = int(found.classes.max()) + 1
    chosen = np.where(
        np.arange(40) % 20 < right / 2, found.classes, (found.classes + 1 + np.arange(40) % (classes - 1)) % classes
    )
    answers: npt.NDArray[np.float32] = np.full((40, classes), 0.1, np.float32)
    answers[np.arange(40), chosen] = 0.8
    return measure.judged(answers, found, mode, Resize())


def in_order(outputs: tuple[int, ...], *, wrong: int, of: Truth = FOUR) -> Trial:
    """Each class gives its output, but in so many images another one, which differs from one to the next."""
    chosen = np.array(outputs)[of.classes]
    chosen[:wrong] = np.arange(wrong) % 4
    answers: npt.NDArray[np.float32] = np.full((40, 4), 0.1, np.float32)
    answers[np.arange(40), chosen] = 0.7
    return measure.judged(answers, of, "unit", Resize())


def complaint(trials: list[Trial], others: list[Trial], given: Assumption | None, *, of: Truth = TWO) -> str:
    with pytest.raises(NormalisationUnclear) as refused:
        doubts.check(trials, others, of, NAMES if of is TWO else MORE, given)
    return str(refused.value)


def test_what_beats_guessing_is_not_doubted() -> None:
    """Of two classes, that is more than three standard deviations above one half."""
    doubts.check([trial("unit", 36), trial("tf", 20)], [], TWO, NAMES, None)


def test_guessing_is_no_result() -> None:
    """Then it is the labels that are wrong."""
    said = complaint([trial("unit", 12, FOUR), trial("tf", 2, FOUR)], [], None, of=FOUR)
    assert said.startswith("no normalisation is better than guessing on 40 images (the best, unit, is right on 30%):")
    assert said.endswith("is --labels in the order of the outputs?")


def test_names_in_the_wrong_order_are_noticed() -> None:
    """Of however many classes: the message says which images get which name, and prints the right order."""
    said = complaint([trial("unit", 0), trial("tf", 20)], [], None)
    assert said.endswith(
        "The order of the labels is wrong: images of cat get the label dog, those of dog get the label cat. With"
        " another order, unit is right on 100%. Name the outputs so: printf '%s\\n' dog cat > labels.txt, and pass"
        " --labels labels.txt"
    )
    said = complaint([in_order((1, 2, 0, 3), wrong=4), in_order((0, 1, 2, 3), wrong=35)], [], None, of=FOUR)
    assert "cat get the label dog, those of dog get the label fox, those of fox get the label cat. With" in said
    assert "unit is right on 92%. Name the outputs so: printf '%s\\n' fox cat dog owl > labels.txt" in said


def test_subfolders_in_another_order_than_the_names_are_noticed() -> None:
    """Where none has such a name."""
    with pytest.raises(NormalisationUnclear) as refused:
        doubts.check([trial("unit", 0)], [], replace(TWO, unnamed=("Hunde", "Katzen")), NAMES, None)
    assert str(refused.value).endswith(
        "No subfolder (Hunde, Katzen) is named as a label, so they count as the classes in this order, which is wrong."
        " With another order, unit is right on 100%. Rename Hunde to dog, Katzen to cat"
    )


def test_several_names_in_each_other_s_place_are_noticed() -> None:
    """The others are right, so guessing is beaten. Where most images of a class are right, its name is, too."""
    said = complaint([in_order((0, 2, 1, 3), wrong=0)], [], None, of=FOUR)
    assert said.startswith("on 40 images, unit is right on only 50%. The order of the labels is wrong: images of dog")
    assert "printf '%s\\n' cat fox dog owl >" in said
    doubts.check([in_order((0, 1, 2, 3), wrong=12)], [], FOUR, MORE, None)


def test_a_normalisation_that_fits_the_wrong_names_is_not_taken() -> None:
    """Here swapped channels make three of four right. With the right names, another one makes all right."""
    wrong, right = replace(in_order((0, 1, 2, 0), wrong=0), preprocess="tf"), in_order((1, 2, 3, 0), wrong=0)
    for said in (complaint([wrong, right], [], None, of=FOUR), complaint([wrong], [right], STATED, of=FOUR)):
        assert "tf is right on only 75%. The order of the labels is wrong: images of cat get the label dog" in said
        assert "With another order, unit is right on 100%. Name the outputs so: printf '%s\\n' owl cat dog fox" in said


def test_a_name_without_images_takes_the_output_that_is_left() -> None:
    """Of several such names, nothing tells which takes which."""
    dogs_and_foxes = Truth(TWO.files, np.repeat([1, 2], 20), 0)
    said = complaint([in_order((0, 3, 2, 1), wrong=0, of=dogs_and_foxes)], [], None, of=dogs_and_foxes)
    assert "printf '%s\\n' cat owl fox dog >" in said
    said = complaint([in_order((2, 3, 0, 1), wrong=0, of=dogs_and_foxes)], [], None, of=dogs_and_foxes)
    assert said.endswith("is --labels in the order of the outputs?")


def test_a_stated_normalisation_is_held_against_the_others() -> None:
    """Before the labels are suspected."""
    said = complaint([trial("tf", 0)], [trial("unit", 20), trial("none", 40)], STATED)
    assert said == (
        f"on 40 images the normalisation {STATED} is no better than guessing: it is right on 0%. The normalisation none"
        " is right on 100%: pass --preprocess none"
    )
    said = complaint([trial("tf", 12, FOUR)], [trial("unit", 10, FOUR)], STATED, of=FOUR)
    assert "it is right on 30%, and no other one is better: are the subfolders" in said


def test_a_normalisation_of_the_file_is_named_with_its_proof() -> None:
    """No other one was tried, so only the labels can be wrong."""
    known = Assumption("none", "known", "the model begins with x / 255")
    said = complaint([trial("none", 10, FOUR)], [], known, of=FOUR)
    assert f"the normalisation {known} is no better than guessing: it is right on 25%: are the subfolders" in said


@pytest.mark.parametrize(("other", "warns"), [(40, True), (36, True), (32, False), (28, False), (20, False)])
def test_another_normalisation_that_is_right_more_often(other: int, warns: bool) -> None:
    """A warning needs more than chance: here seven images more, and none less."""
    said = doubts.better([trial("unit", 28)], [trial("tf", other), trial("none", 20)])
    assert (said is not None) == warns
    assert said is None or f"tf is right on {other / 40:.0%}, and unit by --preprocess on 70%" in said
    assert doubts.better([trial("unit", 28)], []) is None
