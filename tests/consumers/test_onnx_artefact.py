"""Artefacts: which file is chosen, what it says of itself, and what is refused."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from consumers.onnx.artefact import ArtefactError
from consumers.onnx.loader import ModelLoader
from consumers.onnx.model import Model
from consumers.onnx.model_file import NotOnnx, read_metadata
from consumers.onnx.providers import CPU, CUDA, Execution, ProviderError
from consumers.onnx.repository import stored_versions
from stream.settings import ConsumerSettings
from tests.support.models import mean_model, tiny_model
from tests.support.models.value_model import write_value_model

ON_CPU = Execution("cpu", threads=1, max_batch=2)


def test_the_highest_version_is_served_by_default(tmp_path: Path) -> None:
    """Versions are numbers: 10 comes after 9."""
    for version in ("9", "10"):
        tiny_model.build(tmp_path, version=version)
    assert [one.version for one in stored_versions(tmp_path, "tiny")] == ["10", "9"]
    assert [one.version for one in stored_versions(tmp_path, "tiny", "9")] == ["9"]


def test_an_ambiguous_repository_asks_which(tmp_path: Path) -> None:
    """No guess between two models; no model and no version say how to make one. A renamed folder is refused."""

    def refuses(why: str, **named: str) -> None:
        with pytest.raises(ArtefactError, match=why):
            ModelLoader(ConsumerSettings(models_dir=tmp_path, provider="cpu", **named)).first()  # type: ignore[arg-type]

    refuses("python -m export")
    tiny_model.build(tmp_path, name="one")
    tiny_model.build(tmp_path, name="two")
    refuses("one, two")
    refuses(r"versions: 1\); make it with: python -m export one --version 2$", model="one", version="2")
    refuses(r"versions: none; models here: one, two\)", model="three")
    (tmp_path / "two").rename(tmp_path / "copy")
    refuses(r"copy.1.model\.onnx says that it is two/1: move it there", model="copy")
    third = tiny_model.build(tmp_path, name="one", version="3")
    tiny_model.damaged(third).replace(third)
    third.parent.rename(tmp_path / "one" / "4")
    refuses(r"one.4.model\.onnx says that it is one/3: move it there", model="one", version="4")


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    """In the words of the system, not by the number of its error."""
    (tmp_path / "one" / "1" / "model.onnx").mkdir(parents=True)
    with pytest.raises(ProviderError, match=r"cannot read .*one.1.model\.onnx: Is a directory$"):
        ModelLoader(ConsumerSettings(models_dir=tmp_path, provider="cpu")).first()


def with_metadata(path: Path, **changes: str) -> Path:
    """Change `sluice.<name>` in a file; an empty value removes it."""
    model = onnx.load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    metadata |= {f"sluice.{name}": value for name, value in changes.items()}
    del model.metadata_props[:]
    helper.set_model_props(model, {key: value for key, value in metadata.items() if value})
    onnx.save(model, path)
    return path


def test_the_version_suits_the_provider(tmp_path: Path) -> None:
    """A GPU computes int8 files slowly and a CPU fp16 files, so another version is taken; one that was named is not."""
    for version, precision in (("1", "fp32"), ("2", "fp16"), ("3", "int8")):
        with_metadata(tiny_model.build(tmp_path, version=version), precision=precision)

    def chosen(version: str = "", **unsuited: frozenset[str]) -> str:
        return stored_versions(tmp_path, "tiny", version, **unsuited)[0].version

    assert (chosen(), chosen(unsuited=CUDA.unsuited), chosen(unsuited=CPU.unsuited)) == ("3", "2", "3")
    assert chosen("3", unsuited=CUDA.unsuited) == "3"
    assert chosen(unsuited=frozenset({"fp32", "fp16", "int8"})) == "3", "better slow than none"


def test_metadata_is_read_without_loading_the_network(tmp_path: Path) -> None:
    """As ONNX itself reads it, whatever else the file has."""
    path = with_metadata(tiny_model.build(tmp_path), note="ß" * 300, empty="")
    assert read_metadata(path) == {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    for end in (1, 2, 40, path.stat().st_size - 1):
        (tmp_path / "cut").write_bytes(path.read_bytes()[:end])
        try:
            read_metadata(tmp_path / "cut")
        except NotOnnx:
            continue
        assert end < path.stat().st_size - 1, "a cut network is skipped, a cut entry is not"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"labels": json.dumps(["a", "b"])}, "10 outputs, but its metadata say .* 2 labels"),
        ({"input": json.dumps({"height": 16, "width": 8})}, r"takes \[16, 16, 3\] .* say \[16, 8, 3\]"),
        ({"input": json.dumps({"height": 16, "width": 16, "channels": 1})}, r"say \[16, 16, 1\]"),
        ({"output_kind": "boxes"}, "metadata cannot be read .*output_kind"),
        ({"labels": "no JSON"}, "metadata cannot be read"),
        ({"resize": json.dumps({"mode": "fold"})}, "metadata cannot be read .*fold"),
        ({"resize": json.dumps(mean_model.TENSORFLOW)}, "takes uint8, and its metadata say rounded: False"),
        ({"resize": json.dumps({"rounded": False})}, "metadata cannot be read .*rounded"),
        ({"precision": ""}, r"'sluice\.precision' is missing"),
    ],
)
def test_metadata_that_contradict_the_network_are_refused(
    changes: dict[str, str], problem: str, tmp_path: Path
) -> None:
    """Otherwise images would be prepared wrongly, or labels be shifted."""
    with pytest.raises(ArtefactError, match=problem):
        Model(with_metadata(tiny_model.build(tmp_path), **changes), ON_CPU)


def test_a_float_input_needs_metadata(tmp_path: Path) -> None:
    """Whether it wants 0..255 or 0..1 is not known."""
    path = mean_model.build(tmp_path, "mean", output_kind="labels", channels=3, fractions=True)
    proto = onnx.load(path)
    del proto.metadata_props[:]
    onnx.save(proto, path)
    with pytest.raises(ArtefactError, match="it takes float32, and has no metadata"):
        Model(path, ON_CPU)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_output_kind_and_the_channels_are_what_the_file_says(channels: int, tmp_path: Path) -> None:
    """Greyscale, RGB and RGBA; a file that says nothing has classes and RGB."""
    about = write_value_model(tmp_path / "tiny" / "1" / "model.onnx", channels=channels)
    model = Model(about, ON_CPU)
    assert (model.description.channels, model.description.output_kind) == (channels, "values")
    buffer = model.new_buffer()
    buffer[0] = np.arange(4 * channels).reshape(2, 2, channels)
    assert buffer.shape == (2, 2, 2, channels)
    np.testing.assert_allclose(model.run(buffer, 1), [np.arange(4 * channels)])


def test_a_file_put_there_by_hand_must_give_probabilities(tmp_path: Path) -> None:
    """Logits would be shown as probabilities of 80."""
    path = write_value_model(tmp_path / "logits" / "1" / "model.onnx", channels=3, metadata=False)
    with pytest.raises(ArtefactError, match=r"are no probabilities\. Wrap it with: python -m export --onnx"):
        Model(path, ON_CPU)
