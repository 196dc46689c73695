"""Webhooks against real processes: an ingest, a consumer, a sender, and receivers on this machine."""

import base64
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from tests.ingest.test_app import png, ranked
from tests.support.models import tiny_model
from tests.support.processes import Process, Processes, on_own_server
from tests.support.recorded_server import Post, Recorded
from tests.support.redis.requests_direct import random_images
from tests.support.waiting import wait_until

IMAGE, OTHER = random_images(2)
FILE = png(IMAGE)
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
OLD = "whsec_" + base64.b64encode(b"o" * 24).decode()
LOCAL: dict[str, Any] = {"webhooks": True, "outbound_http": True, "outbound_networks": "127.0.0.1/32"}
SENDER: dict[str, Any] = {
    **LOCAL,
    "webhook_secret": f"{SECRET},{OLD}",
    "webhook_retries_s": "0.2,0.2,0.2",
    "webhook_timeout_s": 1,
    "redis_timeout_s": 1,
}


def verified(post: Post, secret: str = SECRET) -> dict[str, Any]:
    """The body, if the signature is right."""
    document: dict[str, Any] = Webhook(secret).verify(post.body, post.headers)
    return document


def submit(url: str, hook: str, **more: Any) -> str:
    """The id of an accepted image."""
    headers = {"Prefer": "respond-async", "Webhook-URL": hook, **more.pop("headers", {})}
    response = httpx.post(f"{url}/predict", content=FILE, headers=headers, timeout=30, **more)
    assert response.status_code in {200, 202}, response.text  # 200 where it was done at once
    request_id: str = response.json()["id"]
    return request_id


@dataclass(frozen=True, slots=True)
class Service:
    """A consumer, an ingest at this URL and a sender, for all tests that change nothing about them."""

    url: str
    processes: Processes
    sender: Process

    def counts(self) -> Counter[str]:
        """How attempts have ended so far, by ingest's metrics."""
        return Counter(
            {event: counted(self.url, event) for event in ("webhook_delivered", "webhook_failed", "webhook_dead")}
        )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("webhooks")
    tiny_model.build(folder / "models")
    with on_own_server(folder, folder / "models") as processes:
        processes.consumer()
        _, url = processes.ingest(**LOCAL)
        yield Service(url, processes, processes.start("ingest.webhooks", **SENDER))


def counted(url: str, event: str) -> int:
    """The counter of this event in ingest's metrics."""
    lines = httpx.get(f"{url}/metrics", timeout=30).text.splitlines()
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if f'event="{event}"' in line)


def test_an_outcome_is_delivered_and_signed(service: Service, receiver: Recorded) -> None:
    """As its location returns it; for each image of a request, by header or JSON, with every secret."""
    url = service.url
    truth: Any = [one["probability"] for one in ranked(IMAGE, 3)]
    least = (truth[1].expected + truth[2].expected) / 2
    one = submit(url, f"{receiver.url}/ok?token=1", params={"threshold": least})
    images = [base64.b64encode(png(image)).decode() for image in (IMAGE, OTHER)]
    document = {"images": images, "webhook": f"{receiver.url}/ok"}
    several = httpx.post(f"{url}/predict", json=document, headers={"Prefer": "respond-async"}, timeout=30).json()
    ids = [one, *(result["id"] for result in several["results"])]
    wait_until(lambda: len(receiver.posts) == 3, "all outcomes are delivered")
    found = {verified(post)["data"]["id"]: post for post in receiver.posts}
    assert set(found) == set(ids)
    assert len({post.headers["webhook-id"] for post in receiver.posts}) == 3
    assert found[one].path == "/ok?token=1"
    assert found[one].headers["Content-Type"] == "application/json"
    for post in receiver.posts:
        message = verified(post, OLD)
        assert message["type"] == "prediction.succeeded"
        query = {"threshold": least} if message["data"]["id"] == one else {}
        assert message["data"] == httpx.get(f"{url}/results/{message['data']['id']}", params=query).json()
    assert verified(found[one])["data"]["predictions"] == ranked(IMAGE, 2)


def test_a_failed_outcome_is_delivered(processes: Processes, receiver: Recorded) -> None:
    """A request that was cancelled, and one whose deadline passed before a consumer came."""
    processes.consumer().ready()
    _, url = processes.ingest(**LOCAL, accept_without_consumers=True, request_timeout_s=1, max_wait_s=0.5)
    processes._consumers[0].kill()
    late, cancelled = (submit(url, f"{receiver.url}/ok") for _ in range(2))
    assert httpx.delete(f"{url}/results/{cancelled}").status_code == 204
    wait_until(lambda: httpx.get(f"{url}/results/{late}").status_code == 504, "the deadline has passed")
    processes.start("ingest.webhooks", **SENDER)
    processes.consumer(request_timeout_s=1)
    wait_until(lambda: len(receiver.posts) == 2, "both outcomes are delivered")
    sent = {one["data"]["id"]: one for one in map(verified, receiver.posts)}
    assert {one["type"] for one in sent.values()} == {"prediction.failed"}
    assert {request_id: one["data"]["code"] for request_id, one in sent.items()} == {
        late: "deadline_passed",
        cancelled: "cancelled",
    }
    assert sent[late]["data"] == httpx.get(f"{url}/results/{late}").json()


