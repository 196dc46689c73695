"""ONNX files that do not fit, or that the user has to say more about."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from export.__main__ import main
from tests.export.sources.test_onnx_file import export
from tests.support.models import tiny_onnx
from tests.support.models.tiny_onnx import SIZE


def two_inputs() -> onnx.ModelProto:
    made = tiny_onnx.model()
    made.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    return made


def rank_2() -> onnx.ModelProto:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    same = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [given], [same])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (two_inputs, "", "2 inputs and 1 outputs (images, mask, scores)"),
        (rank_2, "", "does not take images"),
        (lambda: tiny_onnx.model(batch=4), "", "takes 4 images at a time, no more and no fewer"),
        (tiny_onnx.model, "--layout nhwc", "does not fit --layout nhwc"),
        (tiny_onnx.model, "--size 32", "--size 32x32 does not fit the model's input, which is 16x16"),
        (tiny_onnx.model, "--classes 4", "a model's file brings its own weights and classes"),
        (lambda: tiny_onnx.model(ends="Sigmoid"), "", "it ends in Sigmoid, and the numbers are between"),
        (lambda: tiny_onnx.model(classes=3), "", "has 4 labels, but the model has 3 classes"),
        (tiny_onnx.model, "--tolerance 1e-12", "is allowed"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[], onnx.ModelProto], options: str, message: str
) -> None:
    """Status 2, one sentence, nothing written."""
    assert export(tmp_path, make(), *options.split()) == 2
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.startswith("python -m export: ")]
    assert message in line
    assert not (tmp_path / "models").exists()


def test_a_normalisation_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No file tells it, and a guess would give wrong answers."""
    assert export(tmp_path, tiny_onnx.model(), preprocess="") == 2
    assert "--preprocess unit|tf|none|caffe|torch" in capsys.readouterr().err


def test_a_layout_that_two_readings_fit_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three rows of pixels look like three channels."""
    made = tiny_onnx.model()
    for axis in (1, 3):
        made.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"d{axis}"
    assert export(tmp_path, made, "--size", str(SIZE)) == 2
    assert "say with --layout nhwc|nchw" in capsys.readouterr().err
    assert export(tmp_path, made, "--size", str(SIZE), "--layout", "nchw") == 0


def test_what_is_no_onnx_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing one before anything else, a damaged one with its reason."""
    (tmp_path / "damaged.onnx").write_bytes(b"PK\x03\x04")
    for name, message in (("gone", "No such file"), ("damaged", "can't be read as an ONNX model")):
        assert main(["--onnx", str(tmp_path / f"{name}.onnx"), "--output", str(tmp_path / "models")]) == 2
        assert message in capsys.readouterr().err
    assert main(["resnet50", "--onnx", str(tmp_path / "damaged.onnx")]) == 2
    assert "leave out the architecture" in capsys.readouterr().err
