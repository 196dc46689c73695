"""The key file: a keyring that follows its file, so that a key counts or is withdrawn without a restart.

Knows no HTTP.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from ingest.auth.api_keys import BadKey, Keyring, StoredKey, from_lines, from_variable
from stream.settings import Settings

logger = logging.getLogger(__name__)

#: How often the file is looked at, in seconds: a withdrawn key opens for so long at most.
_LOOK_S = 0.5

_Stamp = tuple[int, int, int]


class KeyFile:
    """The keys of a file, and others that stay the same."""

    def __init__(self, path: Path | None, others: Sequence[StoredKey] = ()) -> None:
        """Read the file; raises OSError or BadKey."""
        self._path = path
        self._others = tuple(others)
        self._look_again_s = 0.0
        self._stamp: _Stamp | None = None
        self._keyring = Keyring(self._others)
        self._read()

    def owner(self, key: str) -> str | None:
        """The name that a presented key belongs to, None where it opens nothing."""
        if self._path is not None and time.monotonic() >= self._look_again_s:
            self._follow()
        return self._keyring.owner(key)

    def _follow(self) -> None:
        try:
            self._read()
        except (OSError, BadKey) as error:
            # What was read before holds on: a file that is being written must not shut everybody out.
            logger.warning("the key file cannot be read, the keys of before hold: %s", error)

    def _read(self) -> None:
        self._look_again_s = time.monotonic() + _LOOK_S
        if self._path is None:
            return
        status = self._path.stat()
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp != self._stamp:
            self._keyring = Keyring([*from_lines(self._path.read_text()), *self._others])
            self._stamp = stamp


def keys_of(settings: Settings) -> KeyFile | None:
    """The keys that the settings name, None where they name none; raises OSError or BadKey."""
    if not settings.asks_for_keys:
        return None
    file = Path(settings.api_keys_file) if settings.api_keys_file else None
    return KeyFile(file, from_variable(settings.api_keys.get_secret_value()))
