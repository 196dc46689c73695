"""The importable clients against the whole service: predict, submit, result, delete, and idempotency keys."""

import asyncio
import io
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ingest.client import AsyncClient, Client, PredictionError, Result, ServiceError, StoppedError
from tests.ingest.test_app import png, ranked
from tests.support.processes import ROOT, Processes
from tests.support.redis import tls_terminator
from tests.support.redis.certificates import Authority
from tests.support.redis.requests_direct import random_images
from tests.support.scripted_service import Reply, serve

IMAGES = random_images(4)


def found(result: Result) -> list[dict[str, object]]:
    return [{"label": label, "probability": probability} for label, probability in result.predictions]


def test_an_image_may_be_bytes_a_path_or_a_file(url: str, tmp_path: Path) -> None:
    """Each form gets the same predictions, with the model, the version and the request id."""
    data = png(IMAGES[0])
    (tmp_path / "cat.png").write_bytes(data)
    with Client(url, model="tiny") as client:
        for image in (data, tmp_path / "cat.png", str(tmp_path / "cat.png"), io.BytesIO(data)):
            result = client.predict(image, top=3)
            assert found(result) == ranked(IMAGES[0], 3)
            assert (result.model, result.version, len(result.id)) == ("tiny", "1", 32)


def test_a_submitted_image_is_fetched_by_its_id(url: str) -> None:
    """From another client, too. A result can be fetched again while it is kept."""
    with Client(url) as client, Client(url) as other:
        request_id = client.submit(png(IMAGES[1]))
        assert found(other.result(request_id, wait_s=30)) == ranked(IMAGES[1])
        assert client.poll(request_id) == other.poll(request_id) == client.result(request_id)
        client.delete(request_id)
        with pytest.raises(PredictionError) as deleted:
            other.poll(request_id)
        assert (deleted.value.status, deleted.value.code) == (404, "unknown_result")
        with pytest.raises(PredictionError):
            other.result(request_id)


def test_an_idempotency_key_leads_to_one_request(url: str) -> None:
    """The same key with the same image returns the same id. With another image it is refused."""
    with Client(url) as client:
        first = client.submit(png(IMAGES[2]), idempotency_key="order-17")
        assert client.submit(png(IMAGES[2]), idempotency_key="order-17") == first
        assert client.predict(png(IMAGES[2]), idempotency_key="order-17").id == first
        assert client.submit(png(IMAGES[2])) != first
        with pytest.raises(PredictionError, match="Idempotency-Key"):
            client.submit(png(IMAGES[3]), idempotency_key="order-17")


def test_failures_say_whether_other_images_may_succeed(url: str) -> None:
    """PredictionError for this image or result; ServiceError for all."""
    with Client(url) as client:
        with pytest.raises(PredictionError, match="422 Damaged image") as damaged:
            client.predict(png(IMAGES[0])[:60])
        assert (damaged.value.status, damaged.value.code) == (422, "damaged_image")
        assert str(damaged.value).startswith("422 Damaged image")
        with pytest.raises(PredictionError, match="404 Unknown result"):
            client.result("0" * 32)
        with pytest.raises(ServiceError, match="400 Bad parameter"):
            client.predict(png(IMAGES[0]), top=11)
        assert found(client.predict(png(IMAGES[0]))) == ranked(IMAGES[0])
    with Client(url, model="nope") as client, pytest.raises(ServiceError, match="404 Unknown model"):
        client.predict(png(IMAGES[0]))
    with Client("http://127.0.0.1:9", give_up_after_s=0) as client, pytest.raises(ServiceError) as stopped:
        client.predict(png(IMAGES[0]))
    assert (str(stopped.value), stopped.value.passing) == ("http://127.0.0.1:9: Connection refused", True)


def test_a_client_gives_up_at_its_limit_and_not_a_pause_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last attempt is at the limit."""
    monkeypatch.setattr("ingest.client.retry.FIRST_S", 100.0)
    monkeypatch.setattr("ingest.client.retry.LONGEST_S", 100.0)
    began_s = time.monotonic()
    with Client("http://127.0.0.1:9", give_up_after_s=0.5) as client, pytest.raises(ServiceError):
        client.predict(png(IMAGES[0]))
    assert 0.5 <= time.monotonic() - began_s < 50


def test_an_authority_of_ones_own_is_named_in_a_variable(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error for an unknown one says in which."""
    authority = Authority(tmp_path)
    own = authority.issue("ingest", address="127.0.0.1")
    terminator, port = tls_terminator.start(tmp_path, int(url.rpartition(":")[2]), own)
    secured = f"https://127.0.0.1:{port}"
    with Client(secured) as client, pytest.raises(ServiceError, match=r"not trusted: .* in SSL_CERT_FILE$"):
        client.predict(png(IMAGES[0]))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with Client(secured) as client:
        assert found(client.predict(png(IMAGES[0]))) == ranked(IMAGES[0])
    terminator.kill()


