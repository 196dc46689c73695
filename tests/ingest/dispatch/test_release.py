"""Releases over HTTP: who gets which version, what a shadow compares, and that nobody gets a wrong or no answer."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
import redis

from ingest.dispatch.release import ReleaseRouter
from ingest.dispatch.shadow import compare
from results.outcome import Done
from sluice.release import main
from stream.keys import Partition
from stream.releases import Release
from tests.ingest.test_app import png
from tests.support.models import tiny_model
from tests.support.processes import Processes
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until

#: Images whose quarters have colours of their own, on some of which the versions disagree.
IMAGES = np.random.default_rng(3).integers(0, 256, (40, 2, 2, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
BODIES = [png(image) for image in IMAGES]
SEEDS = {"1": 7, "2": 8}


def truth(version: str, number: int) -> list[tuple[str, float]]:
    """What a version gives for an image: all labels, most probable first."""
    values = tiny_model.expected(IMAGES[number : number + 1], tiny_model.weights(seed=SEEDS[version]))[0]
    return [(f"class_{index}", float(values[index])) for index in np.argsort(-values)]


def assert_answer(response: httpx.Response, number: int) -> str:
    """The version that the response names, whose prediction it must be."""
    assert response.status_code == 200, response.text
    body = response.json()
    for found, (label, probability) in zip(body["predictions"], truth(body["version"], number), strict=False):
        assert found["label"] == label
        assert found["probability"] == pytest.approx(probability, abs=1e-5)
    return str(body["version"])


@pytest.fixture
def release(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Types `sluice release ...`."""
    monkeypatch.setenv("SLUICE_REDIS_URL", server.url)

    def typed(line: str) -> None:
        assert main(line.split()) == 0

    return typed


@pytest.fixture
def service(processes: Processes) -> str:
    """Ingest with a consumer of each of two versions that answer differently."""
    for version in (1, 2):
        processes.consumer(version=version, provider="cpu")
    _, url = processes.ingest(webhooks=True, outbound_http=True, outbound_networks="127.0.0.0/8")
    wait_until(lambda: {one["version"] for one in httpx.get(f"{url}/models").json()["models"]} == {"1", "2"}, "both")
    return url


def versions(url: str, count: int, **headers: str) -> Counter[str]:
    """The versions that answer so many requests."""
    with httpx.Client(
        base_url=url, timeout=60, headers={name.replace("_", "-"): headers[name] for name in headers}
    ) as c:
        return Counter(
            assert_answer(c.post("/predict", content=BODIES[n % len(BODIES)]), n % len(BODIES)) for n in range(count)
        )


def obeys(url: str, wanted: set[str]) -> None:
    """Wait until these versions alone answer."""
    wait_until(lambda: set(versions(url, 40)) == wanted, f"only {wanted} answer")


