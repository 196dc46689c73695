"""Redis users with least privilege: each is refused what it does not need."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.retry import Retry

from stream.keys import Partition
from tests.support.redis.requests_direct import TINY
from tests.support.redis.servers import Server
from tests.support.redis.users import as_user, password

USERS = ("ingest", "consumer")
OTHER = Partition("other")

#: How a server says that a script may not do what it tries.
_REFUSED = r"NOPERM|ACL failure|user executing the script"


@pytest.fixture(params=USERS)
def user(request: pytest.FixtureRequest, users: Path, guarded: Server) -> Iterator[redis.Redis]:
    with redis.Redis(port=guarded.port, username=request.param, password=password(users, request.param)) as client:
        yield client


def test_a_sender_reads_no_image(users: Path, guarded: Server) -> None:
    """It sees outcomes alone, and can make none."""
    with as_user(users, guarded, "webhooks") as sender:
        for command in (
            f"XRANGE {TINY.entries} - +", f"GET {TINY.request('x')}", f"XADD {TINY.webhooks} * a b",
            f"XRANGE {TINY.dead_letters} - +", f"XRANGE {TINY.dead_webhooks} - +", "GET sluice:{all}:rate:key:alice",
        ):  # fmt: skip
            with pytest.raises(NoPermissionError):
                _do(sender, command)


@pytest.mark.parametrize(
    "command",
    ["FLUSHALL", "FLUSHDB", "KEYS *", "SCAN 0", "CONFIG GET *", "CONFIG SET maxmemory 1", "ACL LIST", "ACL WHOAMI",
     "SHUTDOWN NOSAVE", "SCRIPT FLUSH", "SCRIPT KILL", "EVAL return 0", "FUNCTION LIST", "MONITOR", "CLIENT LIST",
     "CLIENT KILL ID 1", "DEBUG OBJECT x", "REPLICAOF NO ONE", "MODULE LIST", "SAVE", "SUBSCRIBE x",
     "INFO", "INFO clients",
     f"DEL {TINY.entries}", f"XTRIM {TINY.entries} MAXLEN 0", f"XGROUP DESTROY {TINY.entries} consumers",
     f"RENAME {TINY.entries} x", f"GET {OTHER.dead_letters}", "GET unrelated", "SET unrelated 1"],
)  # fmt: skip
def test_nobody_may(user: redis.Redis, command: str) -> None:
    """Commands that endanger the server or another's data, for both sides."""
    with pytest.raises(NoPermissionError):
        _do(user, command)


def test_ingest_cannot_pass_for_a_consumer(users: Path, guarded: Server) -> None:
    """It takes nothing from the group, answers nothing, announces nothing; not even by a script."""
    with as_user(users, guarded, "ingest") as ingest:
        for command in (
            f"XREADGROUP GROUP consumers x STREAMS {TINY.entries} >", f"XACK {TINY.entries} consumers 1-1",
            f"XCLAIM {TINY.entries} consumers x 0 1-1", f"XDEL {TINY.entries} 1-1", f"XADD {TINY.dead_letters} * a b",
            f"XADD {TINY.replies('x')} * o x", f"ZADD {TINY.alive} 1 x", f"HSET {TINY.versions} 1 x",
            f"HSET {TINY.counters} completed 1", f"HGETALL {TINY.holders}", "SADD sluice:{all}:models x",
            f"DEL {TINY.request('x')}", "GET sluice:{all}:models",
        ):  # fmt: skip
            with pytest.raises(NoPermissionError):
                _do(ingest, command)
        _refused_in_a_script(
            ingest, f"return redis.call('XADD', '{TINY.replies('x')}', '*', 'o', 'x')", TINY.replies("x")
        )
        assert ingest.get(TINY.request("x")) is None


def test_a_consumer_is_confined_to_its_model_and_its_side(users: Path, guarded: Server) -> None:
    """No other model's images or results, no reply, no image put in, no count of requests."""
    with as_user(users, guarded, "consumer") as consumer:
        for command in (
            f"GET {OTHER.request('x')}", f"MGET {TINY.request('x')} {OTHER.request('x')}",
            f"SET {OTHER.request('x')} 1",
            f"XRANGE {OTHER.entries} - +", f"XREADGROUP GROUP consumers x STREAMS {OTHER.entries} >",
            f"XADD {OTHER.dead_letters} * a b", f"XADD {TINY.entries} * a b", f"XREAD STREAMS {TINY.replies('x')} 0",
            f"GET {TINY.idempotency('x')}", "GET sluice:{all}:rate:key:alice", "SET sluice:{all}:rate:key:alice 0",
        ):  # fmt: skip
            with pytest.raises(NoPermissionError):
                _do(consumer, command)
        _refused_in_a_script(consumer, f"return redis.call('XADD', '{TINY.entries}', '*', 'a', 'b')", TINY.entries)
        assert consumer.get(TINY.request("x")) is None


def _do(client: redis.Redis, command: str) -> None:
    words: list[Any] = command.split()
    client.execute_command(*words)  # type: ignore[no-untyped-call,unused-ignore]


def _refused_in_a_script(client: redis.Redis, source: str, key: str) -> None:
    with pytest.raises(ResponseError, match=_REFUSED):
        client.register_script(source)([key])


def test_an_autoscaler_may_count_and_nothing_else(users: Path, guarded: Server) -> None:
    """As KEDA asks: a stream by XLEN, a hash by a script that looks at its type; before there is anything, too."""
    count = "return redis.call(({hash = 'hlen', none = 'llen'})[redis.call('type', KEYS[1]).ok], KEYS[1])"
    with as_user(users, guarded, "admin") as admin, as_user(users, guarded, "scaler") as scaler:
        assert scaler.ping()
        assert (scaler.xlen(OTHER.entries), scaler.eval(count, 1, OTHER.versions)) == (0, 0)
        admin.hset(OTHER.versions, "1", "{}")
        admin.xadd(OTHER.entries, {"a": "b"})
        assert (scaler.xlen(OTHER.entries), scaler.eval(count, 1, OTHER.versions)) == (1, 1)
        for command in (f"HGETALL {OTHER.versions}", f"XRANGE {OTHER.entries} - +", f"DEL {OTHER.versions}", "KEYS *"):
            with pytest.raises(NoPermissionError):
                _do(scaler, command)
        with pytest.raises(ResponseError, match=_REFUSED):
            scaler.eval("return redis.call('HGETALL', KEYS[1])", 1, OTHER.versions)
        admin.delete(OTHER.versions, OTHER.entries)


def test_without_a_password_redis_says_only_that_it_lives(users: Path, guarded: Server) -> None:
    """As the health check of compose.yaml asks, with any password; a wrong one of another user is none."""
    with redis.Redis(port=guarded.port, username="health", password="any") as health:  # noqa: S106
        assert health.ping()
        for command in ("GET x", "ACL WHOAMI", f"XLEN {TINY.entries}", "SCRIPT LOAD return"):
            with pytest.raises(NoPermissionError):
                _do(health, command)
    once = Retry(NoBackoff(), 0)
    for name, guess in (("ingest", "wrong"), ("default", ""), (None, None)):
        with redis.Redis(port=guarded.port, username=name, password=guess, retry=once) as guesser:  # noqa: SIM117
            with pytest.raises(AuthenticationError):
                guesser.ping()
