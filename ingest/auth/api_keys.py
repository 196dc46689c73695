"""API keys: how they are stored, and whose key a client presents.

A key is stored as a salted SHA-256. A slow hash would add nothing: it makes guessing expensive if people choose the
words, but a key is 256 random bits, which cannot be guessed. And a slow hash would run for each wrong key that a
client sends. The salt makes a table of hashes useless for a second file, and equal keys look different.

    name:sha256:<salt, hexadecimal>:<SHA-256 of salt and key, hexadecimal>
    name:sha256:<salt>:<SHA-256>:<marks, comma-separated>

A mark says what a key may do in addition, or only: the bearer of one with `admin` may load and unload models, and all
images of one with `bulk` are bulk images.
"""

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from stream.settings import IngestSettings

logger = logging.getLogger(__name__)

#: Random bytes in a key of `new_key`: 256 bits, 43 characters of base64url.
_KEY_BYTES: Final = 32

#: Fewest characters of a key that was made elsewhere: 32 hexadecimal digits are 128 bits.
SHORTEST_KEY: Final = 32

_SALT_BYTES: Final = 16

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")

#: How often the key file is checked for changes, in seconds. A withdrawn key is accepted for at most this long.
_CHECK_S: Final = 0.5

#: May load and unload models.
ADMIN: Final = "admin"

#: Sends bulk images only.
BULK: Final = "bulk"

MARKS: Final = frozenset({ADMIN, BULK})

_Stamp = tuple[int, int, int]


class BadKey(ValueError):
    """A name or key that is not accepted, or a line in another format. The message never contains the key."""


def why_unreadable(error: BadKey | OSError) -> str:
    """What is wrong with a key file, and what to do."""
    if isinstance(error, FileNotFoundError):
        return (
            f"there is no file {error.filename}; make it with: python -m ingest.keys add NAME --file {error.filename}"
        )
    return str(error) if isinstance(error, BadKey) else f"{error.filename}: {error.strerror}"


def new_key() -> str:
    """A random key. It begins with no hyphen: a command line would take it for an option."""
    while (key := secrets.token_urlsafe(_KEY_BYTES)).startswith("-"):
        pass
    return key


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One stored key: the owner's name, the salt and the hash, but not the key."""

    name: str
    salt: bytes
    digest: bytes
    marks: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if unknown := self.marks - MARKS:
            raise BadKey(
                f"the key of {self.name[:80]!r} has the mark {min(unknown)[:40]!r}; known: {', '.join(sorted(MARKS))}"
            )
        if not _NAME.fullmatch(self.name):
            raise BadKey(f"{self.name[:80]!r} is no name for a key: use letters, digits, '_' and '-', at most 63")

    @classmethod
    def of(cls, name: str, key: str, marks: Iterable[str] = ()) -> Self:
        """The stored form of a key. Raises BadKey if it is too short to be random."""
        if len(key) < SHORTEST_KEY:
            raise BadKey(
                f"the key of {name[:80]!r} has {len(key)} characters; at least {SHORTEST_KEY} random ones are needed. "
                "Make one with: openssl rand -hex 32"
            )
        salt = secrets.token_bytes(_SALT_BYTES)
        return cls(name, salt, _digest(salt, key), frozenset(marks))

    def encode(self) -> str:
        marks = f":{','.join(sorted(self.marks))}" if self.marks else ""
        return f"{self.name}:sha256:{self.salt.hex()}:{self.digest.hex()}{marks}"

    @classmethod
    def decode(cls, line: str) -> Self:
        """Read what `encode` wrote. Raises BadKey."""
        name, *rest = line.split(":")
        try:
            kind, salt, digest, *marks = rest
            if len(marks) > 1 or kind != "sha256" or len(digest) != 2 * hashlib.sha256().digest_size:
                raise BadKey(f"the line of {name[:80]!r} is not name:sha256:salt:hash")
            salted, hashed = bytes.fromhex(salt), bytes.fromhex(digest)
        except ValueError as error:
            raise BadKey(f"the line of {name[:80]!r} is not name:sha256:salt:hash") from error
        return cls(name, salted, hashed, frozenset(mark.strip() for mark in "".join(marks).split(",") if mark))

    def matches(self, key: str) -> bool:
        """Whether this is the key. Takes the same time for each wrong key."""
        return hmac.compare_digest(self.digest, _digest(self.salt, key))


