"""`python -m stream.acl FOLDER`: make Redis users who may do what their process needs, and nothing else.

Writes, with random passwords, which a later run keeps while it renews the rights:

    FOLDER/redis/users.acl        for Redis's `aclfile`: the users with the hashes of their passwords
    FOLDER/<user>/password        one for each user, for `SLUICE_REDIS_PASSWORD_FILE`

A right below is a pair: these commands on these keys. Redis checks what a script calls against the same rights, call
by call, so the right to run scripts (which needs whole keys) opens nothing else.
"""

import argparse
import hashlib
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stream.cli import NOT_FOUND, complain, write_atomically
from stream.keys import LOADS, MODELS, RELEASES, REQUESTS, Partition, gpu_lease, partition_key, rate, release_figures

PROGRAM = "python -m stream.acl"

#: What any connection needs; none of it uses a key. In a Cluster, a connection asks where its keys are.
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

    @cached_property
    def _prefix(self) -> str:
        return partition_key(self.model, "*", "")

    @cached_property
    def entries(self) -> str:
        """The streams of all classes and versions."""
        return self._prefix + "entries*"


def ingest_rights(*, waitaof: bool = True) -> list[Right]:
    """Ingest adds images and reads outcomes, and shows operators the group and its dead letters.

    It cannot take an image from the group, complete it, or pass for a consumer.
    """
    of = _Pattern("*")
    return [
        Right("evalsha", both=("sluice:*",)),
        Right("wait waitaof" if waitaof else "wait"),
        Right("info|server info|memory info|persistence"),
        Right("zrange zadd", both=(MODELS,)),
        Right("hgetall", read=(RELEASES, release_figures("*", "*"))),
        Right("hget hset hincrbyfloat pexpire type", both=(release_figures("*", "*"),)),
        Right("hset hsetnx hdel hincrby hkeys", both=(LOADS,)),
        Right("xadd xlen", write=(of.entries,)),
        Right("sadd smembers", both=(of.wanted_versions,)),
        Right("get mget set pttl pexpire", both=(of.request("*"),)),
        Right("set pexpire", write=(of.pixels("*"),)),
        Right("get set", both=(of.idempotency("*"), of.cache("*"), rate("*"))),
        Right("hset hgetall hdel expire", both=(REQUESTS,)),
        Right("xread", read=(of.replies("*"),)),
        Right("zcount zrange zscore", read=(of.alive,)),
        Right("hgetall", read=(of.consumers, of.versions, of.counters)),
        Right("exists xrange xpending xinfo|groups xinfo|consumers", read=(of.entries,)),
        # A dead letter may be replayed from the page.
        Right("xrange xlen xdel xtrim", both=(of.dead_letters,)),
        Right("hincrby", both=(of.counters,)),
        Right("type", read=(of.entries, of.dead_letters, of.counters)),
        Right("xlen xinfo|consumers", read=(of.webhooks, of.dead_webhooks)),
        Right("xtrim", write=(of.dead_webhooks,)),
    ]


def consumer_rights(model: str = "*") -> list[Right]:
    """A consumer reads images and writes outcomes of its model. It cannot add an image or read a reply."""
    of = _Pattern(model)
    return [
        Right("info|server info|memory info|persistence"),
        Right("evalsha", both=(partition_key(model, "*", "*"),)),
        Right("zrange zadd", both=(MODELS,)),
        Right("hmget", read=(LOADS,)),
        Right("hget", read=(RELEASES,)),
        Right("evalsha get set del", both=(gpu_lease("*", "*"),)),
        Right(
            "xgroup|create xgroup|delconsumer xgroup|setid xreadgroup xack xdel xclaim xautoclaim", both=(of.entries,)
        ),
        Right("xpending xinfo|groups xinfo|consumers xinfo|stream xrange xrevrange xlen exists", both=(of.entries,)),
        Right("xadd", write=(of.dead_letters, of.webhooks, of.replies("*"))),
        Right("type exists xinfo|stream xinfo|consumers xlen", read=(of.webhooks, of.dead_webhooks)),
        Right("xrange xlen xdel exists xinfo|stream", both=(of.dead_letters,)),
        Right("pexpire del", write=(of.replies("*"),)),
        Right("type", read=(of.entries, of.dead_letters, of.alive, of.consumers, of.versions, of.holders, of.counters)),
        Right("exists get mget set", both=(of.request("*"),)),
        Right("mget get unlink", both=(of.pixels("*"),)),
        Right("type smembers", read=(of.wanted_versions,)),
        Right("zadd zrange zrem zscore", both=(of.alive,)),
        Right("hset hget hdel hexists hgetall hincrby", both=(of.consumers, of.versions, of.holders, of.counters)),
        Right("hkeys", read=(of.versions,)),
    ]


