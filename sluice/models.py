"""Finds or makes the artefact that a run serves.

A file or folder of the user's is exported again only if it, or an option, has changed: the export's inputs are
written beside the artefact as `export.json`. A named network is exported once.
"""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from consumers.onnx.model_file import NotOnnx, digest, read_metadata
from export.errors import BadArgument
from export.sources import architectures
from export.sources.model_file import name_of
from stream.cli import FAILED, complain, sluice

#: What is served if nothing was asked for.
DEFAULT: Final = "resnet50"

#: What is served if the default's weights cannot be downloaded; its own come in a Python package.
FALLBACK: Final = "efficientnet-lite0"

#: Exports a source with these options; returns the artefact that it wrote.
_Export = Callable[[str, Sequence[str]], Path]

_RECORD: Final = "export.json"

_WROTE = re.compile(r"^(?:wrote )?(?P<path>.+?/model\.onnx)\b")


@dataclass(frozen=True, slots=True)
class Served:
    """An artefact in the repository, and why it is the one to serve.

    `pinned`: serve this version and no other; a network by name is served in its highest version.
    """

    name: str
    version: str
    reason: str
    pinned: bool = False


class ExportFailed(Exception):
    """The export has printed why. `status`: its exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"export ended with status {status}")
        self.status = status


def prepare(wanted: str, options: Sequence[str], models_dir: Path, *, typed: str = "") -> Served:
    """The artefact for `wanted`: a path, a network's name, or empty for the default; raises ExportFailed.

    `typed` is the command that the user typed, which the export's advice repeats.
    """
    export = partial(_export, models_dir=models_dir, typed=typed)
    if not wanted:
        return _default(models_dir, export)
    if Path(wanted).exists() or "/" in wanted or Path(wanted).suffix:
        return _own_model(Path(wanted), options, models_dir, export)
    return _named(wanted, options, models_dir, export)


def _default(models_dir: Path, export: _Export) -> Served:
    pinned = bool(os.environ.get("SLUICE_VERSION"))
    for name in (DEFAULT, FALLBACK):
        if found := _exported(models_dir, name, ""):
            reason = "already exported" if name == DEFAULT else f"{DEFAULT}'s weights could not be downloaded before"
            return Served(name, found, reason, pinned=pinned)
    written = export(DEFAULT, ("--fallback", FALLBACK))
    name = written.parent.parent.name
    reason = "the default" if name == DEFAULT else f"{DEFAULT}'s weights cannot be downloaded"
    return Served(name, written.parent.name, reason)


def _named(name: str, options: Sequence[str], models_dir: Path, export: _Export) -> Served:
    wanted = _value_of("--version", options)
    others = _without("--version", options)
    for known in (name, name.lower()):
        if others and (architectures.known(known) or not versions_of(models_dir, known)):
            continue
        if found := _exported(models_dir, known, wanted):
            if others:
                raise _refuse(
                    f"{models_dir / known} is exported already, and {shlex.join(others)} would change nothing. Leave "
                    f"it out, or name the model's file: {sluice()} serve FILE --name {known} {shlex.join(others)}"
                )
            return Served(known, found, "already exported", pinned=bool(wanted or os.environ.get("SLUICE_VERSION")))
    try:
        architectures.find(name)
    except BadArgument as error:
        there = sorted({path.parent.parent.name for path in models_dir.glob("*/*/model.onnx")})
        has = f"{models_dir} has {', '.join(there)}, but no {name!r}, and " if there else ""
        raise _refuse(f"{has}{error}") from error
    name = name.lower()
    return _once(name, name, _fingerprint(name.encode(), options), options, models_dir, export)


def _exported(models_dir: Path, name: str, wanted: str) -> str:
    """The wanted version of an exported model, else that of SLUICE_VERSION, else its highest; empty if there is none.

    Raises ExportFailed if the version is not there.
    """
    versions = versions_of(models_dir, name)
    if not versions:
        return ""
    variable = os.environ.get("SLUICE_VERSION", "")
    version = wanted or variable or versions[-1]
    if version not in versions:
        has = f"version{'s' if len(versions) > 1 else ''} {', '.join(versions)}"
        asked = version if wanted else f"{version}, which SLUICE_VERSION asks for"
        makes = f"{sluice()} export MODEL --name {name} --version {version}"
        raise _refuse(f"{models_dir / name} has {has}, but not {asked}. Make it with: {makes}")
    return version


def _refuse(why: str) -> ExportFailed:
    """Say why on stderr; returns what ends the command."""
    complain("sluice serve", why, FAILED)
    return ExportFailed(FAILED)


def _own_model(source: Path, options: Sequence[str], models_dir: Path, export: _Export) -> Served:
    name = _value_of("--name", options) or name_of(source)
    # A path that cannot be read is the export's to explain.
    content = _digest(source) if source.exists() else b""
    return _once(str(source), name, _fingerprint(content, options), options, models_dir, export)


def _once(
    source: str, name: str, fingerprint: str, options: Sequence[str], models_dir: Path, export: _Export
) -> Served:
    """Export, unless the same inputs were exported before."""
    there = versions_of(models_dir, name)
    for version in there:
        if _is_recorded(models_dir / name / version, fingerprint):
            return Served(name, version, "unchanged since its export", pinned=True)
    reduced = _value_of("--precision", options) not in ("", "fp32")
    if there and not reduced and not {"--force", "--if-missing"}.intersection(options):
        # An export by hand may have been of the same file with the same options, which its metadata tell.
        version = export(source, ("--name", name, "--if-changed", *options)).parent.name
    else:
        version = _value_of("--version", options) or str(int(there[-1] if there else 0) + 1)
        export(source, ("--name", name, "--version", version, *options))
    folder = models_dir / name / version
    record = {"fingerprint": fingerprint, "artefact": digest(folder / "model.onnx"), "source": source}
    (folder / _RECORD).write_text(json.dumps({**record, "options": list(options)}) + "\n")
    return Served(name, version, "exported before" if version in there else "exported now", pinned=True)


def _is_recorded(folder: Path, fingerprint: str) -> bool:
    """Whether a version was made from these inputs, and is still the file that was written then."""
    if not (folder / _RECORD).is_file():
        return False
    record = json.loads((folder / _RECORD).read_text())
    made_from = bool(record.get("fingerprint") == fingerprint)
    return made_from and record.get("artefact") == digest(folder / "model.onnx")


def _export(source: str, options: Sequence[str], *, models_dir: Path, typed: str) -> Path:
    """Run `python -m export`, which shows its progress on stderr; returns the artefact that it wrote."""
    command = [sys.executable, "-m", "export", source, "--output", str(models_dir), *options]
    command += ["--typed", typed] if typed else []
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise ExportFailed(done.returncode)
    print(done.stdout, end="", flush=True)
    written = _WROTE.match(done.stdout)
    assert written, f"python -m export printed {done.stdout!r}"
    return Path(written["path"])


def versions_of(models_dir: Path, name: str) -> list[str]:
    """The versions of a model that the repository holds, in order."""
    found = (path.parent.name for path in (models_dir / name).glob("*/model.onnx"))
    return sorted((one for one in found if one.isdecimal()), key=int)


def precision(models_dir: Path, name: str, version: str) -> str:
    """That of an artefact, such as `int8`; empty for fp32, and for a file that does not tell."""
    try:
        found = read_metadata(models_dir / name / version / "model.onnx").get("sluice.precision", "")
    except (NotOnnx, OSError):
        return ""  # It is reported when it is loaded.
    return "" if found == "fp32" else found


def _value_of(name: str, options: Sequence[str]) -> str:
    """The value of an option, in either form; empty if it is not given."""
    for option, value in zip(options, [*options, ""][1:], strict=True):
        if option == name:
            return value
        if option.startswith(f"{name}="):
            return option.removeprefix(f"{name}=")
    return ""


def _without(name: str, options: Sequence[str]) -> list[str]:
    """The other options."""
    kept: list[str] = []
    words = iter(options)
    for word in words:
        if word == name:
            next(words, None)
        elif not word.startswith(f"{name}="):
            kept.append(word)
    return kept


def _fingerprint(content: bytes, options: Sequence[str]) -> str:
    """SHA-256 of the model, the options, and the content of each file that an option names."""
    found = hashlib.sha256(content)
    for option in options:
        found.update(b"\0" + option.encode())
        path = Path(option.partition("=")[2] or option)
        if path.is_file() or path.is_dir():
            found.update(_digest(path))
    return found.hexdigest()


def _digest(path: Path) -> bytes:
    """SHA-256 of a file, or of all files in a folder with their names."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    found = hashlib.sha256()
    for file in files:
        if file.is_file():
            found.update(str(file.relative_to(path)).encode())
            found.update(bytes.fromhex(digest(file)))
    return found.digest()