def _digest(salt: bytes, key: str) -> bytes:
    return hashlib.sha256(salt + key.encode(errors="surrogateescape")).digest()


def from_lines(text: str) -> list[StoredKey]:
    """The keys in the text of a key file, without empty lines and comments (#). Raises BadKey."""
    lines = [line.strip() for line in text.splitlines()]
    return [StoredKey.decode(line) for line in lines if line and not line.startswith("#")]


def from_variable(text: str) -> list[StoredKey]:
    """The keys of `name:key,name:key`. Raises BadKey."""
    keys = []
    for number, pair in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        name, colon, key = pair.partition(":")
        if not colon:
            raise BadKey(f"key number {number} has no name; write name:key,name:key")
        keys.append(StoredKey.of(name, key))
    return keys


class Keyring:
    """All keys that this service accepts. A name may have several: the old and the new key while it is changed."""

    def __init__(self, keys: Iterable[StoredKey]) -> None:
        self._keys = tuple(keys)
        # A key that was accepted once is found again with one hash, however many keys there are. The hash uses a secret
        # of this process, so the time of a look-up reveals nothing about the key.
        self._secret = secrets.token_bytes(32)
        self._known: dict[bytes, StoredKey] = {}

    def find(self, key: str) -> StoredKey | None:
        """The stored form of a presented key, None if the key is not accepted."""
        mark = hmac.digest(self._secret, key.encode(errors="surrogateescape"), "sha256")
        if (known := self._known.get(mark)) is not None:
            return known
        # Compare all of them, so that the time does not reveal which one matched.
        matching = [stored for stored in self._keys if stored.matches(key)]
        if not matching:
            return None
        self._known[mark] = matching[0]
        return matching[0]


class ReloadingKeyring:
    """A keyring that follows its key file: added and withdrawn keys need no restart. `others` stay the same."""

    def __init__(self, path: Path | None, others: Sequence[StoredKey] = ()) -> None:
        """Read the file. Raises OSError or BadKey."""
        self._path = path
        self._others = tuple(others)
        self._next_check_s = 0.0
        self._stamp: _Stamp | None = None
        self._keyring = Keyring(self._others)
        self._read()

    def find(self, key: str) -> StoredKey | None:
        """The stored form of a presented key, None if the key is not accepted."""
        if self._path is not None and time.monotonic() >= self._next_check_s:
            self._reload()
        return self._keyring.find(key)

    def _reload(self) -> None:
        try:
            self._read()
        except (OSError, BadKey) as error:
            # A file that is being written must not lock all clients out.
            logger.warning("cannot read the key file, keeping the previous keys: %s", why_unreadable(error))

    def _read(self) -> None:
        self._next_check_s = time.monotonic() + _CHECK_S
        if self._path is None:
            return
        status = self._path.stat()
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp != self._stamp:
            self._keyring = Keyring([*from_lines(self._path.read_text()), *self._others])
            self._stamp = stamp


def configured_keys(settings: IngestSettings) -> ReloadingKeyring | None:
    """The keys that the settings name, None if they name none. Raises OSError or BadKey."""
    if not settings.asks_for_keys:
        return None
    file = Path(settings.api_keys_file) if settings.api_keys_file else None
    return ReloadingKeyring(file, from_variable(settings.api_keys.get_secret_value()))


def key_owners(settings: IngestSettings) -> frozenset[str]:
    """The names of all keys that the settings name. Raises OSError or BadKey."""
    in_file = from_lines(Path(settings.api_keys_file).read_text()) if settings.api_keys_file else []
    return frozenset(key.name for key in [*in_file, *from_variable(settings.api_keys.get_secret_value())])
