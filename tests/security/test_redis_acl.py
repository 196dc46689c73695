"""Redis users with least privilege: the main path works under them, and each is refused what it does not need."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.retry import Retry

from consumers.gpu.leases import GpuLeases
from results.completion import Completed, Completion
from results.dead_letters import DeadLetters
from results.outcome import Failed
from sluice import release as sluice_release
from stream import acl
from stream.admission import Admission
from stream.connection.group_reader import Reader
from stream.entry import Entry
from stream.group import Group
from stream.keys import Partition
from stream.presence import ConsumerReport, Presence
from stream.server_check import read_facts
from stream.status.reader import read_status
from tests.ingest.api.test_async_requests import (  # noqa: F401
    test_many_can_wait_for_one_result as test_waiting_under_these_users,
)
from tests.ingest.api.test_results import (  # noqa: F401
    test_a_late_answer_can_be_fetched_and_a_queued_one_cancelled as test_cancelling_under_these_users,
)

# The main path: these tests run here once more, with the server and the users below.
from tests.ingest.test_app import png, ranked
from tests.security.test_keys import ALICE, bearer
from tests.support.processes import Processes
from tests.support.recorded_server import body, serve
from tests.support.redis.requests_direct import TINY, random_images
from tests.support.redis.servers import Server
from tests.support.redis.users import UnderUsers, as_user, make_users, password, settings_of, under
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio

USERS = ("ingest", "consumer")
OTHER = Partition("other")

#: How a server says that a script may not do what it tries.
_REFUSED = r"NOPERM|ACL failure|user executing the script"


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes."""
    folder = tmp_path_factory.mktemp("users")
    assert make_users(folder, "--model", TINY.model, "--scaler") == 0
    return folder


