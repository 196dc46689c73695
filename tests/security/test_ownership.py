"""Results belong to the key that asked for them; for everybody else they do not exist."""

import asyncio
import secrets
import uuid

import httpx
import pytest

from ingest.auth.owner import belongs_to_caller, owner, set_owner
from stream.keys import new_id
from tests.ingest.test_app import png, ranked
from tests.security.test_keys import ALICE, BOB, bearer
from tests.support.processes import Processes
from tests.support.redis.requests_direct import random_images

IMAGE, OTHER = random_images(2)
KEYS = f"alice:{ALICE},bob:{BOB}"

#: The bar is 10,000; the suite sends these to each of two prefixes, in a few seconds.
GUESSES = 250


@pytest.mark.anyio
async def test_ids_say_whose_they_are() -> None:
    """Within the task that entered, and in what it starts; elsewhere they are bare."""

    async def entered(name: str) -> tuple[str, str]:
        set_owner(name)
        return await asyncio.create_task(_asked()), new_id(owner=owner.get())

    async def _asked() -> str:
        return owner.get()

    (one, alices), (other, bobs) = await asyncio.gather(entered("alice"), entered("bob"))
    assert (one, other, owner.get()) == ("alice", "bob", "")
    assert uuid.UUID(alices.removeprefix("alice.")).version == 4
    assert belongs_to_caller(new_id())
    assert not any(map(belongs_to_caller, (alices, bobs, "alice.", ".")[:2]))
    set_owner("alice")
    assert (
        belongs_to_caller(alices),
        belongs_to_caller(bobs),
        belongs_to_caller("0" * 32),
        belongs_to_caller(f"bob.{alices}"),
    ) == (True, False, False, False)


def test_a_result_is_its_owner_s_alone(processes: Processes) -> None:
    """At any ingest; to another key it is as unknown as an id that never was, and cannot be cancelled."""
    processes.consumer(version=1)
    (_, one), (_, other) = processes.ingest(api_keys=KEYS), processes.ingest(api_keys=KEYS)
    answer = httpx.post(f"{one}/predict", content=png(IMAGE), headers=bearer(ALICE)).json()
    location = f"/results/{answer['id']}"
    for url in (one, other):
        assert httpx.get(url + location, headers={"X-API-Key": ALICE}).json() == answer
        unknown = httpx.get(f"{url}/results/{new_id()}", headers=bearer(BOB))
        for method in ("GET", "DELETE"):
            foreign = httpx.request(method, url + location, headers={"Prefer": "wait=5", **bearer(BOB)})
            assert (foreign.status_code, foreign.json()) == (404, unknown.json())
            assert foreign.headers.keys() == unknown.headers.keys()
        bare = answer["id"].removeprefix("alice.")
        for guess in (bare, f"bob.{bare}", f"bob.{answer['id']}", f"bob%2e{bare}"):
            assert httpx.get(f"{url}/results/{guess}", headers=bearer(BOB)).status_code == 404
    assert httpx.get(one + location, headers=bearer(ALICE)).json() == answer


def test_a_request_that_is_queued_is_its_owner_s_alone(processes: Processes) -> None:
    """Nobody else can see or cancel it."""
    consumer = processes.consumer(version=1, lease_s=60)
    _, url = processes.ingest(api_keys=KEYS)
    consumer.kill()  # it counts as alive for its lease, so images are accepted
    headers = {"Prefer": "respond-async", **bearer(ALICE)}
    location = url + httpx.post(f"{url}/predict", content=png(IMAGE), headers=headers).headers["location"]
    assert [httpx.request(method, location, headers=bearer(BOB)).status_code for method in ("GET", "DELETE")] == [
        404,
        404,
    ]
    assert httpx.get(location, headers=bearer(ALICE)).status_code == 202
    assert httpx.delete(location, headers=bearer(ALICE)).status_code == 204


def test_two_owners_may_choose_the_same_idempotency_key(processes: Processes) -> None:
    """Each gets the answer to its own image."""
    processes.consumer(version=1)
    _, url = processes.ingest(api_keys=KEYS)
    for key, image in ((ALICE, IMAGE), (BOB, OTHER)):
        for _ in range(2):
            headers = {"Idempotency-Key": "1", **bearer(key)}
            answer = httpx.post(f"{url}/predict", content=png(image), headers=headers)
            assert (answer.status_code, answer.json()["predictions"]) == (200, ranked(image))


@pytest.mark.anyio
async def test_guessing_finds_nothing(processes: Processes) -> None:
    """Ids of the right form, in one's own name and in another's: all 404, and no guess is an error."""
    processes.consumer(version=1)
    _, url = processes.ingest(api_keys=KEYS)
    async with httpx.AsyncClient(base_url=url, headers=bearer(BOB), timeout=60) as client:
        for _ in range(10):
            await client.post("/predict", content=png(IMAGE), headers=bearer(ALICE))
        guesses = [f"{name}.{secrets.token_hex(16)}" for name in ("alice", "bob") for _ in range(GUESSES)]
        statuses = set()
        for start in range(0, len(guesses), 50):
            answers = await asyncio.gather(*(client.get(f"/results/{id_}") for id_ in guesses[start : start + 50]))
            statuses |= {answer.status_code for answer in answers}
    assert statuses == {404}
