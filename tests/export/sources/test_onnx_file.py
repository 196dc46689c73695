"""Foreign ONNX files through the command line: what is put around them, and what is refused."""

import base64
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from export.__main__ import main
from export.convert.parity import sample_images
from tests.support.models import tiny_onnx
from tests.support.models.tiny_onnx import CLASSES, SIZE

Floats = npt.NDArray[np.float32]

NAMES = ("one", "two", "three", "four")
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def export(
    tmp_path: Path,
    made: onnx.ModelProto,
    *options: str,
    names: tuple[str, ...] = NAMES,
    preprocess: str = "torch",
    kind: str = "classes",
) -> int:
    file = tiny_onnx.save(made, tmp_path / "tiny.onnx")
    (tmp_path / "labels.txt").write_text("\n".join(names))
    given = ["--onnx", str(file), "--labels", str(tmp_path / "labels.txt"), "--output", str(tmp_path / "models")]
    stated = [*(["--preprocess", preprocess] if preprocess else []), *(["--output-kind", kind] if kind else [])]
    return main([*given, *stated, *options])


def written(tmp_path: Path) -> Path:
    return tmp_path / "models" / "tiny" / "1" / "model.onnx"


def predict(tmp_path: Path) -> Floats:
    session = onnxruntime.InferenceSession(written(tmp_path), providers=["CPUExecutionProvider"])
    probabilities: Floats = session.run(["probabilities"], {"images": sample_images(SIZE, SIZE)})[0]
    return probabilities


def metadata(tmp_path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(written(tmp_path)).metadata_props}


def softmax(scores: Floats) -> Floats:
    exponents = np.exp(scores.astype(np.float64))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), np.float32)


def own(tmp_path: Path, normalised: npt.NDArray[Any], *, layout: str = "nchw", kind: type = np.float32) -> Floats:
    """The file's own answers to normalised images, [N,H,W,3]."""
    ordered = normalised.transpose(0, 3, 1, 2) if layout == "nchw" else normalised
    return tiny_onnx.answers(tmp_path / "tiny.onnx", ordered.astype(kind))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_an_onnx_file_becomes_an_artefact(tmp_path: Path, layout: str) -> None:
    """Layout, normalisation and softmax are in the graph: pixels in, probabilities out, in any number."""
    assert export(tmp_path, tiny_onnx.model(layout=layout), "--layout", layout) == 0
    expected = softmax(own(tmp_path, (sample_images(SIZE, SIZE) / 255 - MEAN) / DEVIATION, layout=layout))
    np.testing.assert_allclose(predict(tmp_path), expected, atol=1e-5)
    graph = onnx.load(written(tmp_path)).graph
    shapes = [
        (v.name, v.type.tensor_type.elem_type, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim])
        for v in (*graph.input, *graph.output)
    ]
    assert shapes == [
        ("images", TensorProto.UINT8, ["N", SIZE, SIZE, 3]),
        ("probabilities", TensorProto.FLOAT, ["N", CLASSES]),
    ]


def test_metadata_and_golden_answer_are_those_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The golden answer is what the file itself says to pixels that were normalised outside of it."""
    assert export(tmp_path, tiny_onnx.model(), "--resize", "crop", "--shorter-side", "20") == 0
    assert ", compared with tiny.onnx in ONNX Runtime: largest difference " in capsys.readouterr().out
    found = metadata(tmp_path)
    assert json.loads(found["sluice.labels"]) == list(NAMES)
    assert json.loads(found["sluice.resize"]) == {
        "mode": "crop",
        "shorter_side": 20,
        "interpolation": "bicubic",
        "antialias": True,
    }
    assert (found["sluice.precision"], found["sluice.preprocess"]) == ("fp32", "torch")
    source = json.loads(found["sluice.source"])
    assert (source["file"], source["producer"], source["onnx"]) == ("tiny.onnx", "torch", onnx.__version__)
    assert json.loads(found["sluice.parity"])["images"] == 16
    image = np.frombuffer(zlib.decompress(base64.b64decode(found["sluice.golden.input"])), np.uint8)
    expected = softmax(own(tmp_path, (image.reshape(1, SIZE, SIZE, 3) / 255 - MEAN) / DEVIATION))[0]
    golden = np.frombuffer(base64.b64decode(found["sluice.golden.output"]), "<f4")
    np.testing.assert_allclose(golden, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("preprocess", "normalise"),
    [
        ("caffe", lambda x: x[..., ::-1] - np.array([103.939, 116.779, 123.68])),
        ("tf", lambda x: x / 127.5 - 1),
        ("unit", lambda x: x / 255),
        ("none", lambda x: x.astype(float)),
    ],
)
def test_every_normalisation_is_put_in_front(
    tmp_path: Path, preprocess: str, normalise: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.floating]]
) -> None:
    """By its formula, as the names are used for Keras's models."""
    assert export(tmp_path, tiny_onnx.model(), preprocess=preprocess) == 0
    expected = softmax(own(tmp_path, normalise(sample_images(SIZE, SIZE))))
    np.testing.assert_allclose(predict(tmp_path), expected, atol=1e-5)


