"""What a webhook may not do: hold up others, reach a private address, or fill the memory of Redis."""

import httpx

from tests.ingest.webhooks.test_webhooks import FILE, LOCAL, SENDER, counted, submit
from tests.support.processes import Processes
from tests.support.recorded_server import Recorded, body, serve
from tests.support.waiting import wait_until


def test_a_slow_receiver_does_not_hold_up_another(processes: Processes, receiver: Recorded) -> None:
    """More requests than there may be attempts, to one that never answers; and one to another host."""
    processes.consumer(version=1)
    _, url = processes.ingest(**LOCAL)
    sender = {**SENDER, "webhook_timeout_s": 20, "outbound_networks": "127.0.0.0/8"}
    with serve({"/ok": body(b"", status=204)}) as other:
        for _ in range(80):
            submit(url, f"{receiver.url}/silent")
        processes.start("ingest.webhooks", **sender)
        wait_until(lambda: len(receiver.posts) == 16, "as many attempts as one host gets")
        submit(url, other.url.replace("127.0.0.1", "localhost") + "/ok")
        wait_until(lambda: len(other.posts) == 1, "the other is delivered")
        assert len(receiver.posts) == 16


def test_a_webhook_reaches_no_private_address(processes: Processes, receiver: Recorded) -> None:
    """Refused at once where the URL shows it, and else when the sender resolves the name."""
    processes.consumer(version=1)
    _, url = processes.ingest(webhooks=True, outbound_http=True)
    headers = {"Prefer": "respond-async", "Webhook-URL": f"{receiver.url}/ok"}
    refused = httpx.post(f"{url}/predict", content=FILE, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (400, "url_not_allowed")
    processes.start("ingest.webhooks", **SENDER | {"outbound_networks": ""})
    for host in ("localhost", "0x7f.1", "2130706433"):
        submit(url, receiver.url.replace("127.0.0.1", host) + "/ok")
    wait_until(lambda: counted(url, "webhook_dead") == 3, "all are given up")
    assert receiver.connections == []


def test_receivers_that_are_down_for_long_fill_no_memory(processes: Processes, receiver: Recorded) -> None:
    """Beyond max_webhook_backlog, a request with a webhook is a 503, and one without is accepted."""
    processes.consumer(version=1)
    _, url = processes.ingest(**LOCAL, max_webhook_backlog=2)
    ids = [submit(url, f"{receiver.url}/ok") for _ in range(2)]
    for request_id in ids:
        wait_until(lambda: httpx.get(f"{url}/results/{request_id}").status_code == 200, "it is completed")  # noqa: B023
    headers = {"Prefer": "respond-async", "Webhook-URL": f"{receiver.url}/ok"}
    full = httpx.post(f"{url}/predict", content=FILE, headers=headers)
    assert (full.status_code, full.json()["code"]) == (503, "overloaded")
    assert "2 webhooks wait for their delivery, as many as max_webhook_backlog allows." in full.json()["detail"]
    assert httpx.post(f"{url}/predict", content=FILE).status_code == 200
    processes.start("ingest.webhooks", **SENDER)
    wait_until(lambda: len(receiver.posts) == 2, "what was accepted is delivered")
