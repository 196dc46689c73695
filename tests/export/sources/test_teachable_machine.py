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


@pytest.mark.parametrize("file", ["model.json", "model_unquant.tflite"])
def test_downloads_for_browsers_and_phones_are_refused(
    tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to choose instead."""
    with zipfile.ZipFile(tmp_path / "tm.zip", "w") as archive:
        archive.writestr(file, "{}")
    assert main([str(tmp_path / "tm.zip"), "--output", str(tmp_path / "models")]) == 2
    assert "choose Tensorflow, Keras" in capsys.readouterr().err
