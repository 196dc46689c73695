"""The cache: the same pixels are answered once by a model, and from Redis after that; off unless asked for."""

import re
import uuid
from pathlib import Path

import httpx
import redis

from ingest.dispatch.cache import _cut
from results.outcome import Done
from tests.ingest.oip.test_bulk import assert_right, infer
from tests.ingest.test_app import png, ranked
from tests.security.test_keys import ALICE, BOB, bearer
from tests.support.models import tiny_model
from tests.support.processes import Processes
from tests.support.redis.requests_direct import TINY, marked, random_images
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until

IMAGE, OTHER = random_images(2)
HIT, MISS = "sluice; hit", "sluice; fwd=miss"


def predict(url: str, **request: object) -> httpx.Response:
    """One image, IMAGE unless the request says otherwise."""
    answer = httpx.post(f"{url}/predict", **({"content": png(IMAGE), "timeout": 30} | request))  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return answer


def inferences(server: Server) -> int:
    """How many images consumers have completed."""
    with redis.Redis.from_url(server.url) as client:
        return int(client.hget(TINY.counters, "completed") or 0)


def kept(server: Server) -> list[bytes]:
    with redis.Redis.from_url(server.url) as client:
        return list(client.scan_iter(TINY.cache("*")))


def test_the_same_pixels_are_not_computed_again(processes: Processes, server: Server) -> None:
    """The answer is the same, from any ingest, whatever file the pixels come in; it has an id of its own."""
    processes.consumer(version=1)
    urls = [processes.ingest(cache_ttl_s=600)[1] for _ in range(2)]
    first = predict(urls[0])
    again = predict(urls[1], files={"image": ("same.png", png(IMAGE) + b"\0")})
    assert [one.headers["cache-status"] for one in (first, again)] == [MISS, HIT]
    assert predict(urls[0], content=png(OTHER)).headers["cache-status"] == MISS
    assert again.json()["predictions"] == first.json()["predictions"] == ranked(IMAGE)
    assert again.json() | {"id": ""} == first.json() | {"id": ""}
    assert again.json()["id"] != first.json()["id"]
    for url, answer in zip(reversed(urls), (first, again), strict=True):
        assert httpx.get(f"{url}/results/{answer.json()['id']}").json() == answer.json()
    assert inferences(server) == 2
    assert "queue;dur=0.00, inference;dur=0.00" in again.headers["server-timing"]
    assert (again.headers["x-sluice-batch"], again.headers["x-sluice-provider"]) == ("0", "CPUExecutionProvider")
    counted = re.findall(
        r'^sluice_cache_lookups_total\{result="(\w+)"\} (\S+)', httpx.get(f"{urls[1]}/metrics").text, re.M
    )
    assert counted == [("hit", "1.0")]


def test_nothing_is_kept_unless_asked_for(processes: Processes, server: Server) -> None:
    """By default each image is computed, no key is written, and no header speaks of a cache."""
    processes.consumer(version=1)
    _, url = processes.ingest()
    answers = [predict(url) for _ in range(2)]
    assert inferences(server) == 2
    assert kept(server) == []
    assert not any("cache-status" in answer.headers for answer in answers)


def test_what_is_kept_expires(processes: Processes, server: Server) -> None:
    """Then the image is computed again."""
    processes.consumer(version=1)
    _, url = processes.ingest(cache_ttl_s=0.1)
    predict(url)
    wait_until(lambda: not kept(server), "the answer has expired")
    assert predict(url).headers["cache-status"] == MISS
    assert inferences(server) == 2


def test_a_prediction_serves_requests_for_no_more_labels(processes: Processes, server: Server) -> None:
    """More labels than are kept are computed once, and serve all afterwards, tensors of all classes among them."""
    processes.consumer(version=1)
    _, url = processes.ingest(cache_ttl_s=600)
    for top, status in ((3, MISS), (2, HIT), (4, MISS), (3, HIT), (10, MISS), (10, HIT)):
        answer = predict(url, params={"top": top})
        assert (answer.headers["cache-status"], answer.json()["predictions"]) == (status, ranked(IMAGE, top))
    tensor = infer(url, IMAGE[None])
    assert_right(tensor, IMAGE[None])
    assert tensor.headers["cache-status"] == HIT
    assert inferences(server) == 3


def test_labels_are_cut_from_a_tensor_in_the_order_of_a_consumer() -> None:
    """All classes come in class order; of equal probabilities the first class is the first."""
    known = Done("", "1", "cpu", (0, 1, 2, 3), (0.25, 0.5, 0.25, 0.0), 1, 0.0, 0.0)
    assert [_cut(known, top, classes=4) and _cut(known, top, classes=4).indices for top in (0, 1, 3)] == [  # type: ignore[union-attr]
        (0, 1, 2, 3), (1,), (1, 0, 2),
    ]  # fmt: skip
    assert _cut(known, 5, classes=9) is None
    assert _cut(known, 0, classes=9) is None


def test_another_version_gives_its_own_answer(processes: Processes, server: Server) -> None:
    """Whichever is served; an answer of one never stands for the other's."""
    _, url = processes.ingest(cache_ttl_s=600, ready=False)
    for versions in ((1, 7), (2, 8)), ((1, 7), (2, 8)):
        for version, seed in versions:
            consumer = processes.consumer(version=version)
            wait_until(lambda: _served(url) == [str(version)], "this version alone is served")  # noqa: B023
            for _ in range(2):
                named = infer(url, IMAGE[None], version)
                assert_right(named, IMAGE[None], seed=seed)
                assert named.json()["model_version"] == str(version)
            assert named.headers["cache-status"] == HIT
            consumer.stop()
    assert len(kept(server)) == 2
    assert inferences(server) == 2