def test_a_failed_attempt_is_repeated_with_the_same_id(service: Service, receiver: Recorded) -> None:
    """With back-off, and counted; a redirect is a failure, and leads nowhere."""
    before = service.counts()
    submit(service.url, f"{receiver.url}/twice")
    wait_until(lambda: (service.counts() - before)["webhook_delivered"] == 1, "the third attempt succeeds")
    assert [post.path for post in receiver.posts] == ["/twice"] * 3
    assert len({post.headers["webhook-id"] for post in receiver.posts}) == 1
    assert len({post.body for post in receiver.posts}) == 1
    for post in receiver.posts:
        verified(post)
    assert (service.counts() - before)["webhook_failed"] == 2
    submit(service.url, f"{receiver.url}/elsewhere")
    wait_until(lambda: (service.counts() - before)["webhook_dead"] == 1, "all attempts failed")
    assert [post.path for post in receiver.posts[3:]] == ["/elsewhere"] * 4


def test_what_cannot_be_delivered_is_a_dead_letter_and_can_be_replayed(service: Service, receiver: Recorded) -> None:
    """Listed with its reason, shown by status; replayed, it has its old webhook-id."""
    url, processes, earlier = service.url, service.processes, service.counts()
    dead = submit(url, f"{receiver.url}/never")
    gone = submit(url, f"{receiver.url}/gone")
    wait_until(lambda: (service.counts() - earlier)["webhook_dead"] == 2, "both are given up")
    assert [post.path for post in receiver.posts].count("/gone") == 1
    listed = json.loads(command(processes, "results", "webhooks", "list", "--json"))
    found = {one["request_id"]: (one["attempts"], one["reason"]) for one in listed}
    assert {request_id: found[request_id] for request_id in (dead, gone)} == {
        dead: (4, "the receiver responded with 500"),
        gone: (1, "the receiver responded with 410"),
    }
    status = json.loads(command(processes, "consumers", "status", "--json"))
    assert (status["webhooks"], status["dead_webhooks"], status["senders"]) == (0, len(listed), 1)
    first = {post.headers["webhook-id"] for post in receiver.posts if post.path == "/never"}
    assert f"gave up a webhook: request={dead} webhook-id={next(iter(first))}: " in service.sender.text
    before = len(receiver.posts)
    assert "replayed" in command(processes, "results", "webhooks", "replay", dead)
    wait_until(lambda: len(receiver.posts) > before, "it is tried again")
    assert {post.headers["webhook-id"] for post in receiver.posts if post.path == "/never"} == first
    assert "dropped" in command(processes, "results", "webhooks", "drop", gone)


def command(processes: Processes, module: str, *arguments: str) -> str:
    """What `python -m module` with these arguments prints."""
    ran = processes.start(module, arguments=arguments)
    ran.wait()
    return ran.text


@pytest.mark.parametrize(
    ("headers", "document", "says"),
    [
        ({"Webhook-URL": "http://127.0.0.1/"}, {}, "Prefer: respond-async"),
        ({"Prefer": "wait=1"}, {"webhook": "http://127.0.0.1/"}, "Prefer: respond-async"),
        ({"Prefer": "respond-async", "Webhook-URL": "http://127.0.0.1"}, {"webhook": "http://127.0.0.1"}, "more than"),
        ({"Prefer": "respond-async"}, {"webhook": 7}, "no string"),
        ({"Prefer": "respond-async"}, {"webhook": "http://user@127.0.0.1/"}, "user name"),
        ({"Prefer": "respond-async", "Webhook-URL": ""}, {}, "must begin with"),
    ],
)  # fmt: skip
def test_a_wrong_webhook_is_a_400(
    service: Service, headers: dict[str, str], document: dict[str, Any], says: str
) -> None:
    """With what is wrong; and nothing is accepted."""
    document = {"image": base64.b64encode(FILE).decode(), **document}
    response = httpx.post(f"{service.url}/predict", json=document, headers=headers)
    assert response.status_code == 400, response.text
    assert says in response.json()["detail"]


def test_it_is_off_by_default(service: Service) -> None:
    """A client that counts on a webhook gets a refusal, not a poll."""
    _, url = service.processes.ingest()
    headers = {"Prefer": "respond-async", "Webhook-URL": "https://example.com/"}
    response = httpx.post(f"{url}/predict", content=FILE, headers=headers)
    assert response.status_code == 400
    assert "webhooks is off" in response.json()["detail"]
    assert "Webhook-URL" not in httpx.get(f"{url}/openapi.json").text


