"""`python -m results`, as an operator uses it."""

from pathlib import Path

import pytest
from redis.asyncio import Redis

from results.__main__ import main
from results.outcome import encode
from results.store import Store
from stream.connection.group_reader import Reader
from stream.entry import CANCELLED
from stream.keys import Partition
from stream.presence import Presence
from tests.results.conftest import Operator, description
from tests.results.test_completion import done
from tests.results.test_dead_letters import Graveyard
from tests.stream.test_group import entry
from tests.support.redis.servers import free_port

pytestmark = pytest.mark.anyio


async def test_a_dead_letter_is_listed_shown_and_dropped(operator: Operator, graveyard: Graveyard) -> None:
    """Either of its ids names it; what is dropped is gone."""
    one, other = entry(), entry()
    await graveyard.add(one, "first reason")
    await graveyard.add(other, "second reason")
    listed = await operator("dead-letters", "list")
    heading, first, second = listed.out.splitlines()
    assert listed.status == 0
    assert heading.split() == ["ID", "MODEL", "REQUEST", "AGE", "REASON", "TRIES", "HOLDERS", "SIZE"]
    dead_letter_id, _model, request_id, *_ = first.split()
    assert request_id == one.id
    assert "second reason" in second
    assert second.split()[-4:] == ["3", "anna", "6", "B"]
    shown = await operator("dead-letters", "show", dead_letter_id)
    assert shown.status == 0
    assert "first reason" in shown.out
    assert "\nsize        2 x 1 pixels\nlabels      " in shown.out
    assert "field" not in shown.out, "a name of the layout says nothing to an operator"
    dropped = await operator("dead-letters", "drop", dead_letter_id, other.id)
    assert dropped.status == 0
    assert dropped.out.count("dropped") == 2
    assert (await operator("dead-letters", "list")).out == "No dead letters.\n"


async def test_a_dead_letter_that_cannot_be_read_is_shown_and_dropped(
    client: Redis, partition: Partition, operator: Operator, graveyard: Graveyard
) -> None:
    """Nothing but a drop removes it and its pixels, and what it holds says where it comes from. It is not replayed."""
    await graveyard.add(entry(), "first reason")
    foreign: list[dict[str, bytes]] = [
        {"a\x1b[2J\n": b"\xff", "id": b"x" * 32, "px": b"pixels"},
        {"reason": b"why", "deliveries": b"9" * 5000, "holders": b"", "entry": b"1-1", "id": b"y" * 32},
    ]
    ids = [str(await client.xadd(partition.dead_letters, fields), "ascii") for fields in foreign]  # type: ignore[arg-type]
    listed = await operator("dead-letters", "list")
    assert listed.status == 0
    assert [line.split()[0] for line in listed.out.splitlines()[2:]] == ids
    for dead_letter_id, name in zip(ids, ("x" * 32, "y" * 32), strict=True):
        shown = await operator("dead-letters", "show", name)
        assert shown.status == 0
        assert dead_letter_id in shown.out
        assert "complete.lua cannot have written it" in shown.out
        assert shown.out.replace("\n", "").isprintable()
    assert "6 B" in listed.out
    replayed = await operator("dead-letters", "replay", "--all")
    assert (replayed.status, replayed.out.count("replayed"), replayed.err.count("can only be dropped")) == (1, 1, 2)
    assert (await operator("dead-letters", "drop", ids[0], "y" * 32)).status == 0
    assert (await operator("dead-letters", "list")).out == "No dead letters.\n"


async def test_dead_webhooks_that_cannot_be_read_are_replayed_and_dropped(
    client: Redis, partition: Partition, operator: Operator, graveyard: Graveyard
) -> None:
    """None of them ends a command before the others had their turn; what a terminal obeys is escaped."""
    foreign: list[dict[str, bytes]] = [
        {"a": b"b"},
        {"reason": b"\x1b[2J\n", "attempts": b"9" * 5000},
        {"reason": b"\xff", "attempts": b"-1", "entry": b"", "webhook": b"[" * 5000, "outcome": b""},
    ]
    for fields in foreign:
        await client.xadd(partition.dead_webhooks, fields)  # type: ignore[arg-type]
    listed = await operator("webhooks", "list")
    assert (listed.status, len(listed.out.splitlines())) == (0, 4)
    assert listed.out.replace("\n", "").isprintable()
    replayed = await operator("webhooks", "replay", "--all")
    assert (replayed.status, replayed.out.count("replayed"), replayed.err) == (0, 3, "")
    assert await client.xlen(partition.webhooks) == 3


