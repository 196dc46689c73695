"""The command line: what is checked before TensorFlow is started, the ways to run it, and its errors."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from export import job
from export.__main__ import main
from export.arguments import parse
from export.errors import ExportError, WeightsUnavailable
from export.sources import keras_application, tensorflow_setup
from export.sources.architectures import find
from tests.support.models import tiny_keras
from tests.support.models.lite0 import NO_NETWORK, Exported

pytestmark = tiny_keras.quiet_keras


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def present(output: Path, name: str) -> Path:
    path = output / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"there")
    return path


def test_tensorflow_is_not_imported_for_what_can_do_without(tmp_path: Path) -> None:
    """Help, a wrong argument and a file that is there already answer at once."""
    present(tmp_path, "resnet50")
    program = (
        "import sys\n"
        "from export.__main__ import main\n"
        "try:\n"
        "    status = main(sys.argv[1:])\n"
        "except SystemExit as error:\n"
        "    status = error.code\n"
        "print(status, [name for name in ('tensorflow', 'keras', 'onnx', 'h5py') if name in sys.modules])\n"
    )
    for arguments, status in (
        (["--help"], 0),
        (["resnet51"], 2),
        (["--keras", "gone.keras"], 2),
        (["--output", str(tmp_path), "--version", "1"], 2),
        (["--output", str(tmp_path), "--if-missing"], 0),
    ):
        ended = python("-c", program, *arguments)
        assert ended.stdout.splitlines()[-1] == f"{status} []", (arguments, ended.stderr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("resnet51", "there is no architecture 'resnet51'; try one of: "),
        ("--fallback lite", "there is no architecture 'lite'"),
        ("resnet50 --keras {folder}/tiny.keras", "leave out the architecture"),
        ("--keras {folder}/gone.keras", "gone.keras: No such file"),
        ("{folder}/tiny.kears", "tiny.kears: No such file or directory; is it {folder}/tiny.keras?"),
        ("gone.kears", "gone.kears: No such file or directory"),
        ("{folder}/other.keras", "other.keras: No such file or directory\n"),
        ("my_flowers", "there is no architecture 'my_flowers', nor such a file (write its whole name, such as my_"),
        ("--keras {folder}/tiny.keras --weights none", "leave out --weights"),
        ("--weights {folder}/gone.h5", "gone.h5: No such file"),
        ("--labels {folder}/gone.txt", "gone.txt: No such file"),
        ("--labels {folder}/two.txt", "has 2 labels, but the model has 1000 classes"),
        ("--weights none --classes 3", "has 1000 labels, but the model has 3 classes"),
        (
            "resnet50 --weights {folder}/tiny.keras --labels imagenet --preprocess caffe",
            "does not tell the size of its training's images",
        ),
        ("resnet50 --weights {folder}/tiny.keras --fallback vgg16", "whose weights are downloaded: leave it out"),
        ("--classes 3", "the ImageNet weights have 1000 classes"),
        ("--size 100", "are for 224x224 pixels"),
        ("--name ../up", "can't be a model's name"),
        ("--shorter-side 256", "--shorter-side needs --resize crop"),
        ("--resize crop --shorter-side 200", "less than the 224 pixels"),
        ("--output {folder}/two.txt", "two.txt is not a folder; choose another --output"),
        ("efficientnet-lite0 --version 1 --output {folder}/models", "is there already: --version 2"),
    ],
)
def test_arguments_that_can_not_work_end_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    """One sentence on stderr that says what to do."""
    (tmp_path / "two.txt").write_text("one\ntwo\n")
    (tmp_path / "tiny.keras").write_bytes(b"")
    present(tmp_path / "models", "efficientnet-lite0")
    words = [word.format(folder=tmp_path) for word in arguments.split()]
    if "--output" not in words:
        words += ["--output", str(tmp_path / "other")]
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message.format(folder=tmp_path) in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        "--version 0",
        "--version 1.0",
        "--opset 99",
        "--tolerance 0",
        "--size x",
        "--resize fit",
        "--preprocess rgb",
        "--if",
    ],
)
def test_values_out_of_range_end_with_status_2(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Argparse says which option, and what it takes."""
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2
    assert arguments.split()[0] in capsys.readouterr().err