def test_a_queued_request_can_be_awaited_and_cancelled(processes: Processes) -> None:
    """Without a running consumer there is no result in time. A cancelled request stays cancelled."""
    consumer = processes.consumer(version=1, lease_s=300)
    _, url = processes.ingest()
    with Client(url) as client:
        consumer.send(signal.SIGSTOP)
        request_id = client.submit(png(IMAGES[0]))
        assert client.poll(request_id) is None
        with pytest.raises(TimeoutError, match=request_id):
            client.result(request_id, wait_s=0.2)
        client.delete(request_id)
        with pytest.raises(PredictionError, match="cancelled"):
            client.result(request_id)
        consumer.send(signal.SIGCONT)


def test_a_submit_is_repeated_with_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that fails after it has accepted the image finds the first request again."""
    monkeypatch.setattr("ingest.client.retry.FIRST_S", 0.0)
    replies = iter([Reply(503), Reply(0), Reply(0), Reply(202, b'{"success": true, "status": "queued", "id": "a1"}')])
    with serve(lambda _: next(replies)) as service, Client(service.url) as client:
        assert client.submit(b"image") == "a1"
        keys = [headers["Idempotency-Key"] for _, headers, _ in service.got]
        assert len(keys) == 4
        assert len(set(keys)) == 1
        assert len(keys[0]) == 32


@pytest.mark.parametrize("key", ["", "order-7\n", "a\rb", "\u4e2d", "x" * 256])
def test_an_idempotency_key_that_no_header_can_carry_is_refused(key: str) -> None:
    """Before anything is sent. What an error leaves behind is not sent with the next request."""
    accepted = Reply(202, b'{"success": true, "status": "queued", "id": "a1"}')
    with serve(lambda _: accepted) as service, Client(service.url) as client:
        for call in (client.predict, client.submit):
            with pytest.raises(ValueError, match="the idempotency key must have 1 to 255 characters"):
                call(b"image", idempotency_key=key)
        with pytest.raises(UnicodeEncodeError):
            client.submit(io.StringIO("\u4e2d"))  # type: ignore[arg-type]
        assert client.submit(b"image", idempotency_key="caf\xe9 7") == "a1"
        ((_, headers, body),) = service.got
        assert (headers["Idempotency-Key"], body) == ("caf\xe9 7", b"image")


def test_the_key_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless another one is given, or an empty one."""
    monkeypatch.setenv("SLUICE_API_KEY", "key-of-the-environment")
    accepted = Reply(202, b'{"success": true, "status": "queued", "id": "a1"}')
    with serve(lambda _: accepted) as service:
        for given in (None, "another", ""):
            with Client(service.url, api_key=given) as client:
                client.submit(b"image")
        sent = [headers.get("Authorization", "") for _, headers, _ in service.got]
    assert sent == ["Bearer key-of-the-environment", "Bearer another", ""]


def test_abort_ends_every_request() -> None:
    """Those in flight, from another thread, and all later ones."""
    received = threading.Event()

    def never(_body: bytes) -> Reply:
        received.set()
        ended.wait(30)
        return Reply(0)

    ended, raised = threading.Event(), []
    with serve(never) as service, Client(service.url) as client:

        def predict() -> None:
            with pytest.raises(StoppedError, match=r"stopped by abort\(\)") as error:
                client.predict(b"image")
            raised.append(error.type)

        thread = threading.Thread(target=predict)
        thread.start()
        assert received.wait(30)
        client.abort()
        thread.join(10)
        ended.set()
        assert raised == [StoppedError]
        with pytest.raises(StoppedError):
            client.predict(b"image")


def test_the_async_client_does_the_same(url: str) -> None:
    """Many calls at once share few connections; each gets its own predictions."""

    async def use() -> None:
        async with AsyncClient(url, connections=3) as client:
            results = await asyncio.gather(*(client.predict(png(image)) for image in IMAGES))
            assert [found(result) for result in results] == [ranked(image) for image in IMAGES]
            ids = await asyncio.gather(*(client.submit(png(image), top=1) for image in IMAGES))
            results = await asyncio.gather(*(client.result(request_id, wait_s=30) for request_id in ids))
            assert [found(result) for result in results] == [ranked(image, 1) for image in IMAGES]
            await client.delete(ids[0])
            with pytest.raises(PredictionError):
                await client.result(ids[0])
            with pytest.raises(PredictionError, match="404"):
                await client.result("0" * 32)
        with pytest.raises(StoppedError, match=r"stopped by .* aclose\(\)"):
            await client.predict(png(IMAGES[0]))

    asyncio.run(use())


def test_the_documented_program_runs(url: str) -> None:
    """The Python program of docs/client.md prints three labels."""
    (program,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/client.md").read_text(), re.MULTILINE | re.DOTALL)
    code = program.replace("http://127.0.0.1:5000", url)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert re.fullmatch(r"(0\.\d{4} class_\d\n){3}", done.stdout), done
