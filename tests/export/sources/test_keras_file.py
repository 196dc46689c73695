"""Users' own Keras models through the command line: what comes out, and what is refused."""

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from export.__main__ import main
from export.convert import tensorflow as conversion
from export.convert.parity import sample_images
from tests.support.models import tiny_keras
from tests.support.models.tiny_keras import LABELS, SIZE

pytestmark = tiny_keras.quiet_keras

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


def export(tmp_path: Path, model: keras.Model | Path, *options: str, labels: tuple[str, ...] = LABELS) -> int:
    file = model if isinstance(model, Path) else tiny_keras.save(model, tmp_path / "tiny.keras")
    names = tiny_keras.labels_file(tmp_path, labels)
    output = tmp_path / "models"
    return main(["--keras", str(file), "--labels", str(names), "--output", str(output), *options])


def written(tmp_path: Path, name: str = "tiny", version: int = 1) -> Path:
    return tmp_path / "models" / name / str(version) / "model.onnx"


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def predict(path: Path, images: Pixels) -> Floats:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    probabilities: Floats = session.run(["probabilities"], {"images": images})[0]
    return probabilities


def test_a_keras_file_becomes_an_artefact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Input, output, metadata and the golden answer are what the format says; each decision has a line."""
    model = tiny_keras.model()
    assert export(tmp_path, model, "--preprocess", "unit", "--interpolation", "bilinear") == 0
    path, images = written(tmp_path), sample_images(SIZE, SIZE)
    first, *decisions = capsys.readouterr().out.splitlines()
    assert first.startswith(f"wrote {path}: {path.stat().st_size / 1e3:.1f} kB in ")
    assert decisions == [
        "normalisation unit (stated: --preprocess)",
        "output classes (known: the model ends in Softmax)",
        "resize squash, bilinear (stated: --resize, --interpolation)",
        "labels names (stated: --labels)",
    ]
    graph_of = onnx.load(path).graph
    shapes = [
        (v.name, v.type.tensor_type.elem_type, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim])
        for v in (*graph_of.input, *graph_of.output)
    ]
    assert shapes == [
        ("images", onnx.TensorProto.UINT8, ["N", SIZE, SIZE, 3]),
        ("probabilities", onnx.TensorProto.FLOAT, ["N", 3]),
    ]
    np.testing.assert_allclose(predict(path, images), model.predict(images / 255.0, verbose=0), atol=1e-6)


def test_metadata_describes_the_model(tmp_path: Path) -> None:
    """A consumer finds everything that it needs in the file, and the golden answer holds."""
    assert export(tmp_path, tiny_keras.model(), "--preprocess", "tf", "--name", "mine", "--version", "7") == 0
    path = written(tmp_path, "mine", 7)
    found = metadata(path)
    golden_input = np.frombuffer(zlib.decompress(base64.b64decode(found.pop("sluice.golden.input"))), np.uint8)
    golden_output = np.frombuffer(base64.b64decode(found.pop("sluice.golden.output")), "<f4")
    source, parity = json.loads(found.pop("sluice.source")), json.loads(found.pop("sluice.parity"))
    assumptions = json.loads(found.pop("sluice.assumptions"))
    assert assumptions["normalisation"] == {"value": "tf", "basis": "stated", "why": "--preprocess"}
    assert assumptions["output"]["basis"] == "known"
    assert {key: json.loads(value) for key, value in found.items() if value[0] in "{["} == {
        "sluice.labels": list(LABELS),
        "sluice.input": {"height": SIZE, "width": SIZE, "channels": 3},
        "sluice.resize": {"mode": "squash", "shorter_side": None, "interpolation": "bicubic", "antialias": True},
    }
    assert {key: value for key, value in found.items() if value[0] not in "{["} == {
        "sluice.format": "1",
        "sluice.name": "mine",
        "sluice.version": "7",
        "sluice.precision": "fp32",
        "sluice.preprocess": "tf",
        "sluice.output_kind": "classes",
    }
    assert source["file"] == "tiny.keras"
    assert source["keras_major"] == "3"
    assert (parity["images"], parity["top1_agreement"]) == (16, 1.0)
    assert parity["max_abs_difference"] < 1e-5
    answer = predict(path, golden_input.reshape(1, SIZE, SIZE, 3))[0]
    np.testing.assert_allclose(answer, golden_output, atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "classes"), [("softmax", 3), (None, 3), ("log_softmax", 3), ("sigmoid", 1), (None, 1)]
)
def test_whatever_it_ends_in_becomes_probabilities(tmp_path: Path, activation: str | None, classes: int) -> None:
    """Logits, log-probabilities and one output for two classes all end as rows that sum to 1."""
    model = tiny_keras.model(classes=classes, activation=activation)
    labels = LABELS if classes == 3 else ("cat", "dog")
    stated = [] if activation else ["--output-kind", "classes" if classes == 3 else "binary"]
    assert export(tmp_path, model, "--preprocess", "unit", *stated, labels=labels) == 0
    images = sample_images(SIZE, SIZE)
    given = predict(written(tmp_path), images)
    own = np.asarray(model.predict(images / 255.0, verbose=0), np.float64)
    np.testing.assert_allclose(given, _probabilities(own, activation), atol=1e-6)


def _probabilities(own: npt.NDArray[np.float64], activation: str | None) -> npt.NDArray[np.float64]:
    if own.shape[1] == 1:
        second = own if activation == "sigmoid" else 1 / (1 + np.exp(-own))
        return np.hstack([1 - second, second])
    exponents = own if activation == "softmax" else np.exp(own)
    result: npt.NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return result


def test_a_normalisation_within_the_model_is_seen(tmp_path: Path) -> None:
    """A Rescaling layer means that pixels go in as they are; an adapted mean is carried into the file."""
    before = (
        keras.layers.Rescaling(1 / 255),
        keras.layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.1, 0.2, 0.3]),
    )
    model = tiny_keras.model(before=before)
    assert export(tmp_path, model) == 0
    assert metadata(written(tmp_path))["sluice.preprocess"] == "none"
    images = sample_images(SIZE, SIZE)
    np.testing.assert_allclose(
        predict(written(tmp_path), images), model.predict(images.astype(np.float32), verbose=0), atol=1e-6
    )


def test_an_adapted_normalisation_is_carried_along(tmp_path: Path) -> None:
    """The mean that adapt() found is a bare tensor in Keras; in the file it is a constant, not an input."""
    normalisation = keras.layers.Normalization()
    normalisation.adapt(sample_images(SIZE, SIZE).astype(np.float32))
    model = tiny_keras.model(before=(normalisation,))
    assert export(tmp_path, model) == 0
    images = sample_images(SIZE, SIZE)
    np.testing.assert_allclose(
        predict(written(tmp_path), images), model.predict(images.astype(np.float32), verbose=0), atol=1e-6
    )


def test_grouped_convolutions_and_exact_gelu_convert(tmp_path: Path) -> None:
    """What ConvNeXt is made of and what tf2onnx can't do by itself."""
    before = (keras.layers.Conv2D(6, 3, groups=3), keras.layers.Activation("gelu"))
    model = tiny_keras.model(before=before)
    assert export(tmp_path, model, "--preprocess", "unit") == 0
    images = sample_images(SIZE, SIZE)
    np.testing.assert_allclose(predict(written(tmp_path), images), model.predict(images / 255.0, verbose=0), atol=1e-6)