def test_a_file_in_another_s_place_gives_its_own_answer(processes: Processes, tmp_path: Path) -> None:
    """Under the same name and version: its digest tells them apart, as soon as ingest has heard of it."""
    tiny_model.build(tmp_path / "replaced", seed=8)
    consumer = processes.consumer(version=1)
    _, url = processes.ingest(cache_ttl_s=600)
    assert [predict(url).headers["cache-status"] for _ in range(2)] == [MISS, HIT]
    consumer.stop()
    processes.consumer(version=1, models_dir=tmp_path / "replaced")
    wait_until(lambda: _top(url) == ranked(IMAGE, seed=8), "the new file answers")
    assert predict(url).headers["cache-status"] == HIT
    assert predict(url).json()["predictions"] == ranked(IMAGE, seed=8)


def _served(url: str) -> list[str]:
    return [model["version"] for model in httpx.get(f"{url}/models").json().get("models", [])]


def _top(url: str) -> object:
    answer = httpx.post(f"{url}/predict", content=png(IMAGE), timeout=30)
    return answer.json().get("predictions")


def test_several_images_and_tensors_are_answered_from_the_cache(processes: Processes, server: Server) -> None:
    """The header says hit where all of them were; only those that are new are computed."""
    processes.consumer(version=1)
    _, url = processes.ingest(cache_ttl_s=600)
    images = random_images(5)
    files = [("image", (f"{number}.png", png(image))) for number, image in enumerate(images)]
    some = predict(url, content=None, files=files[:3])
    every = [predict(url, content=None, files=files) for _ in range(2)]
    assert [one.headers["cache-status"] for one in (some, *every)] == [MISS, MISS, HIT]
    assert [one["predictions"] for one in every[1].json()["results"]] == [ranked(image) for image in images]
    assert inferences(server) == 5
    tensors = [infer(url, images) for _ in range(2)]
    assert [one.headers["cache-status"] for one in tensors] == [MISS, HIT]
    assert tensors[0].json() == tensors[1].json()
    assert_right(tensors[1], images)
    assert inferences(server) == 10


def test_requests_that_may_be_fetched_later_are_answered_from_the_cache(processes: Processes, server: Server) -> None:
    """At once, under their own ids; what they waited for is kept as well. A key's first result stands."""
    processes.consumer(version=1)
    _, url = processes.ingest(cache_ttl_s=600)
    waited = predict(url, headers={"Prefer": "wait=20"})
    known = predict(url, headers={"Prefer": "respond-async"})
    assert [one.headers["cache-status"] for one in (waited, known)] == [MISS, HIT]
    assert httpx.get(f"{url}/results/{known.json()['id']}").json() == known.json()
    key = {"Idempotency-Key": str(uuid.uuid4())}
    keyed = [predict(url, headers=key).json() for _ in range(2)]
    assert keyed[0] == keyed[1]
    assert keyed[0]["predictions"] == ranked(IMAGE)
    assert inferences(server) == 1


def test_a_failure_is_not_kept(processes: Processes, server: Server) -> None:
    """The next one who asks has a chance of their own."""
    processes.consumer(rogue="raise", version=1)
    _, url = processes.ingest(cache_ttl_s=600)
    for _ in range(2):
        assert httpx.post(f"{url}/predict", content=png(marked()), timeout=30).status_code == 500
    assert kept(server) == []
    assert inferences(server) == 2


def test_a_cache_that_cannot_be_read_fails_no_request(processes: Processes, server: Server) -> None:
    """What lies there instead of an answer is an error of Redis, or no outcome: the image is computed."""
    processes.consumer(version=1)
    _, url = processes.ingest(cache_ttl_s=600)
    predict(url)
    (key,) = kept(server)
    with redis.Redis.from_url(server.url) as client:
        client.delete(key)
        client.lpush(key, "no string")
        assert predict(url).json()["predictions"] == ranked(IMAGE)
        client.set(key, b"no outcome", px=60_000)
        assert predict(url).json()["predictions"] == ranked(IMAGE)
    assert predict(url).headers["cache-status"] == HIT
    assert inferences(server) == 3
    assert 'sluice_cache_lookups_total{result="failed"} 2.0' in httpx.get(f"{url}/metrics").text


def test_a_known_answer_belongs_to_who_asked(processes: Processes) -> None:
    """Another key gets the answer under an id of its own, and learns nothing of the first one's."""
    processes.consumer(version=1)
    _, url = processes.ingest(cache_ttl_s=600, api_keys=f"alice:{ALICE},bob:{BOB}")
    alices, bobs = (predict(url, headers=bearer(key)).json()["id"] for key in (ALICE, BOB))
    assert alices.startswith("alice.")
    assert bobs.startswith("bob.")
    assert alices.partition(".")[2] != bobs.partition(".")[2]
    assert httpx.get(f"{url}/results/{bobs}", headers=bearer(ALICE)).status_code == 404
    assert httpx.get(f"{url}/results/{bobs}", headers=bearer(BOB)).status_code == 200