def test_what_is_there_already_is_left_or_replaced_as_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--if-missing is content with it, --force replaces it, neither refuses."""
    keras_file = tiny_keras.save(tiny_keras.model(), tmp_path / "tiny.keras")
    labels, path = tiny_keras.labels_file(tmp_path), present(tmp_path, "tiny")
    options = ["--keras", str(keras_file), "--labels", str(labels), "--preprocess", "unit", "--output", str(tmp_path)]
    assert main([*options, "--version", "1"]) == 2
    assert main([*options, "--if-missing"]) == 0
    assert capsys.readouterr().out == f"{path} is there already\n"
    assert path.read_bytes() == b"there"
    assert main([*options, "--force"]) == 0
    assert onnx.load(path).graph.output[0].name == "probabilities"


def test_a_fallback_that_is_there_is_enough_for_if_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else every start without a network would try the download again."""
    path = present(tmp_path, "efficientnet-lite0")
    assert main(["--output", str(tmp_path), "--if-missing", "--fallback", "efficientnet-lite0"]) == 0
    assert capsys.readouterr().out == f"{path} is there already\n"


def test_a_model_that_was_copied_there_is_enough_for_if_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name is no architecture's. Compose starts the service `export` so, whatever is in the volume."""
    options = ["flowers", "--output", str(tmp_path), "--if-missing", "--fallback", "efficientnet-lite0"]
    assert main(options) == 2
    path = present(tmp_path, "flowers")
    assert main(options) == 0
    assert capsys.readouterr().out == f"{path} is there already\n"


def test_without_a_network_the_ways_out_are_named(tmp_path: Path) -> None:
    """Status 2, in seconds, one sentence, no traceback."""
    ended = python("-m", "export", "--output", str(tmp_path), KERAS_HOME=str(tmp_path / "home"), **NO_NETWORK)
    assert ended.returncode == 2
    assert ended.stdout == ""
    message = ended.stderr.splitlines()[-1]
    assert message.startswith(
        "python -m export: the ImageNet weights of resnet50 can't be downloaded (storage.googleapis.com: "
    )
    for way_out in ("--weights FILE", "--weights none", "efficientnet-lite0", "KERAS_HOME"):
        assert way_out in message
    assert "Traceback" not in ended.stderr


