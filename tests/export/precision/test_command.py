"""int8 and fp16 of an artefact, by the command line: what is written, what is printed, what is refused."""

import base64
import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from export.__main__ import main
from export.artefact import file as artefact
from export.artefact.description import Assumption, Resize
from export.convert import parity, runtime, wrap
from export.convert.output_kind import Head
from export.errors import UnreadableFile
from export.precision import bias_correction, calibration_images, fp16, int8
from export.sources import onnx_file
from tests.support.models import tiny_keras, tiny_onnx

pytestmark = tiny_keras.quiet_keras


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_onnx.images(tmp_path_factory.mktemp("images") / "photos")


@pytest.fixture
def fp32(tmp_path: Path) -> Path:
    """models/tiny/1, wrapped from an ONNX file."""
    (tmp_path / "labels.txt").write_text("one\ntwo\nthree\nfour\n")
    file = tiny_onnx.save(tiny_onnx.model(), tmp_path / "tiny.onnx")
    options = ["--labels", str(tmp_path / "labels.txt"), "--preprocess", "unit", "--output", str(tmp_path / "models")]
    options += ["--output-kind", "classes"]
    assert main(["--onnx", str(file), *options]) == 0
    return tmp_path / "models" / "tiny" / "1"


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def answer(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    probabilities: np.ndarray = session.run(["probabilities"], {"images": images})[0]
    return probabilities


def test_int8_is_a_version_of_its_own(fp32: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside its fp32 form, with the next number, its agreement printed and stored."""
    capsys.readouterr()
    assert main(["--from", str(fp32), "--precision", "int8", "--calibrate", str(photos)]) == 0
    path = fp32.parent / "2" / "model.onnx"
    printed, found, before = capsys.readouterr().out, metadata(path), metadata(fp32 / "model.onnx")
    assert printed.startswith(f"wrote {path}: int8, ")
    assert "of 20 held-out images" in printed
    assert printed.splitlines()[1:] == [
        (
            "services on a CPU change to version 2 unless a release names another: with --watch once its checks pass, "
            "others at a restart by name (sluice serve tiny)"
        )
    ]
    assert (found["sluice.version"], found["sluice.precision"]) == ("2", "int8")
    agreement = json.loads(found["sluice.agreement"])
    assert (agreement["kind"], agreement["images"]) == ("held-out", 20)
    assert agreement["top1_agreement"] >= 0.9
    source = json.loads(found["sluice.source"])
    assert source["reduced_from"] == "tiny/1"
    assert source["file"] == "tiny.onnx"
    for kept in ("sluice.name", "sluice.labels", "sluice.input", "sluice.resize", "sluice.parity"):
        assert found[kept] == before[kept]
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators(path)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_the_agreement_that_is_stored_is_the_one_that_is_found(fp32: Path, photos: Path, precision: str) -> None:
    """Computed here again over the images that were held out."""
    assert main(["--from", str(fp32), "--precision", precision, "--calibrate", str(photos)]) == 0
    path = fp32.parent / "2" / "model.onnx"
    size = tiny_onnx.SIZE
    held_out = calibration_images.read(
        photos, height=size, width=size, resize=Resize("squash", None, "bicubic")
    ).held_out
    expected, given = answer(fp32 / "model.onnx", held_out), answer(path, held_out)
    stored = json.loads(metadata(path)["sluice.agreement"])
    assert 0 < stored["max_abs_difference"] < 0.1
    assert stored["max_abs_difference"] == pytest.approx(np.abs(expected - given).max(), abs=1e-3)
    assert stored["top1_agreement"] == (expected.argmax(1) == given.argmax(1)).mean()


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_the_golden_output_is_the_files_own(fp32: Path, photos: Path, precision: str) -> None:
    """So that a provider that computes it wrong shows, whatever rounding costs; the answer is no flat one."""
    assert main(["--from", str(fp32), "--precision", precision, "--calibrate", str(photos)]) == 0
    path = fp32.parent / "2" / "model.onnx"
    found = metadata(path)
    image = np.frombuffer(zlib.decompress(base64.b64decode(found["sluice.golden.input"])), np.uint8)
    image = image.reshape(1, tiny_onnx.SIZE, tiny_onnx.SIZE, 3)
    golden = np.frombuffer(base64.b64decode(found["sluice.golden.output"]), "<f4")
    np.testing.assert_allclose(answer(path, image)[0], golden, atol=1e-6)
    others = answer(path, parity.sample_images(tiny_onnx.SIZE, tiny_onnx.SIZE))
    assert golden.max() == pytest.approx(others.max(), abs=1e-3)


def test_fp16_keeps_its_ends_and_needs_no_images(fp32: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pixels in, float32 out, half the size within, softmax and mean left as they were."""
    assert main(["--from", str(fp32), "--precision", "fp16", "--version", "7", "--name", "half"]) == 0
    path = fp32.parent.parent / "half" / "7" / "model.onnx"
    assert "synthetic images" in capsys.readouterr().out
    found = onnx.load(path)
    assert [value.type.tensor_type.elem_type for value in (*found.graph.input, *found.graph.output)] == [
        onnx.TensorProto.UINT8,
        onnx.TensorProto.FLOAT,
    ]
    kinds = {tensor.name: tensor.data_type for tensor in found.graph.initializer}
    assert kinds["model/dense.w"] == onnx.TensorProto.FLOAT16
    assert [kind for name, kind in kinds.items() if name.startswith("sluice/")] == [onnx.TensorProto.FLOAT]
    assert metadata(path)["sluice.precision"] == "fp16"
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(found).graph.value_info
    }
    makers = {node.op_type: node for node in found.graph.node}
    for kept in ("Softmax", "GlobalAveragePool"):
        assert types[makers[kept].input[0]] == onnx.TensorProto.FLOAT


def test_a_keras_model_becomes_int8_in_one_go(tmp_path: Path, photos: Path) -> None:
    """Its fp32 form is made on the way and not kept."""
    keras_file = tiny_keras.save(tiny_keras.model(), tmp_path / "tiny.keras")
    options = ["--labels", str(tiny_keras.labels_file(tmp_path)), "--preprocess", "unit"]
    options += ["--precision", "int8", "--calibrate", str(photos), "--output", str(tmp_path / "models")]
    assert main(["--keras", str(keras_file), *options]) == 0
    assert [path.name for path in (tmp_path / "models" / "tiny").iterdir()] == ["1"]
    path = tmp_path / "models" / "tiny" / "1" / "model.onnx"
    assert metadata(path)["sluice.precision"] == "int8"
    assert "QuantizeLinear" in operators(path)
    assert json.loads(metadata(path)["sluice.source"])["file"] == "tiny.keras"


def test_neither_needs_tensorflow(fp32: Path, photos: Path) -> None:
    """Quantising a finished artefact works where only ONNX's packages are installed."""
    program = (
        "import sys\n"
        "sys.modules.update(tensorflow=None, keras=None, tf2onnx=None)\n"
        "from export.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["--from", str(fp32), "--precision", "int8", "--calibrate", str(photos)]
    ended = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    steps = ("images", "calibration and quantisation", "comparison with fp32", "the file")
    assert ended.stderr.splitlines() == [f"[{number}/4] {title}" for number, title in enumerate(steps, 1)]


def test_too_little_agreement_is_refused_unless_allowed(
    fp32: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network whose classes were turned round stands for one that int8 ruins."""

    def ruined(proto: onnx.ModelProto) -> onnx.ModelProto:
        made = onnx.ModelProto()
        made.CopyFrom(proto)
        for tensor in made.graph.initializer:
            if tensor.name == "model/dense.w":
                tensor.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(tensor), tensor.name))
        return made

    monkeypatch.setattr(fp16, "halved", ruined)
    arguments = ["--from", str(fp32), "--precision", "fp16", "--calibrate", str(photos)]
    assert main(arguments) == 2
    assert "90% is wanted, nothing was written" in capsys.readouterr().err
    assert [path.name for path in fp32.parent.iterdir()] == ["1"]
    assert main([*arguments, "--min-agreement", "0"]) == 0
    assert metadata(fp32.parent / "2" / "model.onnx")["sluice.precision"] == "fp16"


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_pixels_keep_their_fractions_in_every_precision(tmp_path: Path, photos: Path, precision: str) -> None:
    """The graph still takes float32, and its answers to whole pixels are near those of fp32."""
    file = tiny_onnx.save(tiny_onnx.model(), tmp_path / "tiny.onnx")
    (tmp_path / "labels.txt").write_text("one\ntwo\nthree\nfour\n")
    options = ["--labels", str(tmp_path / "labels.txt"), "--preprocess", "unit", "--output-kind", "classes"]
    output = ["--like", "image_dataset_from_directory", "--output", str(tmp_path / "models")]
    assert main(["--onnx", str(file), *options, *output]) == 0
    fp32 = tmp_path / "models" / "tiny" / "1"
    assert main(["--from", str(fp32), "--precision", precision, "--calibrate", str(photos)]) == 0
    images = parity.sample_images(tiny_onnx.SIZE, tiny_onnx.SIZE).astype(np.float32)
    exact, reduced = (answer(fp32.parent / version / "model.onnx", images) for version in ("1", "2"))
    assert np.abs(exact - reduced).max() < 0.2
    resize = json.loads(metadata(fp32.parent / "2" / "model.onnx")["sluice.resize"])
    assert (resize["rounded"], resize["fast_dct"]) == (False, True)


def test_correcting_the_biases_brings_means_back(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the shift that rounding gives the logits on average, most is gone."""
    size = tiny_onnx.SIZE
    images = calibration_images.read(
        photos, height=size, width=size, resize=Resize("squash", None, "bicubic")
    ).calibration
    model = onnx_file.load(tiny_onnx.save(tiny_onnx.model(residual=False), tmp_path / "a.onnx"), layout=None, size=None)
    head = Head("values", "as-is", Assumption("values", "stated", ""))
    exact = wrap.wrapped(model.to_onnx(17), model.input, preprocess="unit", head=head, outputs=tiny_onnx.CLASSES)
    corrected = int8.quantised(exact, images, lambda *_: None)
    monkeypatch.setattr(bias_correction, "correct", lambda *_: None)
    rounded = int8.quantised(exact, images, lambda *_: None)
    mean, *others = (
        runtime.answering(proto.SerializeToString())(images).mean(axis=0) for proto in (exact, corrected, rounded)
    )
    with_correction, without = (float(np.abs(other - mean).mean()) for other in others)
    assert with_correction < 0.4 * without


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--from {fp32}", "pass --precision int8 or --precision fp16"),
        ("--from {fp32} --precision int8", "needs --calibrate FOLDER with 16 images"),
        ("--from {fp32} --precision int8 --calibrate {empty}", "holds 0 images, at least 16"),
        ("--from {fp32} --precision int8 --calibrate {gone}", "is not a folder"),
        ("--from {fp32} --precision fp16 --labels x", "leave these options out"),
        ("--from {fp32} --precision fp16 --size 16", "leave these options out"),
        ("--from {fp32} --precision fp16 --layout nhwc", "leave these options out"),
        ("--from {fp32} --precision fp16 --if-missing", "needs --version"),
        ("--from {fp32} --precision fp16 --version 1", "is there already: --version 2"),
        ("--from {fp32}/.. --precision fp16", "name the artefact's file or its folder (in it: "),
        ("--from {gone} --precision fp16", "(in it: none)"),
        ("--from {foreign} --precision fp16", "is no artefact of this format ('sluice.format'): export it first"),
        ("--from {empty}/notes.txt --precision fp16", "can't read"),
        ("resnet50 --from {fp32} --precision fp16", "leave out the architecture"),
        ("resnet50 --calibrate {photos}", "pass --precision int8"),
        ("efficientnet-lite0 --precision int8", "needs --calibrate"),
    ],
)
def test_what_can_not_work_ends_with_status_2(
    fp32: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    """One sentence on stderr that says what to do, and nothing written."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    names = {"fp32": fp32, "photos": photos, "empty": tmp_path / "empty", "gone": tmp_path / "gone"}
    capsys.readouterr()
    assert main([word.format(**names, foreign=tmp_path / "tiny.onnx") for word in arguments.split()]) == 2
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.startswith("python -m export: ")]
    assert message in line
    assert captured.out == ""
    assert [path.name for path in fp32.parent.iterdir()] == ["1"]


def test_int8_is_not_reduced_again(fp32: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor made fp16: both start from fp32."""
    reduce = ["--calibrate", str(photos), "--precision", "int8"]
    assert main(["--from", str(fp32), *reduce]) == 0
    assert main(["--from", str(fp32.parent / "2"), *reduce]) == 2
    assert "is int8 already: only an fp32 artefact can be reduced" in capsys.readouterr().err


def test_what_is_there_is_left_or_replaced_as_asked(fp32: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As with any other export."""
    reduce = ["--from", str(fp32 / "model.onnx"), "--precision", "fp16", "--version", "2"]
    assert main(reduce) == 0
    capsys.readouterr()
    assert main([*reduce, "--if-missing"]) == 0
    assert capsys.readouterr().out == f"{fp32.parent / '2' / 'model.onnx'} is there already\n"
    assert main([*reduce, "--force"]) == 0


def test_damaged_metadata_are_refused(fp32: Path) -> None:
    """Each with the reason, and with no traceback of json's or zlib's."""
    for key, value in (
        ("sluice.format", "9"),
        ("sluice.labels", "{"),
        ("sluice.precision", "int4"),
        ("sluice.golden.input", "AAAA"),
    ):
        proto = onnx.load(fp32 / "model.onnx")
        next(entry for entry in proto.metadata_props if entry.key == key).value = value
        onnx.save(proto, fp32 / "damaged.onnx")
        with pytest.raises(UnreadableFile, match="is no artefact of this format"):
            artefact.read(fp32 / "damaged.onnx")
