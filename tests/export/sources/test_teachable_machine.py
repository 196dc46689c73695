"""Downloads from Teachable Machine, as they are: a zip with a Keras model or a SavedModel, and its labels."""

import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tf_keras

from export.__main__ import main
from export.convert.parity import sample_images
from export.sources import model_file, teachable_machine
from tests.support.models import tiny_keras

pytestmark = [tiny_keras.quiet_keras, pytest.mark.filterwarnings("ignore::UserWarning")]


def classifier() -> tf_keras.Model:
    layers = tf_keras.layers
    features = tf_keras.Sequential([layers.Conv2D(4, 3, input_shape=(16, 16, 3)), layers.GlobalAveragePooling2D()])
    initial = tf_keras.initializers.HeNormal(3)
    top = tf_keras.Sequential([layers.Dense(2, activation="softmax", kernel_initializer=initial, input_shape=(4,))])
    return tf_keras.Sequential([features, top])


@pytest.mark.parametrize("kind", ["keras", "savedmodel"])
def test_a_download_is_exported_as_it_is(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its labels, its normalisation (pixels / 127.5 - 1) and its resize are its own; nothing is guessed.

    Many users unpack it first.
    """
    model, download = classifier(), tmp_path / f"converted_{kind}.zip"
    saved = tmp_path / ("keras_model.h5" if kind == "keras" else "model.savedmodel")
    model.save(saved, save_format="h5" if kind == "keras" else "tf")
    with zipfile.ZipFile(download, "w") as archive:
        for file in [saved] if saved.is_file() else sorted(path for path in saved.rglob("*") if path.is_file()):
            archive.write(file, file.relative_to(tmp_path))
        archive.writestr("labels.txt", "0 Cat\n1 My dog\n")
    assert main([str(download), "--output", str(tmp_path / "models")]) == 0
    path = tmp_path / "models" / f"converted_{kind}" / "1" / "model.onnx"
    found = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(found["sluice.labels"]) == ["Cat", "My dog"]
    assert found["sluice.preprocess"] == "tf"
    assert json.loads(found["sluice.resize"])["mode"] == "crop_to_aspect_ratio"
    images = sample_images(16, 16)
    (given,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"images": images})
    np.testing.assert_allclose(given, model.predict(images / np.float32(127.5) - 1, verbose=0), atol=1e-5)
    (tmp_path / "labels.txt").write_text("0 Cat\n1 My dog\n")
    assert model_file.kind_of(tmp_path) == "teachable_machine"
    assert teachable_machine.load(tmp_path).labels == ("Cat", "My dog")
    printed = capsys.readouterr()
    assert "Teachable Machine's models take pixels / 127.5 - 1" in printed.out
    assert "warning" not in printed.err


def trained(*, bias: bool = False) -> tf_keras.Model:
    """The last layers of a download behind a small network, with the names that TensorFlow.js gives."""
    layers = tf_keras.layers
    base = tf_keras.Sequential([layers.Conv2D(4, 3, input_shape=(16, 16, 3))])
    pooled = layers.GlobalAveragePooling2D(name="global_average_pooling2d_GlobalAveragePooling2D1")
    initial = tf_keras.initializers.HeNormal(3)
    top = [
        layers.Dense(100, activation="relu", kernel_initializer=initial, name="dense_Dense1"),
        layers.Dense(2, activation="softmax", kernel_initializer=initial, use_bias=bias, name="dense_Dense2"),
    ]
    return tf_keras.Sequential([tf_keras.Sequential([base, pooled]), tf_keras.Sequential(top)])


def test_its_keras_file_alone_is_recognised_by_its_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was assumed is printed, and what the user states counts. Labels are asked for; other layers are not its."""
    file, output = tmp_path / "keras_model.h5", ["--output", str(tmp_path / "models")]
    model = trained()
    model.save(file)
    assert main([str(file), *output]) == 2
    said = capsys.readouterr().err
    assert "pass --labels FILE with 2 names" in said
    assert "--preprocess" not in said
    (tmp_path / "names.txt").write_text("0 Cat\n1 My dog\n")
    named = [str(file), *output, "--labels", str(tmp_path / "names.txt")]
    assert main(named) == 0
    printed = capsys.readouterr()
    assert "tf (assumed: the last layers have the names that Teachable Machine gives, and" in printed.out
    assert "(assumed: as teachable_machine, which the file is from)" in printed.out
    path = tmp_path / "models" / "keras_model" / "1" / "model.onnx"
    images = sample_images(16, 16)
    (given,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"images": images})
    np.testing.assert_allclose(given, model.predict(images / np.float32(127.5) - 1, verbose=0), atol=1e-5)
    assert main([*named, "--preprocess", "unit", "--like", "load_img"]) == 0
    printed = capsys.readouterr()
    assert "unit (stated: --preprocess, although the last layers" in printed.out
    assert "warning: the normalisation is unit by --preprocess, although the last layers" in printed.err
    assert "Leave --preprocess out, unless" in printed.err
    trained(bias=True).save(file)
    assert main(named) == 2
    assert "the file does not tell how the pixels were scaled" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["model.json", "model_unquant.tflite"])
def test_downloads_for_browsers_and_phones_are_refused(
    tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to choose instead."""
    with zipfile.ZipFile(tmp_path / "tm.zip", "w") as archive:
        archive.writestr(file, "{}")
    assert main([str(tmp_path / "tm.zip"), "--output", str(tmp_path / "models")]) == 2
    assert "choose Tensorflow, Keras" in capsys.readouterr().err
