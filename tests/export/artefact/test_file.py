"""Writing an artefact: all of it or nothing, and where it can't be written."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.artefact import file as artefact
from export.artefact import repository
from export.artefact.description import Description, Resize
from export.errors import OutputRefused, UnreadableFile


def description() -> Description:
    return Description(
        name="tiny",
        version=1,
        labels=("Käse", "cup"),
        height=2,
        width=3,
        resize=Resize("squash", None, "bicubic"),
        precision="fp32",
        preprocess="none",
        source={"architecture": "tiny"},
        parity={"images": 16, "max_abs_difference": 0.0, "top1_agreement": 1.0},
        golden_input=np.zeros((2, 3, 3), np.uint8),
        golden_output=np.array([0.25, 0.75], np.float32),
    )


def proto() -> onnx.ModelProto:
    shape = ["N", 2]
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
    same = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [value], [same])
    return onnx.helper.make_model(graph)


def test_the_file_holds_graph_and_metadata(tmp_path: Path) -> None:
    """ExportReport into folders that were not there, readable for everyone, with nothing left beside it."""
    target = repository.path(tmp_path / "models", name="tiny", version=1)
    size_bytes = artefact.write(proto(), description(), target)
    assert target == tmp_path / "models" / "tiny" / "1" / "model.onnx"
    assert target.stat().st_size == size_bytes
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert [entry.name for entry in target.parent.iterdir()] == ["model.onnx"]
    found = {entry.key: entry.value for entry in onnx.load(target).metadata_props}
    assert found["sluice.labels"] == '["Käse", "cup"]'
    assert found["sluice.golden.output"] == "AACAPgAAQD8="


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk in the middle of it changes nothing and leaves nothing behind."""
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputRefused, match="No space left on device"):
        artefact.write(proto(), description(), target)
    assert target.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_a_reader_never_sees_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the whole file is on disk, its name leads to the old one."""
    target, seen = tmp_path / "model.onnx", []
    target.write_bytes(b"old")
    synchronise = os.fsync

    def looking(descriptor: int) -> None:
        seen.append(target.read_bytes() == b"old")
        synchronise(descriptor)

    monkeypatch.setattr(os, "fsync", looking)
    artefact.write(proto(), description(), target)
    assert seen == [True, False]  # the file before it takes its place, the folder afterwards


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    """Before any work is done, and at the writing as well."""
    (tmp_path / "models").write_text("in the way")
    target = repository.path(tmp_path / "models", name="tiny", version=1)
    with pytest.raises(OutputRefused, match="models is not a folder; choose another --output"):
        repository.check_writable(target)
    with pytest.raises(OutputRefused, match="can't write"):
        artefact.write(proto(), description(), target)


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so the system's answer is given for it."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputRefused, match="no permission"):
        repository.check_writable(tmp_path / "models" / "tiny" / "1" / "model.onnx")


def test_folders_that_are_yet_to_be_made_are_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative ones included."""
    monkeypatch.chdir(tmp_path)
    repository.check_writable(Path("models/tiny/1/model.onnx"))
    repository.check_writable(tmp_path / "a" / "b" / "c" / "model.onnx")
    assert [entry.name for entry in tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", ["../../canary", "/canary", "a/b", "", "..", ".hidden", "x" * 101])
def test_the_name_in_a_file_leads_to_no_other_place(tmp_path: Path, name: str) -> None:
    """A form of less precision is written under the name of its fp32 form."""
    artefact.write(proto(), replace(description(), name=name), tmp_path / "model.onnx")
    with pytest.raises(UnreadableFile, match="can't be a model's name"):
        artefact.read(tmp_path / "model.onnx")
