"""Which artefact a run serves: the export of a file is reused while the file and the options are unchanged."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from sluice import models
from sluice.models import ExportFailed, Served, prepare


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands of the exports that ran; each writes an empty artefact where a real one would."""
    commands: list[tuple[str, ...]] = []

    def export(source: str, options: tuple[str, ...], *, models_dir: Path, typed: str) -> Path:
        assert typed == ""
        commands.append((source, *options))
        given = dict(pairwise(options))
        name = given.get("--name", source)
        following = str(max(map(int, models.versions_of(models_dir, name)), default=0) + 1)
        path = models_dir / name / given.get("--version", following) / "model.onnx"
        path.parent.mkdir(parents=True)
        path.touch()
        return path

    monkeypatch.setattr(models, "_export", export)
    return commands


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    path = tmp_path / "my flowers.keras"
    path.write_bytes(b"weights")
    return path


def test_an_unchanged_file_is_exported_once(exports: list[tuple[str, ...]], flowers: Path, tmp_path: Path) -> None:
    """The second run names the version that is there."""
    first = prepare(str(flowers), (), tmp_path / "models")
    again = prepare(str(flowers), (), tmp_path / "models")
    assert first == Served("my-flowers", "1", "exported now", pinned=True)
    assert again == Served("my-flowers", "1", "unchanged since its export", pinned=True)
    assert exports == [(str(flowers), "--name", "my-flowers", "--version", "1")]


def test_a_changed_file_becomes_the_next_version(exports: list[tuple[str, ...]], flowers: Path, tmp_path: Path) -> None:
    """The old version stays, and is found again when the old file comes back."""
    prepare(str(flowers), (), tmp_path / "models")
    flowers.write_bytes(b"other weights")
    assert prepare(str(flowers), (), tmp_path / "models").version == "2"
    flowers.write_bytes(b"weights")
    assert prepare(str(flowers), (), tmp_path / "models").version == "1"
    assert len(exports) == 2


@pytest.mark.parametrize("form", ["--labels {}", "--labels={}"])
def test_a_changed_labels_file_is_a_change(
    exports: list[tuple[str, ...]], flowers: Path, tmp_path: Path, form: str
) -> None:
    """The content of the files that options name counts, not only their names."""
    labels = tmp_path / "labels.txt"
    labels.write_text("rose\ntulip\n")
    options = form.format(labels).split()
    prepare(str(flowers), options, tmp_path / "models")
    labels.write_text("tulip\nrose\n")
    assert prepare(str(flowers), options, tmp_path / "models").version == "2"
    assert len(exports) == 2


def test_the_default_is_exported_once_and_falls_back(exports: list[tuple[str, ...]], tmp_path: Path) -> None:
    """Without a model, ResNet50 is tried first; the fallback is kept where it was made."""
    assert prepare("", (), tmp_path) == Served(models.DEFAULT, "1", "the default")
    assert exports == [(models.DEFAULT, "--fallback", models.FALLBACK)]
    assert prepare("", (), tmp_path).reason == "already exported"


def test_a_named_network_is_never_replaced_by_the_fallback(exports: list[tuple[str, ...]], tmp_path: Path) -> None:
    """A named network is served, or the reason why not is printed, even if another one exists. Its case is ignored."""
    (tmp_path / models.FALLBACK / "1").mkdir(parents=True)
    (tmp_path / models.FALLBACK / "1" / "model.onnx").touch()
    served = prepare("MobileNetV2", (), tmp_path)
    assert served.name == "mobilenetv2"
    assert exports == [("mobilenetv2", "--name", "mobilenetv2", "--version", "1")]
    assert prepare("mobilenetv2", (), tmp_path).reason == "already exported"


def test_a_name_that_is_neither_a_network_nor_exported_lists_both(
    exports: list[tuple[str, ...]], flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The models of the folder first: the name is more often a slip in one of them."""
    prepare(str(flowers), (), tmp_path / "models")
    with pytest.raises(ExportFailed):
        prepare("resnet5", (), tmp_path / "models")
    has = f"{tmp_path / 'models'} has my-flowers, but no 'resnet5', and there is no architecture 'resnet5'"
    assert capsys.readouterr().err.startswith(f"sluice serve: {has}; try one of: resnet50, ")
    assert len(exports) == 1


def test_a_failed_export_ends_with_its_status(tmp_path: Path) -> None:
    """The export itself says what is wrong."""
    with pytest.raises(ExportFailed) as failure:
        prepare(str(tmp_path / "missing.keras"), (), tmp_path / "models")
    assert failure.value.status == 2
    assert not (tmp_path / "models").exists()


def test_an_export_is_served_in_the_named_version(
    exports: list[tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the option or the variable; a version that is not there is refused, with those that are."""
    for version in ("5", "6"):
        (tmp_path / "flowers" / version).mkdir(parents=True)
        (tmp_path / "flowers" / version / "model.onnx").touch()
    assert prepare("flowers", ("--version", "5"), tmp_path) == Served("flowers", "5", "already exported", pinned=True)
    with pytest.raises(ExportFailed):
        prepare("flowers", ("--version=7",), tmp_path)
    assert f"{tmp_path}/flowers has versions 5, 6, but not 7. Make it with:" in capsys.readouterr().err
    assert prepare("flowers", (), tmp_path).version == "6"
    monkeypatch.setenv("SLUICE_VERSION", "5")
    assert prepare("flowers", (), tmp_path).version == "5"
    monkeypatch.setenv("SLUICE_VERSION", "7")
    with pytest.raises(ExportFailed):
        prepare("flowers", (), tmp_path)
    assert "has versions 5, 6, but not 7, which SLUICE_VERSION asks for. Make it with:" in capsys.readouterr().err
    assert not exports


def test_options_of_an_export_that_is_there_already_are_refused(
    exports: list[tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They would have no effect. A network by name is exported again with them."""
    for name in ("flowers", "resnet50"):
        (tmp_path / name / "2").mkdir(parents=True)
        (tmp_path / name / "2" / "model.onnx").touch()
    with pytest.raises(ExportFailed):
        prepare("flowers", ("--labels", "my labels.txt"), tmp_path)
    assert "flowers is exported already, and --labels 'my labels.txt' would change nothing." in capsys.readouterr().err
    assert not exports
    prepare("resnet50", ("--labels", "labels.txt"), tmp_path)
    assert len(exports) == 1


def test_the_version_of_an_export_can_be_named(exports: list[tuple[str, ...]], flowers: Path, tmp_path: Path) -> None:
    """Its record lies beside it."""
    assert prepare(str(flowers), ("--version", "5"), tmp_path).version == "5"
    assert (tmp_path / "my-flowers/5/export.json").is_file()
    assert len(exports) == 1


def test_the_record_says_what_was_exported(exports: list[tuple[str, ...]], flowers: Path, tmp_path: Path) -> None:
    """A person finds the source and the options beside the artefact."""
    prepare(str(flowers), ("--preprocess", "unit"), tmp_path)
    record = json.loads((tmp_path / "my-flowers/1/export.json").read_text())
    assert (record["source"], record["options"]) == (str(flowers), ["--preprocess", "unit"])
    assert exports
