"""An export with labelled images: the normalisation is found, said, stored and checked, or asked for."""

import json
import shlex
import shutil
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from export.__main__ import main
from tests.support.models import tiny_keras

pytestmark = tiny_keras.quiet_keras

SIZE = 12


def classifier(path: Path) -> keras.Model:
    """Bright is what is above one half on average: right only for pixels / 255."""
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    set_for_brightness(model)
    model.save(path)
    return model


def set_for_brightness(model: keras.Model) -> None:
    kernel = np.array([[1, -1]] * 3, np.float32) * 100
    model.layers[-1].set_weights([kernel, np.array([-150, 150], np.float32)])


def brightness_photos(folder: Path) -> Path:
    """Forty images, half of them a little brighter than grey, half a little darker."""
    random = np.random.default_rng(5)
    for name, level in (("bright", 136), ("dark", 118)):
        (folder / name).mkdir(parents=True)
        for index in range(20):
            pixels = random.integers(level - 3, level + 4, (20, 30, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return brightness_photos(tmp_path_factory.mktemp("photos"))


def test_the_normalisation_is_found_on_forty_images(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The labels are the subfolders; the accuracy of the artefact stands next to that of Keras's own loader."""
    model = classifier(tmp_path / "light.keras")
    assert main([str(tmp_path / "light.keras"), "--images", str(photos), "--output", str(tmp_path / "models")]) == 0
    out = capsys.readouterr().out
    assert "normalisation unit (measured: right on 100% of 40 labelled images, the next best, " in out
    assert "accuracy on 40 images: the artefact 100.0%, Keras's own loader and predict 100.0%" in out
    path = tmp_path / "models" / "light" / "1" / "model.onnx"
    found = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(found["sluice.labels"]) == ["bright", "dark"]
    assumptions = json.loads(found["sluice.assumptions"])
    assert assumptions["normalisation"]["basis"] == "measured"
    assert assumptions["resize"]["basis"] == "assumed"
    assert "with them, the top class of up to 0 of 40 images differs" in assumptions["resize"]["why"]
    assert json.loads(found["sluice.accuracy"])["artefact"] == 1.0
    images = np.random.default_rng(1).uniform(0, 255, (4, SIZE, SIZE, 3)).astype(np.float32)
    (given,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"images": images})
    np.testing.assert_allclose(given, model.predict(images / np.float32(255), verbose=0), atol=1e-5)


def test_what_may_be_a_mistake_is_said(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Subfolders that are no labels, a label that is there twice, and what a new version changes."""
    classifier(tmp_path / "light.keras")
    words = [str(tmp_path / "light.keras"), "--output", str(tmp_path / "models"), "--labels"]

    def printed(names: str, *options: str) -> tuple[str, str]:
        (tmp_path / "names.txt").write_text(names)
        assert main([*words, str(tmp_path / "names.txt"), *options]) == 0
        return capsys.readouterr()

    def warnings(names: str, *options: str) -> str:
        return printed(names, *options)[1]

    first = warnings("hell\nhell", "--images", str(photos))
    assert "warning: no subfolder of --images (bright, dark) is named as a label" in first
    assert "warning: the labels name 'hell' twice" in first
    assert "another order" not in warnings("bright\ndark", "--preprocess", "unit")
    third = warnings("dark\nbright", "--preprocess", "unit", "--like", "image_dataset_from_directory")
    assert "warning: version 2 has the same labels in another order" in third
    assert "warning: version 2 was exported with the resize squash, bicubic" in third
    assert "Was --like forgotten?" not in third
    out, err = printed("dark\nbright", "--preprocess", "unit")
    assert "keep a version whose images are prepared differently" in out
    assert "Was --like forgotten?" in err
    out, err = printed("dark\nbright", "--preprocess", "unit")
    assert "with --watch once its checks pass" in out
    assert "Was --like forgotten?" not in err


def blue_or_red(folder: Path, layers: list[keras.Layer], weights: list[np.ndarray]) -> list[str]:
    """A classifier of the mean colour in BGR, and twenty images for it; returns the words that export it."""
    head = keras.layers.Dense(2, activation="softmax")
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), *layers, keras.layers.GlobalAveragePooling2D(), head])
    head.set_weights(weights)
    model.save(folder / "colours.keras")
    random = np.random.default_rng(6)
    for name, factor in (("blue", [0.6, 1, 1.4]), ("red", [1.4, 1, 0.6])):
        (folder / "photos" / name).mkdir(parents=True)
        for index in range(10):
            pixels = (random.integers(40, 60, (20, 30, 3)) * factor).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{index}.png")
    return [
        str(folder / "colours.keras"), "--images", str(folder / "photos"), "--output", str(folder / "models")
    ]  # fmt: skip


@pytest.mark.parametrize("within", [True, False])
def test_images_that_were_read_by_opencv_are_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, within: bool
) -> None:
    """Whether the file tells how pixels were scaled or not: only the images can tell the order of the channels."""
    weights = [np.array([[20, -20], [0, 0], [0, 0]], np.float32), np.array([-4, 4], np.float32)]
    assert main(blue_or_red(tmp_path, [keras.layers.Rescaling(1 / 255)] if within else [], weights)) == 0
    out = capsys.readouterr().out
    assert f"normalisation {'none' if within else 'unit'}:bgr (measured: right on 100% of 20 labelled images" in out
    assert "accuracy on 20 images: the artefact 100.0%, Keras's own loader and predict 100.0%" in out


def test_several_normalisations_of_bgr_may_be_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Blue less red is the same with caffe's means: that of the named ones which takes BGR is not clearly best."""
    weights = [np.array([[1, -1], [0, 0], [-1, 1]], np.float32), np.zeros(2, np.float32)]
    assert main(blue_or_red(tmp_path, [], weights)) == 2
    error = capsys.readouterr().err
    assert "no normalisation is clearly best (the best: caffe 100%; too close" in error
    assert "none:bgr 100%" in error


def striped(folder: Path) -> Path:
    """Three images of each class whose odd columns, which alone load_img takes, are dark, and bright on average."""
    pixels = np.full((2 * SIZE, 2 * SIZE, 3), 180, np.uint8)
    pixels[:, 1::2] = 100
    for name in ("bright", "dark"):
        for index in range(3):
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.mark.parametrize("known", [True, False])
def test_resizes_that_contradict_each_other_on_the_images(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str], *, known: bool
) -> None:
    """It asks, with the command for each of them, whether the normalisation was measured or stated."""
    classifier(tmp_path / "light.keras")
    images = striped(Path(shutil.copytree(photos, tmp_path / "photos")))
    words = [str(tmp_path / "light.keras"), "--images", str(images), "--output", str(tmp_path / "models")]
    words += ["--preprocess", "unit"] if known else []
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "on 3 of 40 images another one is right where the best is wrong" in error
    assert "the top class of up to 6 of 40 images differs, and a probability by up to 1" in error
    typed = shlex.join(["python", "-m", "export", *words])
    assert f"{typed} --like image_dataset_from_directory   (92%; the same as tf.image.resize)" in error
    assert f"{typed} --like load_img   (92%; the same as flow_from_directory)" in error
    assert not (tmp_path / "models").exists()


def test_without_images_it_asks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one sentence, with the two commands that help."""
    classifier(tmp_path / "light.keras")
    (tmp_path / "labels.txt").write_text("bright\ndark\n")
    model, labels = str(tmp_path / "light.keras"), str(tmp_path / "labels.txt")
    words = [model, "--labels", labels, "--output", str(tmp_path / "models")]
    assert main(words) == 2
    error = capsys.readouterr().err
    typed = shlex.join(["python", "-m", "export", *words])
    assert f"{typed} --preprocess unit|tf|none|caffe|torch|MEAN/STD --like LOADER" in error
    assert f"{typed} --images FOLDER" in error


def test_images_of_the_wrong_kind_prove_nothing(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two labels in the wrong order make every normalisation as bad as a guess, or worse."""
    classifier(tmp_path / "light.keras")
    (tmp_path / "labels.txt").write_text("dark\nbright\n")
    words = ["--labels", str(tmp_path / "labels.txt"), "--output", str(tmp_path / "models")]
    assert main([str(tmp_path / "light.keras"), "--images", str(photos), *words]) == 2
    error = capsys.readouterr().err
    assert "no normalisation is better than guessing on 40 images" in error
    assert "With another order, unit is right on 100%. Name the outputs so: printf '%s\\n' bright dark" in error
    assert not (tmp_path / "models").exists()


def test_a_stated_normalisation_is_compared_with_the_others(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused if it is no better than guessing, and holds with a warning if another one is clearly better."""
    classifier(tmp_path / "light.keras")
    words = [str(tmp_path / "light.keras"), "--like", "load_img", "--output", str(tmp_path / "models")]
    assert main([*words, "--images", str(photos), "--preprocess", "none"]) == 2
    error = capsys.readouterr().err
    assert "the normalisation none (stated: --preprocess) is no better than guessing: it is right on 50%" in error
    assert "The normalisation unit is right on 100%: pass --preprocess unit" in error
    brighter = Path(shutil.copytree(photos, tmp_path / "photos"))
    for index in range(10):
        Image.new("RGB", (20, 30), (200,) * 3).save(brighter / "bright" / f"{index}.png")
    assert main([*words, "--images", str(brighter), "--preprocess", "0.1/1"]) == 0
    printed = capsys.readouterr()
    warning = "warning: on 40 images the normalisation unit is right on 100%, and 0.1/1 by --preprocess on 75%"
    assert warning in printed.err
    assert "normalisation 0.1/1 (stated: --preprocess)" in printed.out
    assert main([*words, "--images", str(photos), "--preprocess", "unit"]) == 0
    assert "by --preprocess" not in capsys.readouterr().err
