"""Checks a Redis server: its version, its durability, its limits of memory and its clock."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.settings import Durability
from stream.unreadable import lacks_rights

logger = logging.getLogger(__name__)

Version = tuple[int, int, int]

#: The first version with WAITAOF.
_WAITAOF_SINCE: Final = (7, 2, 0)

_DISK_FAILS: Final = "Redis cannot write to its disk, and accepts no image until it can: free some space there"

_MAY_NOT_ASK: Final = "Sluice's user may not ask for appendfsync"

#: A clock that moves does so within this time.
_CLOCK_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of server versions from `since` up to, but without, `fixed`. `fatal`: Sluice cannot work with it."""

    kind: Literal["redis", "valkey"]
    since: Version
    fixed: Version
    why: str
    fatal: bool = False


#: Versions with known faults that concern Sluice. Redis 7.0 has the fault of scripts, too, but is maintained by
#: distributions, which mend it without another version: Debian 12 has a mended 7.0.15.
FAULTS: Final = (
    Fault("redis", (0, 0, 0), (7, 0, 0), "its scripts have no flags and XAUTOCLAIM hides deleted entries", fatal=True),
    Fault("redis", (7, 0, 0), (7, 0, 5), "XAUTOCLAIM can overflow the heap (CVE-2022-35951)"),
    Fault("redis", (7, 2, 0), (7, 2, 11), "a script can run code in the server (CVE-2025-49844)"),
    Fault("redis", (7, 4, 0), (7, 4, 6), "a script can run code in the server (CVE-2025-49844)"),
    Fault("redis", (8, 0, 0), (8, 0, 4), "a script can run code in the server (CVE-2025-49844)"),
    Fault("redis", (8, 2, 0), (8, 2, 2), "a script can run code in the server (CVE-2025-49844)"),
    Fault("valkey", (7, 2, 0), (7, 2, 11), "a script can run code in the server (CVE-2025-49844)"),
    Fault("valkey", (8, 0, 0), (8, 0, 6), "a script can run code in the server (CVE-2025-49844)"),
    Fault("valkey", (8, 1, 0), (8, 1, 4), "a script can run code in the server (CVE-2025-49844)"),
    Fault("valkey", (9, 1, 0), (9, 1, 2), "its Lua interpreter is used after it was freed (GHSA-fq2f-crmw-q97r)"),
)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server says of itself. Empty texts and None: it does not say, or its user may not ask."""

    kind: Literal["redis", "valkey"] = "redis"
    version: Version | None = None
    appendonly: bool | None = None
    appendfsync: str = ""
    eviction_policy: str = ""
    full: bool = False
    client_memory_limit: str = ""
    clock_moves: bool = True

    @property
    def name(self) -> str:
        return f"{self.kind.capitalize()} {'.'.join(map(str, self.version or ()))}".strip()

    def survives(self, durability: Durability) -> bool | None:
        """Whether a reply alone proves that the level is reached; None if the server does not say."""
        if durability == "memory":
            return True
        if self.appendonly is False:
            return False
        if not self.appendfsync:
            return None
        return self.appendfsync == "always" or (durability == "process" and self.appendfsync == "no")

    @property
    def has_waitaof(self) -> bool | None:
        """Whether the server can wait for its disk, if it has an append-only file; None if it does not say."""
        return None if self.version is None else self.version >= _WAITAOF_SINCE

    def can_confirm(self, durability: Durability) -> bool:
        """False if the server can never say that an image has reached the level."""
        if durability != "disk" or self.survives(durability):
            return True
        return self.appendonly is not False and self.has_waitaof is not False


class ServerRefused(Exception):
    """Sluice cannot work with this server."""


class WritesRefused(RedisConnectionError):
    """The server answers, but accepts no writes, because its disk accepts none."""


async def read_facts(redis: Redis) -> ServerFacts:
    """Ask the server; raises redis-py's errors, except for what its user may not ask."""
    server, memory, persistence = [await _info(redis, section) for section in ("server", "memory", "persistence")]
    kind: Literal["redis", "valkey"] = "valkey" if "valkey_version" in server else "redis"
    enabled = persistence.get("aof_enabled")
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    # As the server itself counts: its buffers for the append-only file and for replicas are beyond the limit.
    used = memory.get("used_memory", 0) - memory.get("mem_not_counted_for_evict", 0)
    return ServerFacts(
        kind=kind,
        version=_version(str(server.get(f"{kind}_version", ""))),
        appendonly=None if enabled is None else bool(enabled),
        appendfsync=await _config(redis, "appendfsync"),
        eviction_policy=policy if memory.get("maxmemory") and policy != "noeviction" else "",
        full=bool(memory.get("maxmemory")) and policy == "noeviction" and used > memory["maxmemory"],
        client_memory_limit=await _config(redis, "maxmemory-clients"),
        clock_moves=await _clock_moves(redis),
    )


async def _info(redis: Redis, section: str) -> dict[str, Any]:
    try:
        found: Any = await redis.info(section)
    except ResponseError:
        return {}
    return dict(found)