def test_a_release_decides_who_answers(
    service: str, release: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Promoted and rolled back without a restart; a client that names itself stays with one version."""
    release("set tiny 2 --share 50%")
    wait_until(lambda: versions(service, 1) and figures(capsys, release)["sent"], "ingest obeys")
    clients = {f"client-{number}": set(versions(service, 6, X_Sluice_Client=f"client-{number}")) for number in range(8)}
    assert all(len(found) == 1 for found in clients.values()), clients
    assert {version for found in clients.values() for version in found} == {"1", "2"}
    release("promote tiny")
    obeys(service, {"2"})
    release("rollback tiny")
    obeys(service, {"1"})
    release("set tiny 2 --share 100%")
    obeys(service, {"2"})
    release("clear tiny")


def test_a_shadow_is_compared_and_changes_no_answer(
    service: str, release: Callable[..., None], capsys: pytest.CaptureFixture[str], server: Server
) -> None:
    """The same bytes as without it, and no second webhook; the figures are those that the two models have."""
    agreed = {number for number in range(len(IMAGES)) if truth("1", number)[0][0] == truth("2", number)[0][0]}
    assert 0 < len(agreed) < len(IMAGES), "the versions differ on some images, or this test shows nothing"
    release("set tiny 2 --share 100%")
    obeys(service, {"2"})
    release("set tiny 2 --shadow")
    wait_until(lambda: versions(service, 1)["1"], "the first request that the shadow gets, too")
    after = settled(capsys, release, sent=1)
    pairs = [(dict(truth("1", number)), dict(truth("2", number))) for number in range(len(IMAGES))]
    differences = [max(abs(mine[label] - theirs[label]) for label in mine) for mine, theirs in pairs]
    # Also the image on which the versions differ most.
    chosen = [*sorted(agreed)[:3], *sorted(set(range(len(IMAGES))) - agreed)[:3], int(np.argmax(differences))]
    headers = {"Prefer": "respond-async, wait=30", "Webhook-URL": "http://127.0.0.1/"}
    sent = 0
    for number in chosen:
        before = after
        while after["compared"] == before["compared"]:  # A busy machine drops some.
            response = httpx.post(f"{service}/predict?top=10", content=BODIES[number], headers=headers, timeout=60)
            assert assert_answer(response, number) == "1"
            sent += 1
            after = settled(capsys, release, sent=1 + sent)
        assert after["agreed"] - before["agreed"] == (number in agreed)
    with redis.Redis.from_url(server.url) as client:
        assert client.xlen(Partition("tiny").webhooks) == sent
    assert after["failed"] == 0
    assert after["agreement"] == after["agreed"] / after["compared"]
    assert after["largest"] == pytest.approx(max(differences), abs=1e-4)


def figures(capsys: pytest.CaptureFixture[str], release: Callable[..., None]) -> dict[str, Any]:
    capsys.readouterr()
    release("show tiny --json")
    shown: dict[str, dict[str, Any]] = json.loads(capsys.readouterr().out)
    return shown["tiny"]


def settled(capsys: pytest.CaptureFixture[str], release: Callable[..., None], *, sent: int) -> dict[str, Any]:
    """The figures, once so many requests are counted and the shadow's fate of each is known."""
    shown: dict[str, Any] = {}

    def known() -> bool:
        shown.update(figures(capsys, release))
        fates = shown["compared"] + shown["dropped"] + shown["failed"]
        return bool(sum(shown["sent"].values()) == fates == sent)

    try:
        wait_until(known, "all shadow images are counted")
    except AssertionError as error:
        raise AssertionError(shown) from error
    return shown


def test_a_candidate_whose_consumers_die_gives_its_share_back(
    processes: Processes, release: Callable[..., None], server: Server
) -> None:
    """Every request is answered, by the stable version, and counted; what was queued for the candidate as well."""
    processes.consumer(version=1, provider="cpu")
    candidate = processes.consumer(version=2, provider="cpu", lease_s=4)
    _, url = processes.ingest()
    release("set tiny 2 --share 100%")
    obeys(url, {"2"})
    candidate.kill()
    with httpx.Client(base_url=url, timeout=60) as client:
        found = {assert_answer(client.post("/predict", content=BODIES[n]), n) for n in range(len(BODIES))}
        assert found == {"1"}

        def counted() -> bool:
            """Until this ingest knows that the candidate is dead, another consumer answers for it."""
            assert assert_answer(client.post("/predict", content=BODIES[0]), 0) == "1"
            keys = redis_client.scan_iter("sluice:{all}:release:tiny:*")
            return any(redis_client.hget(key, "fallbacks") for key in keys)

        with redis.Redis.from_url(server.url) as redis_client:
            wait_until(counted, "the fallbacks are counted")


def test_a_rollback_outlives_the_death_of_all_consumers(processes: Processes, release: Callable[..., None]) -> None:
    """The version that it withdrew is the highest, and nobody loads it again by himself; a candidate comes back."""
    died = [processes.consumer(version=version, provider="cpu") for version in (1, 2)]
    _, url = processes.ingest()
    for line in ("set tiny 2 --share 100%", "promote tiny", "rollback tiny"):
        release(line)
    for consumer in died:
        consumer.kill()
    for watch in (False, True):
        started = processes.consumer(provider="cpu", watch=watch)
        assert "loaded model=tiny version=1" in started.ready().text
    obeys(url, {"1"})
    processes.consumer(version=2, provider="cpu").ready().kill()
    processes.consumer(version=2, provider="cpu").ready()
    release("set tiny 2 --share 50%")
    obeys(url, {"1", "2"})


def test_nothing_fails_while_releases_change_under_load(service: str, release: Callable[..., None]) -> None:
    """Set, shadow, promote, roll back and clear, while clients send: each gets the answer of the version it names."""
    ended = threading.Event()
    found: list[str] = []

    def send(offset: int) -> None:
        with httpx.Client(base_url=service, timeout=60) as client:
            number = offset
            while not ended.is_set():
                found.append(assert_answer(client.post("/predict", content=BODIES[number]), number))
                number = (number + 1) % len(BODIES)

    with loading(send, ended):
        for line in ("set tiny 2 --share 30%", "set tiny 2 --shadow", "promote tiny", "rollback tiny", "clear tiny"):
            release(line)
            before = len(found)
            wait_until(lambda before=before: len(found) > before + 60, line)  # type: ignore[misc]
    assert set(found) == {"1", "2"}


@contextmanager
def loading(send: Callable[[int], None], ended: threading.Event) -> Iterator[None]:
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            send(number)
        except BaseException as error:  # noqa: BLE001 (raised below)
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not errors, errors


def test_a_share_is_a_share_of_the_requests() -> None:
    """5 % of 10,000, within 0.7 points, whether clients name themselves or not; a client stays where it is."""
    router = ReleaseRouter("tiny", Release("1", "2", share=0.05))
    router.refresh({"1", "2"})
    for names in ([""] * 10_000, [f"client {number}" for number in range(10_000)]):
        chosen = Counter(router.choose(name) for name in names)
        assert chosen["2"] / 10_000 == pytest.approx(0.05, abs=0.007)
    larger = ReleaseRouter("tiny", Release("1", "2", share=0.2))
    larger.refresh({"1", "2"})
    for number in range(2000):
        if router.choose(f"client {number}") == "2":
            assert larger.choose(f"client {number}") == "2", "it keeps the candidate when the share grows"


def test_a_version_without_a_consumer_is_left_out() -> None:
    """The stable one takes its requests; without that, any version does."""
    router = ReleaseRouter("tiny", Release("1", "2", share=1.0))
    router.refresh({"1"})
    assert (router.choose(""), router.shadow) == ("1", "")
    router.refresh({"3"})
    assert router.choose("") == ""
    counts = router.take_counts()
    assert counts
    assert counts.counts == {"fallbacks": 2, "sent:1": 1, "sent:any": 1}
    assert router.take_counts() is None


def test_predictions_are_compared_by_label() -> None:
    """Models may order their labels differently, and lack some; equal labels differ by their order."""
    mine, theirs = ("cat", "dog", "crane", "crane"), ("crane", "crane", "dog", "cat")

    def done(*values: float) -> Done:
        return Done("id", "1", "CPU", tuple(range(len(values))), values, 1, 0.0, 0.0)

    assert compare(done(0.5, 0.25, 0.125, 0.125), mine, done(0.125, 0.125, 0.25, 0.5), theirs) == (True, 0.0)
    agreed, difference = compare(done(0.5, 0.25, 0.25, 0), mine, done(0.5, 0, 0.25, 0.25), theirs)
    assert (agreed, difference) == (False, 0.25)
    assert compare(done(1.0), ("cat",), done(1.0), ("dog",)) == (False, 1.0)