def test_without_a_network_the_fallback_is_exported(exported_lite0: Exported) -> None:
    """One plain line says so, and stdout has what was written and the four decisions."""
    output, ended = exported_lite0.models_dir, exported_lite0.ended
    assert ended.returncode == 0, ended.stderr
    assert [path.name for path in output.iterdir()] == ["efficientnet-lite0"]
    assert ended.stdout.startswith(f"wrote {output}/efficientnet-lite0/1/model.onnx: 18.6 MB in ")
    assert ended.stdout.count("\n") == 5
    assert ended.stdout.splitlines()[1].startswith("normalisation lite (known: ")
    (plain,) = [line for line in ended.stderr.splitlines() if line.startswith("python -m export:")]
    assert plain.endswith("; exporting efficientnet-lite0 instead")
    assert "oneDNN" not in ended.stderr


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("flowers/1", "flowers"),
        ("flowers/2/model.onnx", "flowers"),
        ("2/roses.onnx", "roses"),
        ("flowers.v1.keras", "flowers.v1"),
    ],
)
def test_a_version_folder_names_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, name: str
) -> None:
    """As TensorFlow Serving and Triton lay out their models: the folder above it does."""
    (tmp_path / "flowers/1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    found = parse([given]).job
    assert found is not None
    assert found.model_name == name


def test_a_file_that_is_named_without_its_ending_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And not called an unknown network only."""
    (tmp_path / "flowers.keras").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert main(["flowers"]) == 2
    assert "for the file flowers.keras, write its whole name" in capsys.readouterr().err


def test_a_fallback_keeps_none_of_the_other_networks_ways() -> None:
    """Its size, normalisation and resizing are its own; a name that the user chose stays."""
    given = parse(["--fallback", "efficientnet-lite0", "--resize", "squash", "--name", "photos"])
    assert given.fallback is not None
    assert given.job is not None
    fallback = job.with_fallback(given.job, given.fallback)
    resize = fallback.resize.resolved(224, 224, fallback.default_resize())
    assert (resize.mode, resize.shorter_side) == ("crop", 256)
    assert fallback.model_name == "photos"
    assert given.job.resize.resolved(224, 224, given.job.default_resize()).mode == "squash"


def test_a_named_network_takes_weights_and_classes_of_ones_own(tmp_path: Path) -> None:
    """As many outputs as there are labels, with the weights of the file."""
    own = keras.applications.MobileNetV3Small(weights=None, classes=3, input_shape=(32, 32, 3))
    own.save_weights(tmp_path / "own.weights.h5")
    labels = tiny_keras.labels_file(tmp_path)
    network = keras_application.load(
        find("mobilenetv3small"), weights=tmp_path / "own.weights.h5", classes=3, size=(32, 32)
    )
    pixels = np.random.default_rng(6).integers(0, 256, (2, 32, 32, 3), np.uint8)
    answer = network.predict(pixels.astype(np.float32))
    np.testing.assert_allclose(answer, own.predict(pixels.astype(np.float32), verbose=0), atol=1e-6)
    given = parse(["mobilenetv3small", "--weights", str(tmp_path / "own.weights.h5"), "--labels", str(labels)])
    assert given.job is not None
    assert job.classes(given.job) == 3


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    """With the file's name and what was expected of it."""
    tiny_keras.model().save_weights(tmp_path / "own.weights.h5")
    with pytest.raises(ExportError, match=r"read as weights of the whole mobilenetv3small of .* with 1000 classes"):
        keras_application.load(find("mobilenetv3small"), weights=tmp_path / "own.weights.h5", classes=1000, size=None)


def test_efficientnets_downloaded_weights_give_what_keras_makes_of_them() -> None:
    """A file of ImageNet weights lacks the layer that Keras adds when it downloads them itself."""
    mean, variance = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]) ** 2
    normalisation = keras.layers.Normalization()
    loaded = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Rescaling(1 / 255), normalisation])
    normalisation.adapt_mean.assign(mean)
    normalisation.adapt_variance.assign(variance)
    normalisation.finalize_state()
    pixels = np.random.default_rng(7).uniform(0, 255, (1, 4, 4, 3)).astype(np.float32)
    before = loaded(pixels)
    keras_application.mend_efficientnet(loaded)
    added = keras.layers.Rescaling([1 / np.sqrt(0.229), 1 / np.sqrt(0.224), 1 / np.sqrt(0.225)])
    mended = np.asarray(loaded(pixels))
    np.testing.assert_allclose(mended, added(before), rtol=1e-5)
    keras_application.mend_efficientnet(loaded)  # no longer ImageNet's variance, so left alone
    np.testing.assert_array_equal(loaded(pixels), mended)


def test_a_download_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras itself waits for ever. What the system reports is printed in its own words, with commands as typed."""
    seen = []

    def stalling(**_options: object) -> keras.Model:
        seen.append(socket.getdefaulttimeout())
        raise TimeoutError("timed out")

    monkeypatch.setattr(keras.applications, "ResNet50", stalling)
    monkeypatch.setenv("SLUICE_PROGRAM", "sluice serve")
    with pytest.raises(WeightsUnavailable, match=r"can't be downloaded \(timed out\)") as unavailable:
        keras_application.load(find("resnet50"), weights="imagenet", classes=1000, size=None)
    assert "`sluice export efficientnet-lite0`, whose weights" in str(unavailable.value)
    assert seen == [tensorflow_setup.DOWNLOAD_TIMEOUT_S]
