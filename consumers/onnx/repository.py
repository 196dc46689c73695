"""Finds the versions of a model in the repository.

The repository has Triton's layout: `<models_dir>/<name>/<version>/model.onnx`, with positive integers as versions.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from consumers.onnx.artefact import ArtefactError
from consumers.onnx.model_file import NotOnnx, read_metadata

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version in the repository. `stamp` differs after its file was replaced or written to, or got other rights."""

    path: Path
    stamp: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> "StoredVersion | None":
        """None if the file has gone."""
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        return cls(path, (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size))

    @property
    def version(self) -> str:
        return self.path.parent.name


def _names(models_dir: Path) -> list[str]:
    return sorted({path.parent.parent.name for path in models_dir.glob("*/*/model.onnx")})


def only_model(models_dir: Path) -> str:
    """The name of the only model in a repository; raises ArtefactError."""
    names = _names(models_dir)
    if not names:
        raise ArtefactError(f"no model in {models_dir}/; make one with: python -m export")
    if len(names) > 1:
        raise ArtefactError(f"{models_dir}/ holds several models ({', '.join(names)}); choose one with --model")
    return names[0]


def stored_versions(models_dir: Path, name: str, *, unsuited: Collection[str] = ()) -> list[StoredVersion]:
    """The versions of a model, best first: the highest, but those with an `unsuited` precision after all others.

    Raises OSError.
    """
    paths = [path for path in (models_dir / name).glob("*/model.onnx") if path.parent.name.isdecimal()]
    paths.sort(key=lambda path: int(path.parent.name), reverse=True)
    if unsuited:
        paths.sort(key=lambda path: _precision(path) in unsuited)
    return [found for path in paths if (found := StoredVersion.of(path))]


def locate(models_dir: Path, model: str, version: str, *, unsuited: Collection[str] = ()) -> Path:
    """The file of a model; an empty name selects the only model, an empty version the best. Raises ArtefactError."""
    name = model or only_model(models_dir)
    versions = stored_versions(models_dir, name, unsuited=unsuited)
    chosen = [one for one in versions if one.version == version] if version else versions
    if not chosen:
        have = ", ".join(sorted((one.version for one in versions), key=int)) or "none"
        others = "" if versions else f"; models here: {', '.join(_names(models_dir)) or 'none'}"
        raise ArtefactError(
            f"{models_dir / name / (version or '<version>')}/model.onnx does not exist (versions: {have}{others}); "
            f"make it with: python -m export {name}" + (f" --version {version}" if version else "")
        )
    if not version and (worse := passed_over(chosen[0].path, versions)):
        logger.warning("chose version %s, and passes over version %s", chosen[0].version, worse)
    return chosen[0].path


def passed_over(served: Path, versions: Sequence[StoredVersion]) -> str:
    """The highest of these versions, best first, and why the served one is better; empty if it is not."""
    highest = max(versions, key=lambda one: int(one.version), default=None)
    paths = [one.path for one in versions]
    if highest is None or served not in paths or paths.index(highest.path) <= paths.index(served):
        return ""
    return f"{highest.version}: it is {_precision(highest.path)}, which this provider computes slowly"


def _precision(path: Path) -> str:
    """The precision in the metadata; empty if there is none, or no ONNX file, which is reported when it is loaded."""
    try:
        return read_metadata(path).get("sluice.precision", "")
    except (NotOnnx, OSError):
        return ""
