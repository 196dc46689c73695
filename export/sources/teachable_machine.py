"""A download from Teachable Machine, zipped or unpacked: a Keras model or a SavedModel, and labels.txt."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from export.artefact import labels
from export.artefact.description import Assumption
from export.convert.original import Layout, Original
from export.errors import UnreadableFile
from export.sources import keras_file, keras_safety, saved_model
from export.sources.model_file import digest
from export.sources.teachable_machine_layers import FORMULA

_NORMALISATION = Assumption("tf", "known", FORMULA)

#: What a download consists of; nothing else in the zip is looked at.
_WANTED = (".h5", ".pb", ".index", ".txt")


def load(path: Path, *, layout: Layout | None = None, size: tuple[int, int] | None = None) -> Original:
    """Raises UnreadableFile, UnsafeFile, NotAClassifier, BadArgument."""
    with _unpacked(path) as folder:
        names = _labels(folder, path)
        models = sorted((*folder.rglob("keras_model.h5"), *folder.rglob("saved_model.pb")))
        if not models:
            raise UnreadableFile(f"{path} holds neither a keras_model.h5 nor a saved_model.pb")
        if models[0].suffix == ".h5":
            original = keras_file.load(models[0], layout=layout, size=size)
        else:
            original = saved_model.load(models[0].parent, layout=layout, size=size)
    source = {**original.source, "file": path.name, "sha256": digest(path)}
    return replace(original, source=source, labels=names, preprocess=_NORMALISATION, loader="teachable_machine")


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield path
        return
    with TemporaryDirectory(prefix="sluice-zip-") as folder, zipfile.ZipFile(path) as archive:
        keras_safety.check_members(archive, path)
        for member in archive.infolist():
            if member.filename.endswith(_WANTED) or ".data-" in member.filename:
                archive.extract(member, folder)
        yield Path(folder)


def _labels(folder: Path, path: Path) -> tuple[str, ...] | None:
    files = sorted(folder.rglob("labels.txt"))
    return labels.parse(files[0].read_text("utf-8-sig"), f"{path.name}/labels.txt") if files else None
