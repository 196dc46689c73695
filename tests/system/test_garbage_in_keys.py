"""Whatever stands under any of Sluice's keys: no response is a 500, no process ends, and the service heals."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from results.outcome import Done, Failed, encode
from stream import keys
from tests.support.images import encoded, scene
from tests.support.processes import Process, Processes
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until

#: All families of keys, as the documentation in stream/keys.py lists them: a new one is tested without further ado.
FAMILIES = re.findall(r"^\| `(sluice:[^`]+)` \|.*\| ([^|]+) \|$", keys.__doc__ or "", re.MULTILINE)

IMAGE = encoded(scene(16, 16), "PNG")

#: What the documented names in a key stand for, if no such key is in use.
_EXAMPLES = {"m/n": "tiny/0", "id": "a" * 32, "version": "1"}

_FOREIGN = Done("a" * 32, "77", "cpu", (1, 2), (0.5, 0.25), 1, 0.0, 0.0)
_STRINGS = (
    b"", b"\xff\xfe", b"1e999", b"nan", b"-1", b"queued", b"queued x y", b"{}", encode(_FOREIGN),
    encode(Done("a" * 32, "1", "cpu", (4_000_000_000,), (0.5,), 1, 0.0, 0.0)),
    encode(Done("a" * 32, "1", "cpu", (1,), (float("nan"),), 1, 0.0, 0.0)),
    encode(Failed("a" * 32, "expired", "why")),
)  # fmt: skip

#: JSON that is nested too deeply for a parser.
_NESTED = b"[" * 100_000

#: JSON values that a field of another kind, or of a stricter kind, has in place of its own.
_WRONG = ("1" + "0" * 400, "-1e999", "NaN", r'"\ud800"', r'"\u0000"', '""', "-1", "1e300", "null", "[]", "{}", "true")


@pytest.fixture(scope="module")
def service(
    server: Server, models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[list[Process], str]]:
    """A consumer and an ingest with everything switched on that has a key of its own."""
    with Processes(tmp_path_factory.mktemp("garbage"), redis_url=server.url, models_dir=models_dir) as started:
        consumer = started.consumer(version=1, lease_s=1, redis_timeout_s=0.5)
        ingest, url = started.ingest(
            redis_timeout_s=1, request_timeout_s=2, max_wait_s=1, cache_ttl_s=60, rate_limit_per_s=1000
        )
        yield [consumer, ingest], url


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        yield client


def test_there_are_families() -> None:
    """The pattern still fits the documentation."""
    assert len(FAMILIES) > 15


@pytest.mark.parametrize(("family", "lives"), FAMILIES)
def test_garbage_costs_at_most_a_refusal(
    family: str, lives: str, service: tuple[list[Process], str], client: redis.Redis
) -> None:
    """Under every key of the family that is in use, or under one that is not: strings, and keys of another type. In a
    hash, also under each field.

    Of what expires, only the outcome of one request can be wrong for longer than a request.
    """
    running, url = service
    wait_until(lambda: use(url) == 200, "images are classified")
    names = client.keys(re.sub(r"<\w+>", "*", family).replace("{m/n}", "{tiny/0}")) or [_example(family)]
    for name in names[:3]:
        if client.type(name) == b"hash":
            wrong = [one for value in client.hvals(name) for one in with_a_wrong_field(value)]
            client.hset(name, mapping={b"%d" % number: one for number, one in enumerate([b"", *wrong])})
            use(url)
            client.hset(name, mapping=dict.fromkeys([*client.hkeys(name), b"new"], _NESTED))
            use(url)
        for value in _STRINGS:
            client.set(name, value)
            use(url)
            if lives == "expires" and "request:" not in family:
                wait_until(lambda: use(url) == 200, f"images are classified with {name!r}")
        for command in (
            ("HSET", name, b"\xff", b"\xff"),
            ("ZADD", name, "inf", b"\xff"),
            ("XADD", name, "*", b"\xff", b"\xff"),
        ):
            with client.pipeline() as together:  # In between, a consumer would make its group's stream again.
                together.delete(name)
                together.execute_command(*command)  # type: ignore[no-untyped-call]
                together.execute()
            use(url)
        client.delete(name)
    wait_until(lambda: use(url) == 200, f"images are classified without {family}")
    assert [process.status for process in running] == [None, None]
    assert not [process.log for process in running if "Traceback" in process.text]


def with_a_wrong_field(value: bytes | str) -> Iterator[bytes]:
    """If the value is a JSON object: variants of it in each of which one field is wrong."""
    try:
        fields = json.loads(value)
    except ValueError:
        return
    for name in fields if isinstance(fields, dict) else ():
        for wrong in _WRONG:
            yield json.dumps({**fields, name: "@"}).replace('"@"', wrong).encode()


def _example(family: str) -> str:
    for name, value in _EXAMPLES.items():
        family = family.replace(f"<{name}>", value).replace(f"{{{name}}}", f"{{{value}}}")
    return re.sub(r"<\w+>", "1", family)


def use(url: str) -> int:
    """Do all that reads or writes a key; the worse status of two predictions. No response may be a fault of ours."""
    responses = [
        httpx.post(f"{url}/predict", content=IMAGE, headers={"Idempotency-Key": "key", "Prefer": "wait=1"}),
        httpx.get(f"{url}/results/{'a' * 32}"),
        *(httpx.get(f"{url}/{path}") for path in ("metrics", "models", "readyz", "dead-letters")),
        httpx.post(f"{url}/predict", content=IMAGE),
    ]
    for response in responses:
        code = response.json().get("code") if response.status_code >= 400 else None
        assert response.status_code < 500 or code in {
            "damaged_in_redis", "stream_unavailable", "no_consumer", "overloaded", "deadline_passed", None,
        }, response.text  # fmt: skip
        assert response.status_code != 500 or code == "damaged_in_redis", response.text
    return max(responses[0].status_code, responses[-1].status_code)
