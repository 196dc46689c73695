"""Loading and unloading by an operator: what it changes, who may, and what is said when it cannot be done."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import grpc
import httpx
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from consumers.status import main as status
from ingest.auth.api_keys import StoredKey, new_key
from tests.consumers.test_onnx_artefact import with_metadata
from tests.ingest.test_app import png
from tests.support.models import tiny_model
from tests.support.processes import Process, Processes
from tests.support.redis.requests_direct import random_images
from tests.support.redis.servers import Server, free_port
from tests.support.waiting import wait_until

ADMIN, USER = new_key(), new_key()
IMAGE = png(random_images(1)[0])


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    lines = (StoredKey.of("root", ADMIN, ["admin"]).encode(), StoredKey.of("alice", USER).encode())
    file.write_text("\n".join(lines))
    return file


@pytest.fixture
def service(processes: Processes, keys: Path, tmp_path: Path) -> tuple[Process, str, Path]:
    """A consumer that does not watch, ingest with both keys, and the repository."""
    repository = tmp_path / "repository"
    tiny_model.build(repository, version="1")
    consumer = processes.consumer(models_dir=repository, provider="cpu", lease_s=1.5, redis_timeout_s=1)
    _, url = processes.ingest(api_keys_file=keys)
    return consumer, url, repository


def post(url: str, path: str, key: str = ADMIN, **options: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{url}{path}", headers=headers, timeout=60, **options)  # type: ignore[arg-type]


def classify(url: str) -> httpx.Response:
    return post(url, "/predict", USER, content=IMAGE)


def test_an_operator_loads_a_newer_version(service: tuple[Process, str, Path]) -> None:
    """At once and without a restart: the response comes when it is served. Loading again changes nothing."""
    _, url, repository = service
    tiny_model.build(repository, version="2", seed=8)
    assert classify(url).json()["version"] == "1"
    for _ in range(2):
        loaded = post(url, "/v2/repository/models/tiny/load")
        assert (loaded.status_code, loaded.json()) == (200, {"name": "tiny", "versions": ["2"]})
    assert classify(url).json()["version"] == "2"


def test_a_version_that_is_slow_here_is_passed_over_with_the_reason(service: tuple[Process, str, Path]) -> None:
    """The response has it, and so have the page and the status of its consumers, which are healthy all the same."""
    _, url, repository = service
    with_metadata(tiny_model.build(repository, version="2"), precision="fp16")
    why = "2: it is fp16, which this provider computes slowly"
    loaded = post(url, "/v2/repository/models/tiny/load").json()
    assert loaded == {"name": "tiny", "versions": ["1"], "passed_over": [why]}
    with httpx.stream("GET", f"{url}/live", headers={"Authorization": f"Bearer {ADMIN}"}, timeout=60) as live:
        snapshot = json.loads(next(line for line in live.iter_lines() if line.startswith("data:"))[5:])
    (consumer,) = snapshot["models"][0]["consumers"]
    assert consumer["passed_over"] == why


def test_a_version_that_is_refused_is_a_409(service: tuple[Process, str, Path]) -> None:
    """It names the version and the reason, and the served one stays; a repaired file is loaded."""
    _, url, repository = service
    path = tiny_model.build(repository, version="2", seed=8)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    refused = post(url, "/v2/repository/models/tiny/load")
    assert refused.status_code == 409
    assert "because of version 2: " in refused.json()["error"]
    assert classify(url).json()["version"] == "1"
    path.write_bytes(whole)
    assert post(url, "/v2/repository/models/tiny/load").json() == {"name": "tiny", "versions": ["2"]}


def test_an_unloaded_model_refuses_images_until_it_is_loaded(
    service: tuple[Process, str, Path], server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its consumers free the memory and stay; triton's client and `sluice status` say the same in their own words."""
    consumer, url, _ = service
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    headers = {"Authorization": f"Bearer {ADMIN}"}
    client.unload_model("tiny", headers=headers)
    assert "unloaded model=tiny version=1" in consumer.text
    refused = classify(url)
    assert (refused.status_code, refused.json()["code"]) == (503, "model_unloaded")
    assert int(refused.headers["Retry-After"]) == refused.json()["retry_after"]
    index = client.get_model_repository_index(headers=headers)
    assert index == [{"name": "tiny", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}]
    ready_only = post(url, "/v2/repository/index", json={"ready": True})
    assert ready_only.json() == []
    assert httpx.get(f"{url}/readyz").status_code == 503
    capsys.readouterr()
    assert status(["--redis-url", server.url, "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert "every image is refused. Load it with: POST /v2/repository/models/tiny/load" in problem
    client.load_model("tiny", headers=headers)
    assert status(["--redis-url", server.url]) == 0
    assert "loaded again model=tiny version=1" in consumer.text
    assert classify(url).status_code == 200
    assert httpx.get(f"{url}/readyz").status_code == 200


def test_the_same_over_grpc(service: tuple[Process, str, Path], processes: Processes, keys: Path) -> None:
    """Triton's client, by the same rules and with the same sentences."""
    consumer, url, repository = service
    port = free_port()
    processes.ingest(api_keys_file=keys, grpc_port=port)
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{port}") as client:
        admin, user = ({"authorization": f"Bearer {key}"} for key in (ADMIN, USER))

        def refusal(load: Callable[..., object], name: str = "tiny", **options: Any) -> tuple[str, str]:
            with pytest.raises(InferenceServerException) as refused:
                load(name, **options)
            return refused.value.status(), refused.value.message()

        client.unload_model("tiny", headers=admin)
        wait_until(lambda: classify(url).status_code == 503, "images are refused")
        for load in (client.load_model, client.unload_model):
            assert refusal(load) == ("StatusCode.UNAUTHENTICATED", ANY)
            assert refusal(load, headers=user) == ("StatusCode.PERMISSION_DENIED", ANY)
            assert refusal(load, "nobody", headers=admin)[0] == "StatusCode.NOT_FOUND"
        assert refusal(client.load_model, headers=admin, config="{}") == ("StatusCode.INVALID_ARGUMENT", ANY)
        config = post(url, "/v2/repository/models/tiny/load", json={"parameters": {"config": "{}"}})
        assert (config.status_code, "'config' is not supported" in config.json()["error"]) == (400, True)
        assert consumer.text.count("unloaded model") == 1
        whole = tiny_model.build(repository, version="2", seed=8)
        whole.write_bytes((content := whole.read_bytes())[:100])
        status, why = refusal(client.load_model, headers=admin)
        assert status == "StatusCode.FAILED_PRECONDITION"
        assert "because of version 2: " in why
        whole.write_bytes(content)
        client.load_model("tiny", headers=admin)
    wait_until(lambda: classify(url).json().get("version") == "2", "version 2 answers")
    with_metadata(tiny_model.build(repository, version="3"), precision="fp16")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        load = channel.unary_unary("/inference.GRPCInferenceService/RepositoryModelLoad")
        _, call = load.with_call(b"\x12\x04tiny", metadata=tuple(admin.items()))
    trailing = dict(call.trailing_metadata())
    assert trailing["sluice-passed-over"] == "3: it is fp16, which this provider computes slowly"


def test_every_ingest_obeys(service: tuple[Process, str, Path], processes: Processes, keys: Path) -> None:
    """Also one that did not get the request."""
    _, url, _ = service
    _, other = processes.ingest(api_keys_file=keys)
    assert post(url, "/v2/repository/models/tiny/unload").status_code == 200
    user = {"Authorization": f"Bearer {USER}"}
    for path in ("/models", "/openapi.json"):  # Its consumer stays alive, and other models may be served.
        assert httpx.get(url + path, headers=user).status_code == 200, path
    wait_until(lambda: classify(other).status_code == 503, "the other refuses as well")
    assert post(other, "/v2/repository/models/tiny/load").status_code == 200
    wait_until(lambda: classify(url).status_code == 200, "the first accepts again")


@pytest.mark.parametrize("what", ["load", "unload"])
def test_only_an_admin_key_may(service: tuple[Process, str, Path], processes: Processes, what: str) -> None:
    """Neither another key, nor anybody where there are no keys."""
    _, url, _ = service
    path = f"/v2/repository/models/tiny/{what}"
    refused = post(url, path, USER)
    assert refused.status_code == 403
    assert "python -m ingest.keys add NAME --admin --file FILE" in refused.json()["error"]
    assert httpx.post(f"{url}{path}").status_code == 401
    _, open_to_all = processes.ingest()
    assert httpx.post(f"{open_to_all}{path}").status_code == 403
    assert classify(url).status_code == 200


def test_what_cannot_be_done_is_said(service: tuple[Process, str, Path]) -> None:
    """An unknown model, and parameters that nobody here could obey."""
    _, url, _ = service
    assert post(url, "/v2/repository/models/nobody/load").status_code == 404
    refused = post(url, "/v2/repository/models/tiny/load", json={"parameters": {"config": True}})
    assert refused.status_code == 400
    assert "'config' is not supported" in refused.json()["error"]
    assert post(url, "/v2/repository/models/tiny/load", content=b"[").status_code == 400
    assert post(url, "/v2/repository/models/tiny/unload", json={"parameters": {"unload_dependents": True}}).is_success
    assert post(url, "/v2/repository/models/tiny/load").is_success
