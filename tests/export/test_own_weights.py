"""A named network with weights of one's own: nothing that goes with its ImageNet weights is taken for granted."""

import json
import shlex
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from export.__main__ import main
from export.arguments import parse
from tests.export.test_measured_export import SIZE, brightness_photos, set_for_brightness
from tests.support.models import tiny_keras

pytestmark = tiny_keras.quiet_keras


def network(
    *, weights: str | None = None, classes: int = 1000, input_shape: tuple[int, int, int] = (224, 224, 3)
) -> keras.Model:
    """What stands for MobileNetV2, which takes long to convert: it is built in the same way."""
    assert weights in (None, "imagenet")
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(classes, activation="softmax", name="head"),
        ]
    )


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights that were trained on pixels / 255, and the names of the classes."""
    monkeypatch.setattr(keras.applications, "MobileNetV2", network)
    model = network(classes=2, input_shape=(SIZE, SIZE, 3))
    set_for_brightness(model)
    model.save_weights(tmp_path / "mine.weights.h5")
    (tmp_path / "labels.txt").write_text("bright\ndark\n")
    return tmp_path


def words(own: Path, *more: str) -> list[str]:
    return ["mobilenetv2", "--weights", str(own / "mine.weights.h5"), "--output", str(own / "models"), *more]


def test_labelled_images_measure_the_normalisation_and_name_the_classes(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As for a model's own file."""
    photos = brightness_photos(own / "photos")
    assert main(words(own, "--size", str(SIZE), "--images", str(photos))) == 0
    assert "normalisation unit (measured: right on 100% of 40 labelled images" in capsys.readouterr().out
    path = own / "models" / "mobilenetv2" / "1" / "model.onnx"
    found = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(found["sluice.labels"]) == ["bright", "dark"]
    images = np.random.default_rng(1).uniform(0, 255, (4, SIZE, SIZE, 3)).astype(np.float32)
    (given,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"images": images})
    model = network(classes=2, input_shape=(SIZE, SIZE, 3))
    model.load_weights(own / "mine.weights.h5")
    np.testing.assert_allclose(given, model.predict(images / np.float32(255), verbose=0), atol=1e-5)