def test_a_batch_of_one_is_made_dynamic(tmp_path: Path) -> None:
    """Tracing writes the single image into the target of a reshape as well."""
    assert export(tmp_path, tiny_onnx.model(batch=1)) == 0
    expected = softmax(own(tmp_path, (sample_images(SIZE, SIZE) / 255 - MEAN) / DEVIATION))
    np.testing.assert_allclose(predict(tmp_path), expected, atol=1e-5)


def test_a_batch_of_one_that_can_not_be_freed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Here one image's shape is in a Reshape that nobody could guess."""
    made = tiny_onnx.model(batch=1)
    (flat,) = [tensor for tensor in made.graph.initializer if tensor.name == "flat"]
    flat.CopyFrom(onnx.numpy_helper.from_array(np.array([-1, 1, 8], np.int64), "flat"))
    (gemm,) = [node for node in made.graph.node if node.op_type == "Gemm"]
    made.graph.node.insert(
        list(made.graph.node).index(gemm), helper.make_node("ReduceMax", ["h"], ["h2"], axes=[0], keepdims=0)
    )
    gemm.input[0] = "h2"
    assert export(tmp_path, made) == 2
    assert "can't be made to take several: export it again with a dynamic batch" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("ends", ["Softmax", "LogSoftmax"])
def test_classes_are_seen_in_the_graph(tmp_path: Path, ends: str) -> None:
    """A second softmax upon probabilities would flatten them."""
    assert export(tmp_path, tiny_onnx.model(ends=ends), kind="") == 0
    scores = own(tmp_path, (sample_images(SIZE, SIZE) / 255 - MEAN) / DEVIATION)
    np.testing.assert_allclose(predict(tmp_path), scores if ends == "Softmax" else softmax(scores), atol=1e-5)
    assert metadata(tmp_path)["sluice.output_kind"] == "classes"