def test_an_idempotency_key_delivers_once(service: Service, receiver: Recorded) -> None:
    """However often the request is sent; with another webhook it is another request."""
    url, before = service.url, service.counts()
    headers = {"Idempotency-Key": "one"}
    first = submit(url, f"{receiver.url}/ok", headers=headers)
    wait_until(lambda: (service.counts() - before)["webhook_delivered"] == 1, "it is delivered")
    again = {"Prefer": "respond-async", "Webhook-URL": f"{receiver.url}/ok", **headers}
    assert httpx.post(f"{url}/predict", content=FILE, headers=again).json()["id"] == first
    other = httpx.post(f"{url}/predict", content=FILE, headers={**again, "Webhook-URL": f"{receiver.url}/other"})
    assert other.json()["code"] == "idempotency_key_reused"
    submit(url, f"{receiver.url}/ok")
    wait_until(lambda: (service.counts() - before)["webhook_delivered"] == 2, "a later one is delivered")
    assert [verified(post)["data"]["id"] for post in receiver.posts].count(first) == 1


def test_each_api_key_has_a_secret_of_its_own(service: Service, receiver: Recorded) -> None:
    """The command prints it; it verifies this key's webhooks, and the setting itself does not."""
    processes = service.processes
    keys: dict[str, Any] = {"api_keys": f"alice:{'k' * 43}"}
    _, url = processes.ingest(**LOCAL, **keys)
    submit(url, f"{receiver.url}/ok", headers={"X-API-Key": "k" * 43})
    wait_until(lambda: len(receiver.posts) == 1, "it is delivered")
    secret_alone = {"webhook_secret": SENDER["webhook_secret"]}
    printed = processes.start("ingest.webhooks", arguments=["secret", "alice"], **secret_alone, **keys)
    assert printed.wait() == 0
    assert len(printed.text.split()) == 2
    for secret in printed.text.split():
        assert verified(receiver.posts[0], secret)["data"]["id"].startswith("alice.")
    with pytest.raises(Exception, match="signature"):
        verified(receiver.posts[0])


def test_only_the_owner_of_a_key_has_a_secret(service: Service) -> None:
    """A typing error prints no secret, which would verify nothing. Neither does a command without keys or a name."""
    keys: dict[str, Any] = {"api_keys": f"alice:{'k' * 43}"}
    refused = service.processes.start("ingest.webhooks", arguments=["secret", "alcie"], **SENDER, **keys)
    without_keys = service.processes.start("ingest.webhooks", arguments=["secret", "alice"], **SENDER)
    nameless = service.processes.start("ingest.webhooks", arguments=["secret"], **SENDER, **keys)
    assert refused.wait() == 2
    assert "no API key of 'alcie'; there are those of alice" in refused.text
    assert "whsec_" not in refused.text
    assert without_keys.wait() == 2
    assert "without keys webhook_secret itself signs" in without_keys.text
    assert "whsec_" not in without_keys.text
    assert nameless.wait() == 2
    assert nameless.text.strip().endswith("give the NAME of an API key: python -m ingest.webhooks secret NAME")


def test_the_cache_does_not_swallow_a_webhook(service: Service, receiver: Recorded) -> None:
    """The second request has the same pixels."""
    _, url = service.processes.ingest(**LOCAL, cache_ttl_s=60)
    assert httpx.post(f"{url}/predict", content=FILE, timeout=30).status_code == 200
    wanted = submit(url, f"{receiver.url}/ok")
    wait_until(lambda: len(receiver.posts) == 1, "it is delivered")
    assert verified(receiver.posts[0])["data"]["id"] == wanted


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"webhooks": False}, "webhooks is off"),
        ({"webhook_secret": ""}, "openssl rand"),
        ({"webhook_secret": "secret"}, "whsec_"),
        ({"webhook_secret": "whsec_c2hvcnQ="}, "24 to 64 bytes"),
        ({"webhook_retries_s": "5,-1"}, "more than 0"),
    ],
)
def test_a_sender_that_cannot_work_does_not_start(service: Service, changed: dict[str, Any], says: str) -> None:
    """With status 2, and what to do."""
    sender = service.processes.start("ingest.webhooks", **SENDER | changed)
    assert sender.wait() == 2
    assert says in sender.text


def test_a_sender_that_is_stopped_no_longer_counts(service: Service) -> None:
    """It counted as alive for half a minute."""

    def senders() -> int:
        return int(json.loads(command(service.processes, "consumers", "status", "--json"))["senders"])

    wait_until(lambda: senders() == 1, "the service's own sender is counted")
    another = service.processes.start("ingest.webhooks", **SENDER)
    wait_until(lambda: senders() == 2, "so is another one")
    assert another.stop() == 0
    assert senders() == 1