def sender_rights() -> list[Right]:
    """A sender of webhooks reads outcomes and what labels they have. It reads no image, and completes none."""
    of = _Pattern("*")
    return [
        Right("evalsha", both=(partition_key("*", "*", "*"),)),
        Right("zrange", read=(MODELS,)),
        Right("hgetall", read=(of.versions,)),
        Right("xgroup|create xgroup|delconsumer xreadgroup xack xdel xclaim", both=(of.webhooks,)),
        Right("xinfo|consumers xpending xrange type", both=(of.webhooks,)),
        Right("xadd type", both=(of.dead_webhooks,)),
        Right("hincrby type", both=(of.counters,)),
    ]


def scaler_rights() -> list[Right]:
    """An autoscaler counts the backlog, and whether a model was ever announced. It reads neither.

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


#: Nobody can log in as the default user. It has all rights, because Redis runs its append-only file as this user:
#: without them, it drops each transaction when it starts, and so what every script has written.
_DEFAULT = "user default off ~* &* +@all"

#: Any password will do, and the user may only ask whether Redis is alive: a health check has no secret to lose.
_HEALTH = "user health on nopass resetkeys resetchannels -@all +ping"


def users_file(passwords: dict[str, str], *, model: str = "*", waitaof: bool = True) -> str:
    """The whole file; `passwords` has those of `ingest`, `consumer`, `webhooks`, `admin`, and any `scaler`."""
    admin = hashlib.sha256(passwords["admin"].encode()).hexdigest()
    lines = [
        _DEFAULT,
        _HEALTH,
        f"user admin on #{admin} ~* &* +@all",
        line("ingest", passwords["ingest"], ingest_rights(waitaof=waitaof)),
        line("consumer", passwords["consumer"], consumer_rights(model)),
        line("webhooks", passwords["webhooks"], sender_rights()),
    ]
    if "scaler" in passwords:
        lines.append(line("scaler", passwords["scaler"], scaler_rights()))
    return "".join(f"{one}\n" for one in lines)


def _fits(users: str, *, model: str, waitaof: bool) -> bool:
    """Whether a file was made with these options, if perhaps by an older version with other rights."""
    consumer = next((one for one in users.splitlines() if one.startswith("user consumer ")), "")
    return f"~{partition_key(model, '*', '*')}" in consumer and ("+waitaof" in users) is waitaof


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(PROGRAM, description="Make Redis users for ingest, consumers and the operator.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the files go; existing passwords stay")
    parser.add_argument("--model", default="*", metavar="NAME", help="the only model of these consumers")
    parser.add_argument("--scaler", action="store_true", help="also make a user for an autoscaler, who may only count")
    parser.add_argument("--redis-7-0", action="store_true", help="for Redis 7.0, which has no WAITAOF")
    given = parser.parse_args(arguments)
    try:
        return _write(given)
    except OSError as error:
        return complain(PROGRAM, f"{error.filename}: {error.strerror}", NOT_FOUND)


def _write(given: argparse.Namespace) -> int:
    file = given.folder / "redis" / "users.acl"
    before = file.read_text() if file.exists() else ""
    if before and not _fits(before, model=given.model, waitaof=not given.redis_7_0):
        sys.stderr.write(
            f"{file} is there, for other options. Give those again, or remove this file to change them: "
            "the passwords stay.\n"
        )
        return 1
    kept = {user: given.folder / user / "password" for user in ("ingest", "consumer", "webhooks", "admin")}
    scaler = given.folder / "scaler" / "password"
    if given.scaler or scaler.exists():
        kept["scaler"] = scaler
    renewed = [user for user, path in kept.items() if not path.exists()]
    passwords = {user: path.read_text() if path.exists() else secrets.token_urlsafe(32) for user, path in kept.items()}
    text = users_file(passwords, model=given.model, waitaof=not given.redis_7_0)
    if text == before and not renewed:
        sys.stdout.write(f"{file} is there already\n")
        return 0
    # Who may read a password is decided by who is given its folder; the processes there have users of their own. In
    # containers these folders exist already. Other users of this machine get none.
    given.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in (*kept.values(), file):
        path.parent.mkdir(parents=True, exist_ok=True)
    for user in renewed:
        write_atomically(kept[user], passwords[user], mode=0o444)
    write_atomically(file, text, mode=0o444)
    sys.stdout.write(f"{file} {_changed(renewed) if before else 'is made'}\n")
    return 0


def _changed(renewed: Sequence[str]) -> str:
    """What a later run has changed, and what to do with it."""
    users = ", ".join(renewed)
    new = f"there are new passwords of {users}" if renewed else "the passwords are as before"
    restart = f", then restart the processes of: {users}" if renewed else ""
    return f"has the rights of this version now, and {new}. Install it, run ACL LOAD{restart}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
