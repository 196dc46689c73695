"""The folder of the embedded server's socket: where it is, and that no other user can put a socket there."""

import hashlib
import os
import pwd
import shlex
import stat
import tempfile
from pathlib import Path
from typing import Final

#: A Unix socket's address holds 108 bytes on Linux and 104 on macOS, the terminating zero included.
_LONGEST_SOCKET_PATH: Final = 103

_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


class UnsafeFolder(ValueError):
    """Another user owns this folder, or can write in it, and could pass for our Redis there."""


def socket_path(data_dir: Path) -> Path:
    """Where the server of this folder listens: beside its data, or in the temporary folder if that path is too long."""
    path = data_dir.resolve() / "valkey.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"sluice-{os.getuid()}-{digest}" / "valkey.sock"


def check_private(folder: Path) -> None:
    """Raises UnsafeFolder if another user could replace files in this folder, or this user may not look into it.

    A missing folder is safe.
    """
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    except PermissionError:
        check_private(folder.parent)
        raise
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeFolder(f"{folder} is no folder: choose another data_dir")
    if found.st_uid not in {os.getuid(), 0} or not os.access(folder, os.R_OK | os.X_OK):
        raise UnsafeFolder(_of_another(folder, found.st_uid))
    if found.st_mode & _WRITABLE_BY_OTHERS:
        raise UnsafeFolder(f"other users can write in {folder}: run chmod go-w on it, or choose another data_dir")


def _of_another(folder: Path, uid: int) -> str:
    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:  # Of a container, perhaps.
        owner = f"#{uid}"
    as_owner = f"run this as that user (sudo -u {shlex.quote(owner)} ...)"
    return f"{folder} belongs to the user {owner}: {as_owner}, or choose another data_dir"


def make_private(folder: Path) -> None:
    """Make a folder that only this user can use, unless it exists; raises UnsafeFolder, or OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private(folder)
