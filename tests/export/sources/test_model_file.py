"""Files and folders that hold no model: each with what it is, and what to pass instead."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from export.errors import UnreadableFile
from export.sources import model_file
from tests.export.sources.test_keras_file import export
from tests.support.models import tiny_keras

pytestmark = tiny_keras.quiet_keras


def _damaged(path: Path) -> Path:
    path.write_bytes(b"PK\x03\x04 nothing that follows")
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _folder_with(file: str) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.mkdir()
        (path / file).touch()
        return path

    return make


def _weights_only(path: Path) -> Path:
    with h5py.File(path, "w"):
        return path


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("gone.keras", lambda path: path, "can't read"),
        ("folder.keras", _folder, "is a folder, but not a SavedModel"),
        ("folder", _folder_with("config.json"), "zip -r ../folder.keras ."),
        ("folder", _folder_with("ckpt.index"), "which has weights and no model"),
        ("damaged.keras", _damaged, "not a model that can be read"),
        ("damaged.h5", _damaged, "not a model that can be read"),
        ("weights.h5", _weights_only, "holds weights and no model"),
        ("model.pb", _damaged, "pass the folder that it is in"),
    ],
)
def test_files_that_can_not_be_read_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, make: Callable[[Path], Path], message: str
) -> None:
    """One sentence on stderr, no traceback."""
    assert export(tmp_path, make(tmp_path / name), "--preprocess", "unit") == 2
    assert message in (error := capsys.readouterr().err)
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.keras", b"", "is empty"),
        ("lfs.h5", b"version https://git-lfs.github.com/spec/v1", "run git lfs pull"),
        ("page.h5", b"<!DOCTYPE html>", "the download did not work"),
        ("model.tflite", b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
        ("model.pth", b"\x80\x02", "torch.onnx.export"),
        ("ckpt.index", b"\0", "which has weights and no model"),
        ("model.pkl", b"\x80\x04", "a pickle, which is never read"),
        ("model.json", b'{"class_name": "Sequential"}', "a configuration without weights"),
    ],
)
def test_other_files_are_recognised(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """By their first bytes, then by their suffix."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableFile, match=message):
        model_file.kind_of(tmp_path / name)


def test_the_content_decides_what_a_file_is(tmp_path: Path) -> None:
    """TensorFlow 2.12 writes HDF5 under the name .keras."""
    with h5py.File(tmp_path / "old.keras", "w"):
        pass
    with zipfile.ZipFile(tmp_path / "new.h5", "w") as archive:
        archive.writestr("config.json", "{}")
    assert model_file.kind_of(tmp_path / "old.keras") == "keras"
    assert model_file.kind_of(tmp_path / "new.h5") == "keras"
    (tmp_path / "saved" / "inner").mkdir(parents=True)
    (tmp_path / "saved" / "inner" / "saved_model.pb").write_bytes(b"")
    assert model_file.kind_of(tmp_path / "saved" / "inner") == "saved_model"
    with pytest.raises(UnreadableFile, match=r"pass .*saved/inner"):
        model_file.kind_of(tmp_path / "saved")