def test_normalisation_and_labels_are_asked(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the number of outputs is that of ImageNet."""
    given = words(own, "--size", str(SIZE), "--labels", str(own / "labels.txt"))
    assert main(given) == 2
    error = capsys.readouterr().err
    typed = shlex.join(["python", "-m", "export", *given])
    assert "the weights do not tell how the pixels were scaled before training" in error
    assert f"{typed} --preprocess unit|tf|none|caffe|torch|MEAN/STD --like LOADER" in error
    assert "mobilenetv2's ImageNet weights were trained with tf" in error
    network(input_shape=(SIZE, SIZE, 3)).save_weights(own / "mine.weights.h5")
    assert main(words(own, "--size", str(SIZE), "--preprocess", "unit")) == 2
    error = capsys.readouterr().err
    assert "pass --labels FILE with 1000 names, in the order of the outputs (--labels imagenet" in error
    assert not (own / "models").exists()


def test_what_is_stated_contradicts_nothing(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the ImageNet weights were trained with is no reason to warn. The loader is unknown, as for a file."""
    given = words(own, "--size", str(SIZE), "--labels", str(own / "labels.txt"), "--preprocess", "unit")
    assert main(given) == 0
    printed = capsys.readouterr()
    assert "normalisation unit (stated: --preprocess)" in printed.out
    assert "Leave --preprocess out" not in printed.err
    assert "warning: nothing names the loader of the training" in printed.err


def test_the_size_of_the_training_is_asked(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The weights of most networks fit any size, as some models do. What else is missing is asked in one message."""
    assert main(words(own, "--labels", str(own / "labels.txt"), "--preprocess", "unit")) == 2
    needs_size = "pass --size HxW, such as --size 224, which mobilenetv2's ImageNet weights take"
    error = capsys.readouterr().err
    assert error.endswith(f"{needs_size}\n")
    assert main(words(own)) == 2
    error = capsys.readouterr().err
    typed = shlex.join(["python", "-m", "export", *words(own)])
    assert f"{needs_size}.\nAnd nothing names the classes: pass --labels FILE" in error
    assert ".\nAnd the weights do not tell how the pixels were scaled before training" in error
    assert f"{typed} --size HxW --labels FILE --preprocess unit|tf|none|caffe|torch|MEAN/STD --like LOADER" in error
    assert f"{typed} --size HxW --images FOLDER" in error
    keras.Sequential([keras.Input((None, None, 3)), *network().layers]).save(own / "any.keras")
    assert main([str(own / "any.keras"), "--output", str(own / "models")]) == 2
    error = capsys.readouterr().err
    assert "images of any size: pass --size HxW of its training, such as --size 224.\nAnd nothing names" in error
    assert f"any.keras --output {own / 'models'} --size HxW --labels FILE --preprocess unit|" in error


def test_the_kind_of_output_is_asked_with_the_rest(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Logits without a loss leave all open."""
    average = keras.layers.GlobalAveragePooling2D()
    keras.Sequential([keras.Input((SIZE, SIZE, 3)), average, keras.layers.Dense(3)]).save(own / "open.keras")
    assert main([str(own / "open.keras"), "--output", str(own / "models")]) == 2
    error = capsys.readouterr().err
    assert "say which with --output-kind" in error
    assert ".\nAnd nothing names the classes: pass --labels FILE" in error
    assert f"open.keras --output {own / 'models'} --labels FILE --preprocess unit|" in error


def test_weights_that_do_not_fit_get_a_short_message(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Keras lists the numbers of one layer, and then every layer."""
    (own / "three.txt").write_text("one\ntwo\nthree\n")
    assert main(words(own, "--size", str(SIZE), "--labels", str(own / "three.txt"), "--preprocess", "unit")) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "as weights of the whole mobilenetv2 of keras.applications with 3 classes (A total of 1 objects" in message
    assert "object <Dense name=head, built=True>" in message
    assert "a head of your own (include_top=False), build the model in Python" in message
    assert message.endswith('save the model with model.save("mine.keras"), and export that file')
    assert len(message) < 800
    keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Flatten()]).save_weights(own / "mine.weights.h5")
    assert main(words(own, "--size", str(SIZE), "--labels", str(own / "labels.txt"), "--preprocess", "unit")) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "but received 0 variables during loading. Expected: ['kernel', 'bias']). For other classes" in message


@pytest.mark.parametrize("stated", [False, True])
def test_random_weights_were_trained_with_nothing(
    own: Path, capsys: pytest.CaptureFixture[str], *, stated: bool
) -> None:
    """The normalisation of the ImageNet weights is assumed, and another one is no contradiction."""
    given = ["mobilenetv2", "--weights", "none", "--size", str(SIZE), "--output", str(own / "models")]
    assert main([*given, *(["--preprocess", "unit"] if stated else [])]) == 0
    printed = capsys.readouterr()
    expected = "unit (stated: --preprocess)" if stated else "tf (assumed: that of mobilenetv2's ImageNet weights; these"
    assert f"normalisation {expected}" in printed.out
    assert "Leave --preprocess out" not in printed.err


def test_imagenet_weights_have_a_known_normalisation(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To state another one is a reason to warn."""
    assert main(["mobilenetv2", "--output", str(own / "models"), "--preprocess", "unit"]) == 0
    printed = capsys.readouterr()
    although = "although mobilenetv2's ImageNet weights were trained with tf"
    assert f"normalisation unit (stated: --preprocess, {although})" in printed.out
    assert f"warning: the normalisation is unit by --preprocess, {although}. Leave --preprocess out" in printed.err


def test_weights_that_were_trained_again_are_a_change(own: Path) -> None:
    """Of the content, not of the file's name: --if-changed would keep the old ones."""
    given = parse(words(own, "--size", str(SIZE))).job
    assert given is not None
    before = given.digest()
    (own / "mine.weights.h5").write_bytes(b"trained again")
    assert given.digest() != before