@pytest.fixture(scope="module")
def server(users: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has loaded these users; its URL is the administrator's."""
    server = Server(tmp_path_factory.mktemp("server"), options={"aclfile": str(users / "redis" / "users.acl")})
    server.url = server.url.replace("//", f"//admin:{password(users, 'admin')}@")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def processes(users: Path, server: Server, models_dir: Path, tmp_path: Path) -> Iterator[Processes]:
    with UnderUsers(tmp_path, users=users, server=server, models_dir=models_dir) as started:
        yield started


@pytest.fixture(params=USERS)
def user(request: pytest.FixtureRequest, users: Path, server: Server) -> Iterator[redis.Redis]:
    with redis.Redis(port=server.port, username=request.param, password=password(users, request.param)) as client:
        yield client


def test_all_that_ingest_asks_of_redis_is_allowed(processes: Processes) -> None:
    """Predict, come back, send again, be limited; an answer each time, and no word of a refusal in a log."""
    consumer = processes.consumer(version=1)
    ingest, url = processes.ingest(api_keys=f"alice:{ALICE}", rate_limit_per_s=100, cache_ttl_s=600)
    image = random_images(1)[0]
    with httpx.Client(base_url=url, headers=bearer(ALICE)) as client:
        answer = client.post("/predict", content=png(image))
        assert (answer.status_code, answer.json()["predictions"]) == (200, ranked(image))
        for _ in range(2):
            again = client.post("/predict", content=png(image), headers={"Idempotency-Key": "1"})
            assert (again.status_code, again.json()["predictions"]) == (200, ranked(image))
            assert again.headers["cache-status"] == "sluice; hit"
        assert client.get(f"/results/{again.json()['id']}", headers={"Prefer": "wait=1"}).json() == again.json()
    assert consumer.stop() == 0
    assert [process.text.count("permission") for process in (consumer, ingest)] == [0, 0]


def test_all_that_a_sender_asks_of_redis_is_allowed(processes: Processes) -> None:
    """A delivery, a failure that is tried again, and one given up; and the others' part in it."""
    hooks: dict[str, Any] = {"webhooks": True, "outbound_http": True, "outbound_networks": "127.0.0.1/32"}
    running = [processes.consumer(version=1)]
    ingest, url = processes.ingest(**hooks)
    secret = "whsec_" + "A" * 32
    sender = processes.start("ingest.webhooks", **hooks, webhook_secret=secret, webhook_retries_s="0.1")
    with serve({"/ok": body(b""), "/never": body(b"", status=500)}) as receiver:
        for path in ("/ok", "/never"):
            headers = {"Prefer": "respond-async", "Webhook-URL": receiver.url + path}
            assert httpx.post(f"{url}/predict", content=png(random_images(1)[0]), headers=headers).is_success
        wait_until(
            lambda: 'event="webhook_dead",model="tiny"} 1.0' in httpx.get(f"{url}/metrics").text, "one is given up"
        )
        assert [post.path for post in receiver.posts].count("/ok") == 1
    assert httpx.get(f"{url}/metrics").text.count('sluice_webhook_senders{model="tiny"} 1.0') == 1
    assert sender.stop() == 0
    assert [one.text.count("permission") for one in (*running, ingest, sender)] == [0, 0, 0]


def test_a_sender_reads_no_image(users: Path, server: Server) -> None:
    """It sees outcomes alone, and can make none."""
    with as_user(users, server, "webhooks") as sender:
        for command in (
            f"XRANGE {TINY.entries} - +", f"GET {TINY.request('x')}", f"XADD {TINY.webhooks} * a b",
            f"XRANGE {TINY.dead_letters} - +", f"XRANGE {TINY.dead_webhooks} - +", "GET sluice:{all}:rate:key:alice",
        ):  # fmt: skip
            with pytest.raises(NoPermissionError):
                _do(sender, command)


async def test_all_that_a_consumer_asks_of_redis_is_allowed(users: Path, server: Server) -> None:
    """From joining to leaving: read, read again, renew, claim, write a dead letter; and ingest may replay it."""
    reads = Reader(settings_of(users, server, "consumer"))
    async with under(users, server, "ingest") as ingest, under(users, server, "consumer") as consumer, reads as reader:
        presence = Presence(consumer, TINY)
        await presence.heartbeat(ConsumerReport("b", "host", 1, "1", "cpu", "idle"), lease_s=60)
        entry = Entry(id="x", reply="ingest", top=1, height=1, width=1, pixels=b"rgb")
        await Admission(ingest, TINY, result_ttl_s=60).admit(entry, timeout_s=60, max_backlog=9)
        one, other = (Group(consumer, reader, TINY, consumer=name, lease_s=0.001) for name in "ab")
        await one.create()
        (delivery,) = await one.read(1)
        assert [again.entry_id for again in await one.read_pending(1)] == [delivery.entry_id]
        assert await one.renew([delivery.entry_id]) == []
        claimed = None
        while claimed is None:
            claimed = await other.claim()
        completion = Completion(consumer, TINY, consumer="b", result_ttl_s=60, max_dead_letters=9)
        failed = Completed(
            delivery.entry_id,
            Failed("x", "dead_letter", "given up"),
            "ingest",
            dead_letter_reason="given up",
            deliveries=2,
        )
        assert await completion.complete([failed]) == [True]
        assert await other.remove_dead_consumers() == 1
        dead_letters = DeadLetters(ingest, TINY)
        (dead_letter,) = await dead_letters.all()
        async with under(users, server, "webhooks") as sender:
            await sender.xadd(TINY.dead_webhooks, {"reason": "given up"}, id="1-1")
        assert await dead_letters.expire(3600) == (0, 1)
        assert await dead_letters.replay(dead_letter, request_ttl_s=60)
        assert (await read_status(ingest, TINY)).backlog == 1
        assert await presence.leave("b") == 0
        lease = await GpuLeases(consumer, ["gpu"], consumer="b", lease_s=60).acquire()
        assert lease
        await lease.release()
        assert await GpuLeases(consumer, ["gpu"], consumer="c", lease_s=60).acquire()


def test_a_consumer_s_user_may_look_at_the_group(processes: Processes) -> None:
    """`python -m consumers.status` reads in its name."""
    processes.consumer(version=1).ready()
    look = processes.start("consumers.status")
    assert look.wait() == 0, look.text


def test_a_process_with_another_user_says_what_is_wrong(processes: Processes) -> None:
    """A consumer ends in a line and may start again. Ingest takes no value in Redis for damaged."""
    consumer = processes.consumer(version=1, user="ingest")
    assert consumer.wait() == os.EX_TEMPFAIL
    assert "Redis refuses a command of this consumer: " in consumer.text
    assert "Traceback" not in consumer.text
    ingest, _ = processes.ingest(ready=False, user="consumer")
    wait_until(lambda: ingest.says("Redis refuses its user the hash of orders: "), "it is logged")
    assert "skipped a value" not in ingest.text


def test_an_operator_learns_which_user_to_use(
    processes: Processes, users: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands name their Redis by options alone."""
    processes.consumer(version=1).ready()

    def release(user: str, *more: str) -> tuple[int, str]:
        where = f"--redis-url=redis://{user}@127.0.0.1:{server.port}"
        return sluice_release.main(["set", "tiny", "1", "--promote", where, *more]), "".join(capsys.readouterr())

    files = {name: f"--redis-password-file={users / name / 'password'}" for name in ("ingest", "admin")}
    status, said = release("ingest", files["ingest"])
    assert (status, said.startswith("sluice release: Redis refuses this to its user: ")) == (2, True)
    assert said.endswith(". Use one with the rights, such as admin of `python -m stream.acl`\n")
    status, said = release("admin")
    assert (status, said.startswith("sluice release: Redis refuses the user or its password: ")) == (2, True)
    assert release("admin", files["admin"])[0] == 0
    assert sluice_release.main(["clear", "tiny", f"--redis-url={server.url}"]) == 0


async def test_both_sides_learn_whether_redis_evicts(users: Path, server: Server) -> None:
    """Of INFO they see no more; who may not ask at all is no error."""
    with as_user(users, server, "admin") as admin:
        admin.config_set("maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
        try:
            for name, expected in {"ingest": "allkeys-lru", "consumer": "allkeys-lru", "scaler": ""}.items():
                async with under(users, server, name) as client:
                    assert (await read_facts(client)).eviction_policy == expected
        finally:
            admin.config_set("maxmemory", "0", "maxmemory-policy", "noeviction")


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


def test_ingest_cannot_pass_for_a_consumer(users: Path, server: Server) -> None:
    """It takes nothing from the group, answers nothing, announces nothing; not even by a script."""
    with as_user(users, server, "ingest") as ingest:
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


def test_a_consumer_is_confined_to_its_model_and_its_side(users: Path, server: Server) -> None:
    """No other model's images or results, no reply, no image put in, no count of requests."""
    with as_user(users, server, "consumer") as consumer:
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


def test_an_autoscaler_may_count_and_nothing_else(users: Path, server: Server) -> None:
    """As KEDA asks: a stream by XLEN, a hash by a script that looks at its type; before there is anything, too."""
    count = "return redis.call(({hash = 'hlen', none = 'llen'})[redis.call('type', KEYS[1]).ok], KEYS[1])"
    with as_user(users, server, "admin") as admin, as_user(users, server, "scaler") as scaler:
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


def test_without_a_password_redis_says_only_that_it_lives(users: Path, server: Server) -> None:
    """As the health check of compose.yaml asks, with any password; a wrong one of another user is none."""
    with redis.Redis(port=server.port, username="health", password="any") as health:  # noqa: S106
        assert health.ping()
        for command in ("GET x", "ACL WHOAMI", f"XLEN {TINY.entries}", "SCRIPT LOAD return"):
            with pytest.raises(NoPermissionError):
                _do(health, command)
    once = Retry(NoBackoff(), 0)
    for name, guess in (("ingest", "wrong"), ("default", ""), (None, None)):
        with redis.Redis(port=server.port, username=name, password=guess, retry=once) as guesser:  # noqa: SIM117
            with pytest.raises(AuthenticationError):
                guesser.ping()


def test_users_are_made_once(users: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second run changes nothing, and says so if it should; each has its own passwords, none is in Redis's file."""
    before = {path: path.read_text() for path in users.rglob("*") if path.is_file()}
    assert make_users(users, "--model", TINY.model) == 0
    for other in (["--model", "other"], []):
        assert make_users(users, *other) == 1
        assert f"remove {users} first" in capsys.readouterr().err
    assert {path: path.read_text() for path in users.rglob("*") if path.is_file()} == before
    acl.main([str(tmp_path)])
    assert not {password(tmp_path, name) for name in (*USERS, "admin")} & set(before.values())
    assert not [name for name in (*USERS, "admin") if password(users, name) in before[users / "redis" / "users.acl"]]


def test_no_other_user_of_the_machine_reads_a_password(tmp_path: Path) -> None:
    """A folder that is new belongs to its maker alone. One that exists keeps its permissions."""
    assert acl.main([str(tmp_path / "new")]) == 0
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    (tmp_path / "shared").mkdir(mode=0o750)
    assert acl.main([str(tmp_path / "shared")]) == 0
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o750
