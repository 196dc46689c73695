"""The keyring: API keys as they are kept, and whose a presented key is. Knows no HTTP.

A key is kept as a salted SHA-256. A slow hash would add nothing: it makes guessing dear where people choose words,
but a key is 256 random bits, which nobody guesses at any price; and it would be computed for each wrong key that
anybody sends. The salt keeps one table from serving against several files, and equal keys from looking equal.

    name:sha256:<salt, hexadecimal>:<SHA-256 of salt and key, hexadecimal>
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

#: Random bytes in a key that we make: 256 bits, 43 characters of base64url.
_KEY_BYTES = 32

#: Fewest characters in a key that somebody else made: 32 hexadecimal digits are 128 bits.
SHORTEST_KEY = 32

_SALT_BYTES = 16

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class BadKey(ValueError):
    """A name or a key that cannot be taken, or a line that is none of ours. The message never holds the key."""


def new_key() -> str:
    """A key that nobody can guess."""
    return secrets.token_urlsafe(_KEY_BYTES)


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One key as it is kept: its owner's name, the salt and the hash, but not the key."""

    name: str
    salt: bytes
    digest: bytes

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadKey(f"{self.name[:80]!r} is no name for a key: letters, digits, '_' and '-', at most 63")

    @classmethod
    def of(cls, name: str, key: str) -> Self:
        """The stored form of a key; raises BadKey where it is too short to be random."""
        if len(key) < SHORTEST_KEY:
            raise BadKey(
                f"the key of {name[:80]!r} has {len(key)} characters; at least {SHORTEST_KEY} random ones are needed. "
                "Make one with: openssl rand -hex 32"
            )
        salt = secrets.token_bytes(_SALT_BYTES)
        return cls(name, salt, _digest(salt, key))

    def encode(self) -> str:
        return f"{self.name}:sha256:{self.salt.hex()}:{self.digest.hex()}"

    @classmethod
    def decode(cls, line: str) -> Self:
        """Read back what `encode` wrote; raises BadKey."""
        name, *rest = line.split(":")
        try:
            kind, salt, digest = rest
            if kind != "sha256" or len(digest) != 2 * hashlib.sha256().digest_size:
                raise BadKey(f"the line of {name[:80]!r} is not name:sha256:salt:hash")
            return cls(name, bytes.fromhex(salt), bytes.fromhex(digest))
        except ValueError as error:
            raise BadKey(f"the line of {name[:80]!r} is not name:sha256:salt:hash") from error

    def matches(self, key: str) -> bool:
        """Whether this is the key; takes the same time whatever of it is right."""
        return hmac.compare_digest(self.digest, _digest(self.salt, key))


def _digest(salt: bytes, key: str) -> bytes:
    return hashlib.sha256(salt + key.encode(errors="surrogateescape")).digest()


def from_lines(text: str) -> list[StoredKey]:
    """The keys of a file; empty lines and those with # in front are none. Raises BadKey."""
    lines = [line.strip() for line in text.splitlines()]
    return [StoredKey.decode(line) for line in lines if line and not line.startswith("#")]


def from_variable(text: str) -> list[StoredKey]:
    """The keys of `name:key,name:key`; raises BadKey."""
    keys = []
    for number, pair in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        name, colon, key = pair.partition(":")
        if not colon:
            raise BadKey(f"the key in place {number} has no name; write name:key,name:key")
        keys.append(StoredKey.of(name, key))
    return keys


class Keyring:
    """All keys that open this service. A name may have several: the old key and the new one while it is changed."""

    def __init__(self, keys: Iterable[StoredKey]) -> None:
        self._keys = tuple(keys)
        # A key that opened once is found again by one hash, however many keys there are. Under a secret of this
        # process's own: what is looked up says nothing about the key to whoever measures how long it takes.
        self._secret = secrets.token_bytes(32)
        self._known: dict[bytes, str] = {}

    def owner(self, key: str) -> str | None:
        """The name that a presented key belongs to, None where it opens nothing."""
        mark = hmac.digest(self._secret, key.encode(errors="surrogateescape"), "sha256")
        if (name := self._known.get(mark)) is not None:
            return name
        # All are compared, so that the time does not say which one matched.
        matching = [one.name for one in self._keys if one.matches(key)]
        if not matching:
            return None
        self._known[mark] = matching[0]
        return matching[0]
