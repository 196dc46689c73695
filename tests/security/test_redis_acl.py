"""Redis users with least privilege: the main path works under them."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from consumers.gpu.leases import GpuLeases
from results.completion import Completed, Completion
from results.dead_letters import DeadLetters
from results.outcome import Failed
from results.store import Store
from sluice import release as sluice_release
from stream.admission import Admission
from stream.connection.clients import connect
from stream.connection.group_reader import Reader
from stream.entry import Entry
from stream.group import Group
from stream.keys import SENDERS, Partition
from stream.presence import ConsumerReport, Presence
from stream.server_check import read_facts
from stream.settings import RedisSettings
from stream.status.reader import read_status
from stream.unreadable import lacks_rights
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
from tests.support.redis.users import UnderUsers, as_user, settings_of, under
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server(guarded: Server) -> Server:
    return guarded


@pytest.fixture
def processes(users: Path, server: Server, models_dir: Path, tmp_path: Path) -> Iterator[Processes]:
    with UnderUsers(tmp_path, users=users, server=server, models_dir=models_dir) as started:
        yield started


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


def test_all_that_a_sender_asks_of_redis_is_allowed(processes: Processes, users: Path, server: Server) -> None:
    """A delivery, a failure that is tried again, and one given up; and the others' part in it."""
    hooks: dict[str, Any] = {"webhooks": True, "outbound_http": True, "outbound_networks": "127.0.0.1/32"}
    running = [processes.consumer()]
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
    with as_user(users, server, "admin") as admin:
        names = [one["name"] for one in admin.xinfo_consumers(TINY.webhooks, SENDERS)]
    assert all(name.startswith(b"retry-") for name in names), "it has left"
    assert [one.text.count("permission") for one in (*running, ingest, sender)] == [0, 0, 0]


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
    (refusal,) = re.findall("Redis refuses a command of this consumer: (.*); this consumer exits", consumer.text)
    assert re.search(rf"\((XGROUP|[A-Z ]+|the script .*\.lua) on .*{re.escape(TINY.entries)}", refusal), refusal
    assert "renew its rights with `python -m stream.acl FOLDER` and ACL LOAD" in refusal
    assert "Traceback" not in consumer.text
    ingest, _ = processes.ingest(ready=False, user="consumer")
    wait_until(lambda: ingest.says("Redis refuses its user the hash of load requests: "), "it is logged")
    assert "skipped a value" not in ingest.text


async def test_a_refusal_names_the_command_or_the_script_with_its_keys(users: Path, server: Server) -> None:
    """Redis itself names no key. So an operator would have to look into ACL LOG."""
    async with under(users, server, "webhooks") as sender:
        with pytest.raises(ResponseError, match=rf"\(XADD on {re.escape(TINY.entries)}\)$"):
            await sender.xadd(TINY.entries, {"a": "b"})
        with pytest.raises(
            ResponseError, match=rf"\(the script stream.scripts/status.lua on {re.escape(TINY.alive)}, "
        ):
            await read_status(sender, TINY)


async def test_a_missing_right_is_no_missing_group(users: Path, server: Server) -> None:
    """A script that asks about a group says that Redis refuses it. It takes no accepted image for expired."""
    of = Partition("refused")
    settings = RedisSettings(redis_url=f"redis://limited:x@127.0.0.1:{server.port}/0")
    with as_user(users, server, "admin") as admin:
        admin.acl_setuser(
            "limited", enabled=True, passwords=["+x"], keys=["*"], commands=["+@all", "-xpending", "-xinfo|consumers"]
        )
        admin.xadd(of.entries, {"a": "b"}, id="1-1")
        admin.set(of.request("x"), "queued 1 1-1", ex=60)
        admin.zadd(of.alive, {"b": 2**50})  # By a clock that was set back since.
    async with connect(settings) as client:
        presence = Presence(client, of)
        group = Group(client, Reader(settings), of, consumer="b", lease_s=60)
        report = ConsumerReport("b", "host", 1, "1", "cpu", "idle")
        for script, run in {
            "results.scripts/state": Store(client, of).state("x"),
            "stream.scripts/heartbeat": presence.heartbeat(report, lease_s=60),
            "stream.scripts/leave": presence.leave("b"),
            "stream.scripts/remove_dead_consumers": group.remove_dead_consumers(),
            "stream.scripts/status": read_status(client, of),
        }.items():
            with pytest.raises(ResponseError, match=rf"the script {script}\.lua on ") as refused:
                await run
            assert lacks_rights(refused.value)


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
    assert (status, said.startswith("sluice release: Redis refuses this to its user. Use one")) == (2, True)
    status, said = release("admin")
    assert (status, said.startswith("sluice release: Redis refuses the user or its password: ")) == (2, True)
    assert release("admin", files["admin"])[0] == 0
    assert sluice_release.main(["clear", "tiny", f"--redis-url={server.url}"]) == 0


class Failures:
    """What a process would count as failures of Redis."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def connected(self) -> None:
        pass

    def failed(self, error: RedisError) -> None:
        self.names.append(type(error).__name__)


async def test_what_a_user_may_not_ask_is_no_failure(users: Path, server: Server) -> None:
    """ingest asks for settings twice a minute. An alert would fire on a service that is well."""
    failures = Failures()
    async with connect(settings_of(users, server, "ingest"), failures) as client:
        assert (await read_facts(client)).appendfsync == ""
        assert failures.names == []
        with pytest.raises(NoPermissionError):
            await client.config_get("appendfsync")
    assert failures.names == ["NoPermissionError"]


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
