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


class UnusableFolder(ValueError):
    """This folder cannot be written, or another user can write in it and could pass for our Redis there."""


def socket_path(data_dir: Path) -> Path:
    """Where the server of this folder listens: beside its data, or in the temporary folder if that path is too long."""
    path = data_dir.resolve() / "valkey.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"sluice-{os.getuid()}-{digest}" / "valkey.sock"


def check_private(folder: Path) -> None:
    """Raises UnusableFolder if another user could replace files in this folder, or this user may not look into it.

    Raises it, too, if the folder is missing and this user may not make it.
    """
    try:
        found = folder.lstat()
    except (FileNotFoundError, NotADirectoryError):
        check_writable(folder)
        return
    except PermissionError:
        check_private(folder.parent)
        raise
    if not stat.S_ISDIR(found.st_mode):
        raise UnusableFolder(f"{folder} is no folder: choose another data_dir")
    if found.st_uid not in {os.getuid(), 0} or not os.access(folder, os.R_OK | os.X_OK):
        raise UnusableFolder(_of_another(folder, found.st_uid))
    if found.st_mode & _WRITABLE_BY_OTHERS:
        raise UnusableFolder(f"other users can write in {folder}: run chmod go-w on it, or choose another data_dir")


def check_writable(folder: Path) -> None:
    """Raises UnusableFolder if this user may not write in this folder, or may not make it."""
    nearest = next(one for one in (folder, *folder.absolute().parents) if os.access(one, os.F_OK))
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return
    why = "this user may not write in it" if nearest.is_dir() else "it is no folder"
    makes = f"cannot make {folder} in {nearest}" if nearest != folder else f"cannot use {folder}"
    raise UnusableFolder(f"{makes}: {why}. Start this in a folder that you can write in, or choose another data_dir")


def _of_another(folder: Path, uid: int) -> str:
    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:  # Of a container, perhaps.
        owner = f"#{uid}"
    as_owner = f"run this as that user (sudo -u {shlex.quote(owner)} ...)"
    return f"{folder} belongs to the user {owner}: {as_owner}, or choose another data_dir"


def make_private(folder: Path) -> None:
    """Make a folder that only this user can use, unless it exists; raises UnusableFolder, or OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private(folder)