def test_softmax_is_never_added_by_guess(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Logits look like measurements; the user says which they are."""
    made = tiny_onnx.model()
    assert export(tmp_path, made, kind="") == 2
    assert "say which with --output-kind classes" in capsys.readouterr().err
    assert export(tmp_path, made, kind="classes") == 0
    scores = own(tmp_path, (sample_images(SIZE, SIZE) / 255 - MEAN) / DEVIATION)
    np.testing.assert_allclose(predict(tmp_path), softmax(scores), atol=1e-5)


def test_several_sigmoids_are_independent_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are served as they are, and refused as classes."""
    made = tiny_onnx.model(ends="Sigmoid")
    assert export(tmp_path, made, kind="classes") == 2
    assert "--output-kind classes does not fit" in capsys.readouterr().err
    assert export(tmp_path, made, kind="") == 0
    scores = own(tmp_path, (sample_images(SIZE, SIZE) / 255 - MEAN) / DEVIATION)
    np.testing.assert_allclose(predict(tmp_path), scores, atol=1e-5)
    assert metadata(tmp_path)["sluice.output_kind"] == "labels"


@pytest.mark.parametrize("ends", ["Sigmoid", ""])
def test_a_single_output_becomes_two_classes(tmp_path: Path, ends: str) -> None:
    """It is the second of them, as a probability or, if the user says so, as a logit."""
    made = tiny_onnx.model(ends=ends, classes=1)
    assert export(tmp_path, made, names=("cat", "dog"), kind="" if ends else "binary") == 0
    assert metadata(tmp_path)["sluice.output_kind"] == "binary"
    score = own(tmp_path, (sample_images(SIZE, SIZE) / 255 - MEAN) / DEVIATION)
    second = score if ends else np.asarray(1 / (1 + np.exp(-score)), np.float32)
    np.testing.assert_allclose(predict(tmp_path), np.concatenate([1 - second, second], axis=1), atol=1e-6)


def test_scores_may_lie_on_a_map_of_one_pixel(tmp_path: Path) -> None:
    """[N,classes,1,1], as networks without a dense layer have it."""
    assert export(tmp_path, tiny_onnx.model(flatten=False)) == 0
    scores = own(tmp_path, (sample_images(SIZE, SIZE) / 255 - MEAN) / DEVIATION)
    np.testing.assert_allclose(predict(tmp_path), softmax(scores.reshape(16, CLASSES)), atol=1e-5)


def test_a_file_in_fp16_stays_so_within(tmp_path: Path) -> None:
    """And says so; its ends are those of every artefact."""
    assert export(tmp_path, tiny_onnx.model(element=TensorProto.FLOAT16)) == 0
    assert metadata(tmp_path)["sluice.precision"] == "fp16"
    scores = own(tmp_path, (sample_images(SIZE, SIZE) / 255 - MEAN) / DEVIATION, kind=np.float16)
    np.testing.assert_allclose(predict(tmp_path), softmax(scores), atol=2e-3)
    assert predict(tmp_path).dtype == np.float32


def of_pixels() -> onnx.ModelProto:
    """The network with a cast of its own in front, taking uint8."""
    made = tiny_onnx.model(layout="nhwc")
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    made.graph.node.insert(0, helper.make_node("Cast", ["images"], ["cast"], to=TensorProto.FLOAT))
    made.graph.node[1].input[0] = "cast"
    return made


def test_a_file_that_takes_pixels_needs_no_normalisation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor accepts one."""
    assert export(tmp_path, of_pixels()) == 2
    assert "normalises them itself: leave out --preprocess torch" in capsys.readouterr().err
    assert export(tmp_path, of_pixels(), preprocess="") == 0
    scores = own(tmp_path, sample_images(SIZE, SIZE), layout="nhwc", kind=np.uint8)
    np.testing.assert_allclose(predict(tmp_path), softmax(scores), atol=1e-5)


def test_an_open_size_is_closed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By --size, which is asked for."""
    made = tiny_onnx.model(size="any")
    assert export(tmp_path, made) == 2
    assert "--size HxW" in capsys.readouterr().err
    assert export(tmp_path, made, "--size", f"{SIZE}x{SIZE}") == 0
    assert json.loads(metadata(tmp_path)["sluice.input"]) == {"height": SIZE, "width": SIZE, "channels": 3}
    assert predict(tmp_path).shape == (16, CLASSES)


def test_tensorflow_is_not_needed(tmp_path: Path) -> None:
    """A machine with ONNX's packages alone can wrap a file and quantise it in one go."""
    photos = tiny_onnx.images(tmp_path / "photos")
    file = tiny_onnx.save(tiny_onnx.model(), tmp_path / "tiny.onnx")
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    program = (
        "import sys\n"
        "sys.modules.update(tensorflow=None, keras=None, tf2onnx=None)\n"
        "from export.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    options = ["--labels", str(tmp_path / "labels.txt"), "--preprocess", "unit", "--output", str(tmp_path / "models")]
    options += ["--output-kind", "classes", "--precision", "int8", "--calibrate", str(photos)]
    command = [sys.executable, "-c", program, "--onnx", str(file), *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert metadata(tmp_path)["sluice.precision"] == "int8"


def test_weights_in_a_file_beside_it_are_taken_along(tmp_path: Path) -> None:
    """Larger networks come in two files; the artefact is one."""
    file = tmp_path / "tiny.onnx"
    onnx.save(tiny_onnx.model(), file, save_as_external_data=True, location="tiny.onnx.data", size_threshold=0)
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    options = ["--labels", str(tmp_path / "labels.txt"), "--preprocess", "torch", "--output", str(tmp_path / "models")]
    assert main(["--onnx", str(file), "--output-kind", "classes", *options]) == 0
    expected = softmax(own(tmp_path, (sample_images(SIZE, SIZE) / 255 - MEAN) / DEVIATION))
    (tmp_path / "tiny.onnx.data").unlink()
    np.testing.assert_allclose(predict(tmp_path), expected, atol=1e-5)