async def test_programs_read_json(operator: Operator, graveyard: Graveyard) -> None:
    """The same facts with names and without cutting; one line for each letter that was changed."""
    one = entry()
    await graveyard.add(one, "why")
    (dead_letter,) = (await operator("dead-letters", "list", "--json")).document
    assert dead_letter == (await operator("dead-letters", "show", one.id, "--json")).document | {
        "age_s": dead_letter["age_s"]
    }
    assert {name: dead_letter[name] for name in ("request_id", "reason", "deliveries", "holders", "bytes")} == {
        "request_id": one.id, "reason": "why", "deliveries": 3, "holders": ["anna"], "bytes": 6,
    }  # fmt: skip
    assert "px" not in dead_letter["fields"]
    replayed = await operator("dead-letters", "replay", dead_letter["id"], "--json")
    assert replayed.document == {"id": dead_letter["id"], "request_id": one.id, "action": "replayed"}
    assert (await operator("dead-letters", "list", "--json")).document == []


async def test_the_image_of_a_dead_letter_can_be_seen(operator: Operator, graveyard: Graveyard, tmp_path: Path) -> None:
    """Its pixels are written as a PPM file, which viewers open."""
    one = entry()
    await graveyard.add(one)
    path = tmp_path / "dead.ppm"
    assert (await operator("dead-letters", "show", one.id, "--image", str(path))).status == 0
    assert path.read_bytes() == b"P6 2 1 255\n" + one.pixels
    nowhere = await operator("dead-letters", "show", one.id, "--image", str(tmp_path))
    assert nowhere.status == 2
    assert "no image" in nowhere.err


async def test_all_are_replayed_and_what_is_missing_is_said(
    client: Redis, partition: Partition, operator: Operator, graveyard: Graveyard
) -> None:
    """Status 1 where something was not found; the others are replayed all the same."""
    sent = [entry() for _ in range(3)]
    for one in sent:
        await graveyard.add(one)
    some = await operator("dead-letters", "replay", "never-was", sent[1].id, sent[1].id)
    assert some.status == 1
    assert some.out.count("replayed") == 1
    assert some.err.splitlines() == [
        "python -m results: there is no dead letter never-was",
        f"python -m results: there is no dead letter {sent[1].id}",
    ]
    rest = await operator("dead-letters", "replay", "--all")
    assert (rest.status, rest.out.count("replayed")) == (0, 2)
    assert await client.xlen(partition.entries) == 3
    for kind, nothing in (("dead-letters", "No dead letters.\n"), ("webhooks", "No dead webhooks.\n")):
        none = await operator(kind, "replay", "--all")
        assert (none.status, none.out) == (0, nothing)
    for command in ("drop", "show"):
        assert (await operator("dead-letters", command, "never-was")).status == 1


async def test_without_memory_the_operator_sees_why(client: Redis, operator: Operator, graveyard: Graveyard) -> None:
    """Status 2 and one line that says what to do; the letter stays."""
    await graveyard.add(entry())
    await client.config_set("maxmemory", "1mb")
    try:
        refused = await operator("dead-letters", "replay", "--all")
    finally:
        await client.config_set("maxmemory", "0")
    assert refused.status == 2
    assert "Raise its maxmemory" in refused.err
    assert len(refused.err.splitlines()) == 1
    assert len((await operator("dead-letters", "list", "--json")).document) == 1


async def test_an_unreadable_entry_is_not_replayed(
    client: Redis, partition: Partition, operator: Operator, graveyard: Graveyard
) -> None:
    """The operator learns why, and can drop it."""
    dead_letter = {"reason": "malformed", "deliveries": 1, "holders": "anna", "entry": "1-1", "v": b"\xff"}
    dead_letter_id = (await client.xadd(partition.dead_letters, dead_letter)).decode()  # type: ignore[arg-type, union-attr]
    refused = await operator("dead-letters", "replay", dead_letter_id)
    assert refused.status == 1
    assert "no request id" in refused.err
    assert (await operator("dead-letters", "show", dead_letter_id, "--image", "never.ppm")).status == 2
    assert (await operator("dead-letters", "drop", dead_letter_id)).status == 0