def test_a_name_decides_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that Keras named resnet50 may have been trained on pixels / 255."""
    assert export(tmp_path, tiny_keras.model(name="resnet50")) == 2
    assert "does not tell how the pixels were scaled" in capsys.readouterr().err


def test_a_file_of_keras_2_is_read(tmp_path: Path) -> None:
    """Its own spelling of shapes and groups included."""
    old = tmp_path / "old.h5"
    depthwise, dense = tiny_keras.keras_2_file(old)
    assert export(tmp_path, old, "--preprocess", "unit") == 0
    images = sample_images(4, 4)
    logits = (images / 255.0 * depthwise.reshape(3)).reshape(16, 48) @ dense
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predict(written(tmp_path, "old"), images), expected, atol=1e-6)


def test_an_open_input_needs_a_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fully convolutional model is exported for the size that the user names."""
    model = tiny_keras.model(size=None)
    assert export(tmp_path, model, "--preprocess", "unit") == 2
    assert "--size" in capsys.readouterr().err
    assert export(tmp_path, model, "--preprocess", "unit", "--size", "20x24", "--resize", "crop") == 0
    found = metadata(written(tmp_path))
    assert json.loads(found["sluice.input"]) == {"height": 20, "width": 24, "channels": 3}
    assert json.loads(found["sluice.resize"])["shorter_side"] == 27