async def _config(redis: Redis, name: str) -> str:
    # An administrator's command: the users of `python -m stream.acl` may not ask.
    try:
        found: Any = await redis.config_get(name, may_be_refused=True)
    except ResponseError:
        return ""
    return str(found.get(name, ""))


async def _clock_moves(redis: Redis) -> bool:
    before: Any = await redis.time()
    await asyncio.sleep(_CLOCK_S)
    after: Any = await redis.time()
    return bool(after != before)


def _version(text: str) -> Version | None:
    numbers = [int(part) for part in text.split(".")[:3] if part.isdecimal()]
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else None


def problems(facts: ServerFacts, durability: Durability) -> list[str]:
    """What is wrong with a server, and what to do, in a sentence each."""
    return [*_faults(facts), *_limits(facts), *_durability(facts, durability)]


def refuse_fatal(facts: ServerFacts) -> None:
    """Raises ServerRefused if Sluice cannot work with this version."""
    for fault in _known_faults(facts):
        if fault.fatal:
            raise ServerRefused(f"Sluice cannot work with {facts.name}: {fault.why}. {_upgrade(fault)}")


def _known_faults(facts: ServerFacts) -> Iterator[Fault]:
    return (
        fault
        for fault in FAULTS
        if facts.version and fault.kind == facts.kind and fault.since <= facts.version < fault.fixed
    )


def _upgrade(fault: Fault) -> str:
    return f"Upgrade to {fault.kind.capitalize()} {'.'.join(map(str, fault.fixed))} or newer."


def _faults(facts: ServerFacts) -> Iterator[str]:
    return (f"{facts.name} has a known fault: {fault.why}. {_upgrade(fault)}" for fault in _known_faults(facts))


def _limits(facts: ServerFacts) -> Iterator[str]:
    if facts.eviction_policy:
        yield f"Redis evicts queued images when its memory is full: maxmemory-policy is {facts.eviction_policy}."
    if facts.full:
        yield "Redis is full and accepts no image: it uses more than maxmemory. Raise that, or lower max_backlog."
    if facts.client_memory_limit not in {"", "0"}:
        yield (
            "Redis can disconnect a consumer while it reads a batch: "
            f"maxmemory-clients is {facts.client_memory_limit}. Set it to 0."
        )
    if not facts.clock_moves:
        yield "The clock of Redis does not move: no deadline and no heartbeat ends."


def _durability(facts: ServerFacts, durability: Durability) -> Iterator[str]:
    if facts.survives(durability):
        return
    if facts.appendonly is False:
        yield (
            f"Accepted images do not survive the end of Redis's process, as durability={durability} wants: appendonly "
            "is no. Set appendonly to yes and appendfsync to always, or durability to memory."
        )
    elif not facts.can_confirm(durability):
        known = f"appendfsync is {facts.appendfsync}" if facts.appendfsync else _MAY_NOT_ASK
        yield (
            f"{facts.name} refuses every image with durability={durability}: it has no WAITAOF, and {known}. Upgrade "
            "to Redis 7.2 or newer. Or set appendfsync to always and durability to process: each image is on the disk "
            "then, too."
        )
    elif not facts.appendfsync:
        return
    elif facts.kind == "valkey" or durability == "disk" or facts.has_waitaof is False:
        yield (
            f"Redis can lose accepted images, against durability={durability}: appendfsync is {facts.appendfsync}. "
            "Set it to always, or durability to memory."
        )
    else:
        yield (
            f"Redis accepts each image only after up to a second, for durability={durability}: appendfsync is "
            f"{facts.appendfsync}. Set it to always, or durability to memory."
        )


def doubts(facts: ServerFacts, durability: Durability) -> list[str]:
    """What may be wrong with a server, but cannot be known, in a sentence each."""
    if facts.survives(durability) is not None or facts.has_waitaof is not False or not facts.can_confirm(durability):
        return []
    doubt = (
        f"Sluice cannot check that accepted images are safe (durability={durability}): {facts.name} has no WAITAOF, "
        f"and {_MAY_NOT_ASK}. With everysec they can be lost, so it must be always or no. "
        "`sluice status` checks it as the user admin."
    )
    return [doubt]


async def refused_writes(redis: Redis) -> str:
    """Why the server refuses all writes, because its disk does; empty if it accepts them."""
    try:
        await redis.ping()  # Refused as a write is, whatever the file that cannot be written.
    except ResponseError as error:
        return _DISK_FAILS if str(error).startswith("MISCONF") else ""
    return ""


def reason_of(error: RedisError | TimeoutError) -> str:
    """What an error of Redis means to somebody who sent an image."""
    if isinstance(error, WritesRefused) or str(error).startswith("MISCONF"):
        return _DISK_FAILS
    if isinstance(error, OutOfMemoryError):
        return "Redis is full (OutOfMemoryError)"
    if lacks_rights(error):
        return "Redis refuses a command of its user (NoPermissionError)"
    if isinstance(error, AuthenticationError):
        return "Redis refuses the login (AuthenticationError)"
    if isinstance(error, (RedisConnectionError, RedisTimeoutError, TimeoutError)):
        return f"Redis does not answer ({type(error).__name__})"
    return f"Redis cannot answer at present ({type(error).__name__})"
