"""Reads the configuration in a Keras file, and has it checked, before Keras sees the file.

A Keras model file is HDF5 (.h5, .hdf5, and .keras of TensorFlow 2.12) or a zip (.keras since 2.13). Both hold the
configuration as JSON, and may hold what the model was trained with.
"""

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py

from export.convert.output_kind import Loss
from export.errors import UnreadableFile, UnsafeFile
from export.sources import keras_safety

Config = dict[str, Any]

#: Models of these are computed in float32. ONNX Runtime has no convolutions of float64 on the CPU.
_OTHER_PRECISIONS = frozenset(("mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64"))


@dataclass(frozen=True, slots=True)
class KerasArchive:
    """A checked file. `major`: of the Keras that wrote it; `loss`: what it was trained with, if it says so.
    `trained_in`: its precision, if that is not float32.

    `rewritten`: `config` is not what the file says, but the same model in float32 and without its training.
    """

    path: Path
    zipped: bool
    major: int
    config: Config
    loss: Loss | None
    trained_in: str | None
    rewritten: bool

    @contextmanager
    def loadable(self) -> Iterator[Path]:
        """The file under a suffix that Keras accepts; a copy if the configuration had to be rewritten."""
        suffix = ".keras" if self.zipped else ".h5"
        if not self.rewritten and self.path.suffix == suffix:
            yield self.path
            return
        with TemporaryDirectory(prefix="sluice-keras-") as folder:
            copy = Path(folder) / f"model{suffix}"
            if not self.rewritten:
                copy.symlink_to(self.path.absolute())
            elif self.zipped:
                _copy_zip(self.path, copy, json.dumps(self.config))
            else:
                shutil.copyfile(self.path, copy)
                with h5py.File(copy, "r+") as file:
                    file.attrs["model_config"] = json.dumps(self.config)
            yield copy


def read(path: Path) -> KerasArchive:
    """Raises UnreadableFile, UnsafeFile."""
    try:
        return _read_zip(path) if zipfile.is_zipfile(path) else _read_hdf5(path)
    except (UnreadableFile, UnsafeFile):
        raise
    # What a damaged file raises is up to zipfile, h5py and json.
    except Exception as error:
        raise UnreadableFile(f"{path} can't be read as a Keras model: {' '.join(str(error).split())}") from error


def _read_zip(path: Path) -> KerasArchive:
    with zipfile.ZipFile(path) as archive:
        keras_safety.check_members(archive, path)
        names = set(archive.namelist())
        if "config.json" not in names:
            raise UnreadableFile(f"{path} is a zip, but not a Keras model: there is no config.json in it")
        if "model.weights.h5" in names:
            with archive.open("model.weights.h5") as weights, h5py.File(io.BytesIO(weights.read()), "r") as file:
                keras_safety.check_contents(file, path)
        config = json.loads(archive.read("config.json"))
        version = (
            json.loads(archive.read("metadata.json")).get("keras_version", "3") if "metadata.json" in names else "3"
        )
    return _checked(path, config, str(version), config.get("compile_config"), zipped=True)


def _read_hdf5(path: Path) -> KerasArchive:
    with h5py.File(path, "r") as file:
        keras_safety.check_contents(file, path)
        config, training = (_text(file.attrs.get(key)) for key in ("model_config", "training_config"))
        version = _text(file.attrs.get("keras_version")) or "1"
    if config is None:
        raise UnreadableFile(
            f"{path} holds weights and no model: build the model in Python, load the file with model.load_weights(),"
            " and save the whole model with model.save(). For a network of keras.applications without a head of your"
            " own, name the network and pass the file as --weights FILE"
        )
    return _checked(path, json.loads(config), version, json.loads(training) if training else None, zipped=False)


def _text(value: object) -> str | None:
    return value.decode() if isinstance(value, bytes) else None if value is None else str(value)


def _checked(path: Path, config: Config, version: str, training: Config | None, *, zipped: bool) -> KerasArchive:
    changes: set[str] = set()
    cleaned = _cleaned({key: value for key, value in config.items() if key != "compile_config"}, changes)
    keras_safety.check_config(cleaned, path)
    assert isinstance(cleaned, dict)
    return KerasArchive(
        path,
        zipped=zipped,
        major=int(version.partition(".")[0]),
        config=cleaned,
        loss=_loss(training),
        trained_in=min(changes & _OTHER_PRECISIONS, default=None),
        rewritten=bool(changes),
    )


def _cleaned(value: object, changes: set[str]) -> object:
    """The configuration in float32, without what models within the model were trained with; `changes` says what."""
    if isinstance(value, list):
        return [_cleaned(item, changes) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("compile_config"):
        changes.add("compile_config")
    cleaned = {key: _cleaned(item, changes) for key, item in value.items() if key != "compile_config"}
    policy = cleaned.get("class_name") in ("Policy", "PolicyV1", "DTypePolicy", "FloatDTypePolicy")
    if policy and isinstance(inner := cleaned.get("config"), dict) and inner.get("name") in _OTHER_PRECISIONS:
        changes.add(str(inner["name"]))
        # Without the scale of the loss that TensorFlow 2.1 to 2.3 store in it.
        cleaned["config"] = {"name": "float32"}
    if str(cleaned.get("dtype")) in _OTHER_PRECISIONS and cleaned.get("class_name") != "__keras_tensor__":
        changes.add(str(cleaned["dtype"]))
        cleaned["dtype"] = "float32"
    return cleaned


def _copy_zip(source: Path, target: Path, config: str) -> None:
    with zipfile.ZipFile(source) as read, zipfile.ZipFile(target, "w") as written:
        for member in read.infolist():
            if member.filename == "config.json":
                written.writestr("config.json", config)
                continue
            with read.open(member) as data, written.open(member.filename, "w", force_zip64=True) as copy:
                shutil.copyfileobj(data, copy)


_LOSSES: dict[str, str] = {
    "categorical_crossentropy": "classes", "sparse_categorical_crossentropy": "classes",
    "categoricalcrossentropy": "classes", "sparsecategoricalcrossentropy": "classes",
    "categoricalfocalcrossentropy": "classes",
    "binary_crossentropy": "binary", "binarycrossentropy": "binary", "binaryfocalcrossentropy": "binary",
    "mse": "values", "mean_squared_error": "values", "meansquarederror": "values",
    "mae": "values", "mean_absolute_error": "values", "meanabsoluteerror": "values",
    "mape": "values", "mean_absolute_percentage_error": "values", "meanabsolutepercentageerror": "values",
    "msle": "values", "mean_squared_logarithmic_error": "values", "meansquaredlogarithmicerror": "values",
    "cosine_similarity": "values", "cosinesimilarity": "values",
    "huber": "values", "huber_loss": "values", "logcosh": "values", "log_cosh": "values",
}  # fmt: skip


def _loss(training: Config | None) -> Loss | None:
    """The kind that the loss of the training is for, and whether it took logits."""
    loss = training.get("loss") if isinstance(training, dict) else None
    while isinstance(loss, list | dict) and len(loss) == 1 and "class_name" not in loss:
        # One loss for the only output, which may be named.
        (loss,) = loss.values() if isinstance(loss, dict) else loss
    from_logits = False
    if isinstance(loss, dict):
        inner = loss.get("config")
        from_logits = isinstance(inner, dict) and bool(inner.get("from_logits"))
        loss = loss.get("class_name") if loss.get("class_name") != "function" else inner
    kind = _LOSSES.get(loss.lower()) if isinstance(loss, str) else None
    return None if kind is None else (kind, from_logits)  # type: ignore[return-value]  # the table's values are kinds
