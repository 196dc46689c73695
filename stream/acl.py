"""`python -m stream.acl FOLDER`: Redis users who may do what their side needs, and nothing else. Knows no connection.

Writes, once, with random passwords:

    FOLDER/redis/users.acl        for Redis's `aclfile`: the users with the hashes of their passwords
    FOLDER/<user>/password        one for each user, for `SLUICE_REDIS_PASSWORD_FILE`

A right below is a pair: these commands on these keys. What a script calls is checked against the same rights, call
by call, so the right to run scripts (Redis asks for whole keys there) opens nothing else.
"""

import argparse
import hashlib
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stream.keys import MODELS, Partition, gpu_lease, partition_key, rate

PROGRAM = "python -m stream.acl"

#: What any connection needs; none of it touches a key. In a Cluster it asks where its keys are.
_ANY = "ping select time script|load cluster|slots"


@dataclass(frozen=True, slots=True)
class Right:
    """These commands, on keys that match these patterns: to read (R), to write (W) or both."""

    commands: str
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    both: tuple[str, ...] = ()

    def encode(self) -> str:
        """The right as an ACL selector (Redis 7.0: each is checked on its own)."""
        keys = [
            *(f"%R~{pattern}" for pattern in self.read),
            *(f"%W~{pattern}" for pattern in self.write),
            *(f"~{pattern}" for pattern in self.both),
        ]
        return f"({' '.join([*(f'+{command}' for command in self.commands.split()), *keys])})"


class _Pattern(Partition):
    """The keys of all partitions of a model, or with `*` of all models, as patterns."""

    def __post_init__(self) -> None:
        pass  # * is no model's name

    def _key(self, rest: str) -> str:
        return partition_key(self.model, "*", rest)


def ingest_rights() -> list[Right]:
    """Ingest puts images in and takes answers out, and shows operators the group and its dead letters.

    It cannot take an image from the group or answer it, nor pass for a consumer.
    """
    of = _Pattern("*")
    return [
        Right("evalsha", both=("sluice:*",)),
        Right("wait"),
        Right("info|memory"),
        Right("zrange zadd", both=(MODELS,)),
        Right("xadd xlen", write=(of.entries,)),
        Right("exists get mget set pttl pexpire", both=(of.request("*"),)),
        Right("get set", both=(of.idempotency("*"), of.cache("*"), rate("*"))),
        Right("xread", read=(of.replies("*"),)),
        Right("zcount zrange", read=(of.alive,)),
        Right("hgetall", read=(of.consumers, of.versions, of.counters)),
        Right("exists xrange xpending xinfo|groups xinfo|consumers", read=(of.entries,)),
        # A dead letter may be replayed from the page.
        Right("xrange xlen xdel", both=(of.dead_letters,)),
        Right("hincrby hset", both=(of.counters,)),
        Right("type", read=(of.entries, of.dead_letters, of.counters)),
    ]


def consumer_rights(model: str = "*") -> list[Right]:
    """A consumer takes images and leaves results, of its model alone. It cannot put an image in or read a reply."""
    of = _Pattern(model)
    return [
        Right("info|memory"),
        Right("evalsha", both=(of.entries.replace("entries", "*"),)),
        Right("zrange zadd", both=(MODELS,)),
        Right("evalsha get set del", both=(gpu_lease("*", "*"),)),
        Right("xgroup|create xgroup|delconsumer xreadgroup xack xdel xclaim xautoclaim", both=(of.entries,)),
        Right("xpending xinfo|groups xinfo|consumers xrange xlen exists", both=(of.entries,)),
        Right("xadd", write=(of.dead_letters, of.replies("*"))),
        Right("xrange xlen xdel exists xinfo|stream", both=(of.dead_letters,)),
        Right("pexpire del", write=(of.replies("*"),)),
        Right("type", read=(of.entries, of.dead_letters, of.alive, of.consumers, of.versions, of.holders, of.counters)),
        Right("exists get mget set", both=(of.request("*"),)),
        Right("zadd zrange zrem zscore", both=(of.alive,)),
        Right("hset hget hdel hexists hgetall hincrby", both=(of.consumers, of.versions, of.holders, of.counters)),
    ]


def scaler_rights() -> list[Right]:
    """An autoscaler counts what waits, and whether a model was ever announced. It reads neither.

    KEDA counts a stream by XLEN, and anything else by a script of its own (EVAL) that asks for the key's type first.
    """
    of = _Pattern("*")
    return [Right("xlen", read=(of.entries,)), Right("eval type llen hlen", both=(of.versions,))]


def line(user: str, password: str, rights: Sequence[Right]) -> str:
    """One line of an ACL file; the password itself is not in it. 256 random bits need no slow hash."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    common = " ".join(f"+{command}" for command in _ANY.split())
    allowed = " ".join(one.encode() for one in rights)
    return f"user {user} on #{digest} resetkeys resetchannels -@all {common} {allowed}"


#: A client without a password may ask whether Redis is alive, and nothing else: a health check has no secret to lose.
DEFAULT = "user default on nopass resetkeys resetchannels -@all +ping"


def users_file(passwords: dict[str, str], *, model: str = "*") -> str:
    """The whole file; `passwords` has those of `ingest`, `consumer` and `admin`, and of `scaler` where there is one."""
    admin = hashlib.sha256(passwords["admin"].encode()).hexdigest()
    lines = [
        DEFAULT,
        f"user admin on #{admin} ~* &* +@all",
        line("ingest", passwords["ingest"], ingest_rights()),
        line("consumer", passwords["consumer"], consumer_rights(model)),
    ]
    if "scaler" in passwords:
        lines.append(line("scaler", passwords["scaler"], scaler_rights()))
    return "".join(f"{one}\n" for one in lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(PROGRAM, description="Make Redis users for ingest, consumers and the operator.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the files go; what is there already stays")
    parser.add_argument("--model", default="*", metavar="NAME", help="the only model of these consumers")
    parser.add_argument("--scaler", action="store_true", help="a user for an autoscaler, too, who may only count")
    given = parser.parse_args(arguments)
    file = given.folder / "redis" / "users.acl"
    users = ("ingest", "consumer", "admin", *(("scaler",) if given.scaler else ()))
    kept = {user: given.folder / user / "password" for user in users}
    if all(path.exists() for path in (file, *kept.values())):
        sys.stdout.write(f"{file} is there already\n")
        return 0
    passwords = {user: secrets.token_urlsafe(32) for user in kept}
    for user, password in passwords.items():
        _write(kept[user], password)
    _write(file, users_file(passwords, model=given.model))
    sys.stdout.write(f"{file} is made\n")
    return 0


def _write(path: Path, text: str) -> None:
    # Who may read a password is decided by who is given its folder; the processes there have users of their own.
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.chmod(0o444)
    new.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
