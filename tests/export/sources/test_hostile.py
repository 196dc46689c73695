"""Files that would run code, or read or write other files: all are refused, and a canary shows that nothing ran."""

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
import tf_keras

from export.__main__ import main
from tests.export.refusal import refused
from tests.support.models import tiny_keras, tiny_onnx

pytestmark = [tiny_keras.quiet_keras, pytest.mark.filterwarnings("ignore::UserWarning")]

Config = dict[str, Any]
Edit = Callable[[Config], None]


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One classifier in each format, to be spoilt: keras3.keras, keras3.h5, keras2.keras, keras2.h5."""
    folder = tmp_path_factory.mktemp("harmless")
    for name, library in (("keras3", keras), ("keras2", tf_keras)):
        layers = [library.layers.InputLayer((8, 8, 3)), library.layers.Flatten()]
        model = library.Sequential([*layers, library.layers.Dense(2, activation="softmax", name="dense")])
        model.save(folder / f"{name}.keras")
        model.save(folder / f"{name}.h5")
    given = tf_keras.Input((8, 8, 3))
    added = tf.math.add(tf_keras.layers.Flatten()(given), 1.0)
    called = tf_keras.Model(given, tf_keras.layers.Dense(2, activation="softmax")(added))
    called.save(folder / "calling.h5")
    called.save(folder / "calling.keras")
    return folder


def edited(source: Path, target: Path, edit: Edit) -> Path:
    """A copy with another configuration."""
    if source.suffix == ".h5":
        shutil.copy(source, target)
        with h5py.File(target, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            edit(config)
            file.attrs["model_config"] = json.dumps(config)
        return target
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as copy:
        for name in archive.namelist():
            data = archive.read(name)
            if name == "config.json":
                config = json.loads(data)
                edit(config)
                data = json.dumps(config).encode()
            copy.writestr(name, data)
    return target


def last_layer(config: Config) -> Config:
    layer: Config = config["config"]["layers"][-1]
    return layer


def with_layer(name: str, inner: Config, module: str | None = "keras.layers") -> Edit:
    def edit(config: Config) -> None:
        layer = {"class_name": name, "module": module, "registered_name": None, "config": {"name": "trap", **inner}}
        config["config"]["layers"].append(layer)

    return edit


def with_activation(activation: object) -> Edit:
    def edit(config: Config) -> None:
        last_layer(config)["config"]["activation"] = activation

    return edit


def calling(function: str, **arguments: object) -> Edit:
    def edit(config: Config) -> None:
        (layer,) = [layer for layer in config["config"]["layers"] if layer["class_name"] == "TFOpLambda"]
        layer["config"]["function"] = function
        text = json.dumps(layer).replace('"y": 1.0', json.dumps(arguments)[1:-1])
        layer.update(json.loads(text))

    return edit


_SYSTEM = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
_LOOKUP = with_layer("StringLookup", {"vocabulary": "/etc/passwd", "invert": True})


@pytest.mark.parametrize(
    ("source", "edit"),
    [
        *((source, with_activation(_SYSTEM)) for source in ("keras3.keras", "keras3.h5", "keras2.keras", "keras2.h5")),
        *((source, with_activation("os.system")) for source in ("keras3.keras", "keras2.h5")),
        *((source, _LOOKUP) for source in ("keras3.keras", "keras3.h5", "keras2.keras", "keras2.h5")),
        ("keras3.keras", with_layer("TFSMLayer", {"filepath": "/tmp"})),  # noqa: S108
        ("keras3.keras", with_layer("system", {"command": "touch {canary}"}, "os")),
        ("keras2.h5", with_layer("Lambda", {"function": "system", "function_type": "function", "module": "os"})),
        ("keras3.keras", with_layer("TorchModuleWrapper", {"module": "gASV"})),
        ("calling.h5", calling("io.write_file", contents="canary")),
        ("calling.keras", calling("io.write_file", contents="canary")),
        ("calling.h5", calling("py_function", inp=[1.0], Tout="float32")),
        ("calling.h5", calling("keras.utils.get_file", origin="http://127.0.0.1:9/")),
    ],
)
def test_a_configuration_that_names_code_or_files_isrefused(
    harmless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, edit: Edit
) -> None:
    """Functions of other modules, lookups of files, foreign layers, and any function of TensorFlow by its name."""
    refused(edited(harmless / source, tmp_path / f"trap{Path(source).suffix}", edit), tmp_path, capsys)


@pytest.mark.parametrize(
    ("library", "suffix"), [(keras, ".keras"), (keras, ".h5"), (tf_keras, ".keras"), (tf_keras, ".h5")]
)
def test_a_lambda_is_never_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], library: Any, suffix: str) -> None:
    """tf-keras by itself runs the bytecode of one in an .h5."""
    canary = str(tmp_path / "canary")
    trap = library.layers.Lambda(eval(f"lambda x: (open({canary!r}, 'w'), x)[1]"), output_shape=(8, 8, 3))  # noqa: S307
    layers = [library.layers.InputLayer((8, 8, 3)), trap, library.layers.Flatten()]
    model = library.Sequential([*layers, library.layers.Dense(2)])
    Path(canary).unlink(missing_ok=True)
    file, folder = (tmp_path / "run=1" / name for name in (f"trap{suffix}", "trap_savedmodel"))
    file.parent.mkdir()
    model.save(file)
    typed = f"    python -m export {folder} --labels {tmp_path / 'names.txt'} --preprocess unit --output "
    refused(file, tmp_path, capsys, "which is never run", f'model.export("{folder}")', typed)


def test_a_module_is_never_imported(
    harmless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one that is there to be imported."""
    (tmp_path / "trap_module.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\nclass Layer: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for source in ("keras3.keras", "keras2.keras"):
        made = edited(harmless / source, tmp_path / "trap.keras", with_layer("Layer", {}, "trap_module"))
        refused(made, tmp_path, capsys, "'Layer' of the module trap_module", "model.export(")


def _external_link(file: h5py.File, name: str, secret: Path) -> None:
    file[name] = h5py.ExternalLink(str(secret), "/weights")


def _external_storage(file: h5py.File, name: str, secret: Path) -> None:
    file.create_dataset(name, (192, 2), "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def _virtual(file: h5py.File, name: str, secret: Path) -> None:
    layout = h5py.VirtualLayout((192, 2), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "weights", (192, 2))
    file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize("make", [_external_link, _external_storage, _virtual])
@pytest.mark.parametrize("source", ["keras3.keras", "keras3.h5", "keras2.keras", "keras2.h5"])
def test_weights_are_never_read_from_another_file(
    harmless: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: str,
    make: Callable[[h5py.File, str, Path], None],
) -> None:
    """HDF5 has three ways to hold data elsewhere."""
    secret, target = tmp_path / "secret.h5", tmp_path / f"trap{Path(source).suffix}"
    with h5py.File(secret, "w") as file:
        file["weights"] = np.full((192, 2), 7, "f4")
    if source.endswith(".h5"):
        shutil.copy(harmless / source, target)
        with h5py.File(target, "r+") as file:
            make(file, "elsewhere", secret)
    else:
        with zipfile.ZipFile(harmless / source) as archive, zipfile.ZipFile(target, "w") as copy:
            for name in archive.namelist():
                data = io.BytesIO(archive.read(name))
                if name == "model.weights.h5":
                    with h5py.File(data, "r+") as file:
                        make(file, "elsewhere", secret)
                copy.writestr(name, data.getvalue())
    refused(target, tmp_path, capsys, "another file")


def _cycle(file: h5py.File) -> None:
    file["model_weights/again"] = file["/"]


def _doubling(file: h5py.File) -> None:
    """Each group holds the one before twice: 2**60 ways lead to the first."""
    group = file.create_group("group0")
    for number in range(1, 60):
        outer = file.create_group(f"group{number}")
        outer["a"] = outer["b"] = group
        group = outer


@pytest.mark.parametrize("make", [_cycle, _doubling])
def test_groups_of_groups_are_looked_at_once(harmless: Path, tmp_path: Path, make: Callable[[h5py.File], None]) -> None:
    """Walking along every path would never end; the weights themselves are as they should be."""
    shutil.copy(harmless / "keras3.h5", tmp_path / "trap.h5")
    with h5py.File(tmp_path / "trap.h5", "r+") as file:
        make(file)
        file["nowhere"] = h5py.SoftLink("/no/such/group")
        file["type"] = np.dtype("f4")
    labels = tmp_path / "names.txt"
    labels.write_text("one\ntwo\n")
    words = ["--labels", str(labels), "--preprocess", "unit", "--output", str(tmp_path / "models")]
    assert main([str(tmp_path / "trap.h5"), *words]) == 0


def test_a_file_that_fills_the_memory_is_refused(
    harmless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A few kilobytes that unpack to gigabytes: in HDF5, whose data may be zeros of any number, and in a zip."""
    shutil.copy(harmless / "keras2.h5", tmp_path / "trap.h5")
    with h5py.File(tmp_path / "trap.h5", "r+") as file:
        file.create_dataset("zeros", (1_000_000, 10_000), "f4", chunks=(1000, 1000), compression="gzip")
    refused(tmp_path / "trap.h5", tmp_path, capsys, "unpacked, it would take 37.3 GiB")
    shutil.copy(harmless / "keras3.keras", tmp_path / "trap.keras")
    zeros = bytes(2**24)
    with (
        zipfile.ZipFile(tmp_path / "trap.keras", "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("assets/zeros", "w") as member,
    ):
        for _ in range(80):
            member.write(zeros)
    refused(tmp_path / "trap.keras", tmp_path, capsys, "unpacked, it would take 1.3 GiB")


@pytest.mark.parametrize("member", ["../canary", "/{folder}/canary", "assets/../../canary", "..\\canary"])
@pytest.mark.parametrize("kind", ["keras", "teachable machine"])
def test_a_zip_never_writes_outside_of_its_folder(
    harmless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], member: str, kind: str
) -> None:
    """Neither a .keras file nor a download from Teachable Machine."""
    target = tmp_path / ("trap.keras" if kind == "keras" else "trap.zip")
    if kind == "keras":
        shutil.copy(harmless / "keras3.keras", target)
    with zipfile.ZipFile(target, "a") as archive:
        if kind != "keras":
            archive.write(harmless / "keras2.h5", "keras_model.h5")
        archive.writestr(member.format(folder=tmp_path) + ("" if kind == "keras" else ".txt"), "canary")
    refused(target, tmp_path, capsys, "outside of its folder")


class _Pickled:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.canary), "w")


def test_labels_are_never_unpickled(harmless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever they are called."""
    for name in ("labels.txt", "labels.pkl", "labels.json"):
        (tmp_path / name).write_bytes(pickle.dumps(_Pickled(tmp_path / "canary")))
        refused(harmless / "keras3.keras", tmp_path, capsys, "not UTF-8", labels=name)


def test_onnx_weights_are_never_read_from_outside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only from the model's own folder."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "secret.data").write_bytes(bytes(10_000))
    made = tiny_onnx.model(ends="Softmax")
    onnx.save(
        made, tmp_path / "inner" / "trap.onnx", save_as_external_data=True, location="trap.data", size_threshold=0
    )
    proto = onnx.load(tmp_path / "inner" / "trap.onnx", load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../secret.data"
    (tmp_path / "inner" / "trap.onnx").write_bytes(proto.SerializeToString())
    refused(tmp_path / "inner" / "trap.onnx", tmp_path, capsys, "outside of its own folder")