def test_labels_that_do_not_fit_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both numbers are in the message, and nothing is written."""
    assert export(tmp_path, tiny_keras.model(), "--preprocess", "unit", labels=("one", "two")) == 2
    assert "2 labels" in (message := capsys.readouterr().err)
    assert "3 classes" in message
    assert not written(tmp_path).exists()


def test_a_model_without_labels_must_have_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three outputs are not ImageNet's thousand. If the normalisation is not known either, both are asked for."""
    file = tiny_keras.save(tiny_keras.model(), tmp_path / "tiny.keras")
    options = ["--keras", str(file), "--output", str(tmp_path)]
    assert main([*options, "--preprocess", "unit"]) == 2
    message = capsys.readouterr().err
    assert "3 names, in the order of the outputs, or --images FOLDER with a subfolder for each" in message
    assert message.endswith(". If they have no names, number them: seq 0 2 > labels.txt\n")
    assert main(options) == 2
    message = capsys.readouterr().err
    assert "3 names, in the order of the outputs" in message
    assert " --labels FILE --preprocess unit|tf|" in message
    assert f"{tmp_path} --images FOLDER" in message
    file = tiny_keras.save(tiny_keras.model(classes=1, activation="sigmoid"), tmp_path / "binary.keras")
    assert main(["--keras", str(file), "--output", str(tmp_path), "--preprocess", "unit"]) == 2
    assert "with 2 names, first that of outputs near 0, as in Keras's class_indices" in capsys.readouterr().err


def _without_top() -> keras.Model:
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Conv2D(3, 3)])


def _with_two_inputs() -> keras.Model:
    one, two = keras.Input((SIZE, SIZE, 3)), keras.Input((SIZE, SIZE, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([one, two]))
    return keras.Model([one, two], keras.layers.Dense(3)(pooled))


def _of_vectors() -> keras.Model:
    return keras.Sequential([keras.Input((48,)), keras.layers.Dense(3, activation="softmax")])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (_without_top, "is its top missing?"),
        (_with_two_inputs, "2 inputs"),
        (_of_vectors, "[any,48]"),
        (lambda: tiny_keras.model(activation="relu"), "say which with --output-kind classes"),
        (lambda: tiny_keras.model(classes=1, activation="relu"), "say which with --output-kind binary"),
    ],
)
def test_what_is_no_classifier_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Callable[[], keras.Model], message: str
) -> None:
    """The message says what the model is instead."""
    assert export(tmp_path, model(), "--preprocess", "unit") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_a_guess_at_the_normalisation_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong guess would serve wrong answers without a word."""
    assert export(tmp_path, tiny_keras.model()) == 2
    assert "--preprocess unit|tf|none|caffe|torch" in capsys.readouterr().err


def test_code_in_a_model_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A Lambda layer is Python that somebody else wrote."""
    trap = keras.layers.Lambda(lambda x: x * 2, output_shape=(SIZE, SIZE, 3))
    assert export(tmp_path, tiny_keras.model(before=(trap,)), "--preprocess", "unit") == 2
    assert "which is never run" in capsys.readouterr().err


def test_swapped_channels_are_beyond_tolerance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that swaps red and blue is caught before anything is written."""

    def swapping(function: Callable[[Any], Any], shape: tuple[int | None, ...], dtype: str) -> object:
        return traced(lambda images: function(images[..., ::-1]), shape, dtype)

    traced = conversion.traced
    monkeypatch.setattr(conversion, "traced", swapping)
    assert export(tmp_path, tiny_keras.model(), "--preprocess", "unit") == 2
    assert "differs from the original" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("name", "kind", "outputs"),
    [
        ("tf2.12_densenet_preprocess_labels.keras", "labels", 3),
        ("tf2.15_densenet_preprocess_labels.keras", "labels", 3),
        ("tf2.15_vgg_preprocess.h5", "classes", 3),
    ],
)
def test_files_that_old_tensorflows_wrote_answer_as_they_did(
    tmp_path: Path, name: str, kind: str, outputs: int
) -> None:
    """Each by what its own TensorFlow predicted; normalisation and kind are seen in the file."""
    file = tiny_keras.KERAS_2 / name
    labels = tuple(f"label {number}" for number in range(outputs))
    assert export(tmp_path, file, "--name", "old", labels=labels) == 0
    found = metadata(written(tmp_path, "old"))
    assert (found["sluice.output_kind"], found["sluice.preprocess"]) == (kind, "none")
    with np.load(file.with_suffix(".npz")) as known:
        np.testing.assert_allclose(predict(written(tmp_path, "old"), known["x"]), known["y"], atol=1e-5)