async def test_where_a_request_stands(
    client: Redis, partition: Partition, operator: Operator, graveyard: Graveyard
) -> None:
    """Queued, cancelled, done with its labels, failed with its reason; unknown is status 1."""
    one, other = entry(), entry()
    await graveyard.add(other)
    await graveyard.admit(one)
    assert (await operator("get", one.id, "--json")).document == {"id": one.id, "state": "queued"}
    await Store(client, partition).cancel(one.id)
    assert "cancelled" in (await operator("get", one.id)).out
    failed = await operator("get", other.id)
    assert failed.status == 0
    assert "failed: dead" in failed.out
    unknown = await operator("get", "never-was")
    assert (unknown.status, unknown.out.split()[-1]) == (1, "unknown")


async def test_an_operator_deletes_a_request_by_its_id(
    client: Redis, partition: Partition, operator: Operator, graveyard: Graveyard
) -> None:
    """Queued, done, or a dead letter, of whichever key; what was kept of its image is gone."""
    queued, ended, dead = entry(), entry(), entry()
    await graveyard.add(dead)
    await graveyard.admit(queued)
    await client.set(partition.request(ended.id), encode(done(ended)), ex=60)
    assert await client.get(partition.pixels(queued.id)) not in (None, CANCELLED)
    assert (await operator("delete", queued.id, ended.id, dead.id)).out.splitlines() == [
        f"cancelled {queued.id}", f"deleted {ended.id}", f"deleted {dead.id}",
    ]  # fmt: skip
    assert await client.get(partition.pixels(queued.id)) == CANCELLED
    assert (await operator("dead-letters", "list")).out == "No dead letters.\n"
    again = await operator("delete", queued.id, ended.id, "--json")
    assert (again.status, again.document) == (1, {"request_id": queued.id, "action": "cancelled"})
    assert f"there is no request {ended.id}" in again.err


async def test_a_result_names_its_labels(
    client: Redis, partition: Partition, operator: Operator, graveyard: Graveyard
) -> None:
    """Those of the version that made it; a class without a known label is given by its number."""
    one = entry()
    await client.set(partition.request(one.id), encode(done(one)), ex=60)
    assert (await operator("get", one.id)).out.splitlines()[-2:] == ["     0.5000  d", "     0.2500  b"]
    await client.hdel(partition.versions, "1")
    (first, _) = (await operator("get", one.id, "--json")).document["predictions"]
    assert first == {"index": 3, "label": None, "probability": 0.5}
    assert "class 3" in (await operator("get", one.id)).out
    await client.set(partition.request(one.id), "{", ex=60)
    assert (await operator("get", one.id)).status == 2


async def test_all_models_are_searched_unless_one_is_named(
    client: Redis, reader: Reader, partition: Partition, operator: Operator, graveyard: Graveyard
) -> None:
    """Results and dead letters of each; a name that no model has is not found."""
    second = Graveyard(client, reader, Partition("second"))
    await Presence(client, Partition("second")).announce(description("second"))
    await second.open()
    one, other = entry(), entry()
    await graveyard.add(one)
    await second.add(other)
    listed = (await operator("dead-letters", "list", "--json")).document
    assert {found["model"] for found in listed} == {partition.model, "second"}
    (only,) = (await operator("dead-letters", "list", "--json", "--model", "second")).document
    assert only["request_id"] == other.id
    for request in (one.id, other.id):
        assert (await operator("get", request)).status == 0
        assert (await operator("dead-letters", "replay", request)).status == 0
    unknown = await operator("dead-letters", "list", "--model", "third")
    assert unknown.status == 1
    assert "second" in unknown.err


@pytest.mark.parametrize(
    "words",
    [
        "",
        "dead-letters",
        "dead-letters replay",
        "dead-letters replay --all x",
        "dead-letters drop",
        "get",
        "get x --model /",
        "delete",
    ],
)
async def test_wrong_usage_is_status_2(words: str, operator: Operator) -> None:
    """Nothing is changed, and the usage or the wrong value is shown."""
    answer = await operator(*words.split())
    assert answer.status == 2
    assert "python -m results" in answer.err


def test_redis_away_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, no traceback."""
    assert main(["dead-letters", "list", "--redis-url", f"redis://127.0.0.1:{free_port()}"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
