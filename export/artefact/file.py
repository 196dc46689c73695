"""Writes a graph and its description as one file, and reads them.

The graph: images uint8 [N,H,W,3] RGB -> probabilities float32 [N,classes].
"""

import os
import uuid
import zlib
from pathlib import Path

import onnx

from export import unfinished
from export.artefact.description import Description, metadata, parse
from export.errors import ConversionFailed, OutputRefused, UnreadableFile


def write(proto: onnx.ModelProto, description: Description, target: Path, *, replaces: bool = True) -> int:
    """Writes the ONNX ModelProto with its metadata to `target`; returns the file's size in bytes.

    A reader sees the old file or the new one, never a part: it is written beside its place, and
    takes it when it is complete and on disk. Without `replaces` a file that is there by then stays as it is.
    Raises OutputRefused, ConversionFailed.
    """
    # A graph that was made from another artefact's has the other's entries still.
    del proto.metadata_props[:]
    for key, value in metadata(description).items():
        proto.metadata_props.add(key=key, value=value)
    data = _serialised(proto)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _put(target, data, replaces=replaces)
    except OSError as error:
        raise OutputRefused(f"can't write {target}: {error.strerror or error}; choose another --output") from error
    return len(data)


def read(path: Path) -> tuple[onnx.ModelProto, Description]:
    """The graph and its description; raises UnreadableFile."""
    try:
        proto = onnx.load(path)
    # protobuf's DecodeError has no public base that is the same in every version.
    except Exception as error:
        raise UnreadableFile(f"can't read {path}: {error}") from error
    try:
        return proto, parse({entry.key: entry.value for entry in proto.metadata_props})
    except (KeyError, ValueError, TypeError, zlib.error) as error:
        raise UnreadableFile(
            f"{path} is no artefact of this format ({error}): export it first, any other ONNX file with --onnx FILE"
        ) from error


def description(path: Path) -> Description | None:
    """What the artefact says about itself; None if it can't be read."""
    try:
        return read(path)[1]
    except UnreadableFile:
        return None


def _serialised(proto: onnx.ModelProto) -> bytes:
    try:
        data: bytes = proto.SerializeToString(deterministic=True)
    # protobuf's own EncodeError is no ValueError in every version.
    except Exception as error:
        raise ConversionFailed(f"the network is too large for one ONNX file (2 GB): {error}") from error
    return data


def _put(target: Path, data: bytes, *, replaces: bool) -> None:
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    unfinished.add(partial)
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            # Who serves the model may be another user than who exported it.
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        if replaces:
            partial.replace(target)
        else:
            # A link, other than a rename, fails if another export has written the file in the meantime.
            target.hardlink_to(partial)
    except FileExistsError as error:
        raise OutputRefused(f"{target} was written by another export in the meantime; --force replaces it") from error
    finally:
        unfinished.remove(partial)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """A rename is on disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
