"""Finds the versions of a model in the repository.

The repository has Triton's layout: `<models_dir>/<name>/<version>/model.onnx`, with positive integers as versions.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from consumers.onnx.artefact import ArtefactError
from consumers.onnx.model_file import NotOnnx, read_metadata


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


def stored_versions(
    models_dir: Path, name: str, version: str = "", *, unsuited: Collection[str] = ()
) -> list[StoredVersion]:
    """The versions of a model, or the one that is named, best first.

    The highest is the best, but those with an `unsuited` precision come after all others. Raises OSError.
    """
    paths = [path for path in (models_dir / name).glob("*/model.onnx") if path.parent.name.isdecimal()]
    paths.sort(key=lambda path: int(path.parent.name), reverse=True)
    if unsuited:
        paths.sort(key=lambda path: _precision(path) in unsuited)
    versions = [found for path in paths if (found := StoredVersion.of(path))]
    return [one for one in versions if one.version == version] if version else versions


def missing(models_dir: Path, name: str, version: str) -> ArtefactError:
    """The model is not there, or not in this version."""
    versions = stored_versions(models_dir, name)
    have = ", ".join(sorted((one.version for one in versions), key=int)) or "none"
    others = "" if versions else f"; models here: {', '.join(_names(models_dir)) or 'none'}"
    return ArtefactError(
        f"{models_dir / name / (version or '<version>')}/model.onnx does not exist (versions: {have}{others}); "
        f"make it with: python -m export {name}" + (f" --version {version}" if version else "")
    )


def of_release(versions: Sequence[StoredVersion], stable: str, served: Path | None = None) -> list[StoredVersion]:
    """Those of a repository that may be served while a release names this stable version; all if it names none.

    Only the stable version, if it is there, and otherwise the one that is served already.
    """
    if not stable:
        return list(versions)
    named = [one for one in versions if one.version == stable]
    return named or [one for one in versions if one.path == served] or list(versions)


def passed_over(served: Path, versions: Sequence[StoredVersion], stable: str) -> str:
    """The highest of these versions, best first, and why the served one is better; empty if it is not.

    `stable` is the stable version of a release, if there is one.
    """
    highest = max(versions, key=lambda one: int(one.version), default=None)
    mine = next((one for one in versions if one.path == served), None)
    if highest is None or mine is None or highest == mine:
        return ""
    if mine.version == stable:
        return f"{highest.version}: the release names version {stable}"
    if versions.index(highest) < versions.index(mine):
        return ""
    return f"{highest.version}: it is {_precision(highest.path)}, which this provider computes slowly"


def _precision(path: Path) -> str:
    """The precision in the metadata; empty if there is none, or no ONNX file, which is reported when it is loaded."""
    try:
        return read_metadata(path).get("sluice.precision", "")
    except (NotOnnx, OSError):
        return ""
