"""`sluice serve` as a user runs it: a Keras file in, predictions out, and a clean end."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from consumers.onnx.model_file import digest
from sluice.models import _digest, _fingerprint
from tests.support.images import encoded, scene
from tests.support.models import tiny_model
from tests.support.processes import ROOT
from tests.support.recorded_server import body, serve
from tests.support.redis.servers import free_port
from tests.support.waiting import PATIENCE_S, wait_until


@contextmanager
def serving(
    folder: Path, *arguments: object, log: str = "log", **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`sluice serve` in a folder; killed at the end if it still runs."""
    command = [sys.executable, "-m", "sluice", "serve", *map(str, arguments)]
    path = f"{sys.prefix}/bin:{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "SLUICE_WORKERS": "1", **environment}
    with (folder / log).open("wb") as output:
        running = subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=output)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def said(folder: Path, log: str = "log") -> list[str]:
    return (folder / log).read_text().splitlines()


def is_ready(folder: Path, port: int, log: str = "log") -> bool:
    return f"ready: http://127.0.0.1:{port}   (Ctrl-C stops it)" in said(folder, log)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder whose name has a space, with the tiny model in it."""
    path = tmp_path / "my project"
    path.mkdir()
    tiny_model.build(path / "models", name="resnet50", version="1")
    return path


def test_one_command_serves_and_ctrl_c_ends_it(folder: Path) -> None:
    """In a folder whose name has a space; at most five lines after Ctrl-C, and no file of the run stays."""
    port = free_port()
    with serving(folder, "--port", port) as running:
        wait_until(lambda: is_ready(folder, port), "the service is ready")
        image = encoded(scene(), "JPEG")
        response = httpx.post(f"http://127.0.0.1:{port}/predict", files={"image": image}, timeout=30)
        assert response.status_code == 200
        assert response.json()["model"] == "resnet50"
        before = len(said(folder))
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE_S) == 0
    assert said(folder)[before:] == ["stopped"]
    assert said(folder)[0].startswith("model     resnet50 version 1 (already exported)")
    assert not (folder / ".sluice" / str(port) / "serve.json").exists()


def test_a_second_model_joins_with_a_consumer_of_its_own(folder: Path) -> None:
    """Its path names it; the path without a name stays with the model of the run."""
    port = free_port()
    tiny_model.build(folder / "models", name="roses", version="1")
    command = [sys.executable, "-m", "consumers", "--model", "roses", "--data-dir", f".sluice/{port}"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (
        serving(folder, "resnet50", "--port", port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        wait_until(lambda: is_ready(folder, port), "the service is ready")
        with subprocess.Popen(command, cwd=folder, env=variables) as consumer:
            try:
                wait_until(lambda: "roses" in client.get("/models").text, "the second model is served")
                image = encoded(scene(), "JPEG")
                named = [client.post(path, content=image).json()["model"] for path in ("/predict", "/predict/roses")]
                assert named == ["resnet50", "roses"]
            finally:
                consumer.terminate()
        assert consumer.returncode == 0


def test_webhooks_are_delivered_by_a_sender_that_serve_starts(folder: Path) -> None:
    """With the two settings that they need; without the secret, the run ends and says so."""
    port = free_port()
    local = {"SLUICE_WEBHOOKS": "true", "SLUICE_OUTBOUND_HTTP": "true", "SLUICE_OUTBOUND_NETWORKS": "127.0.0.1/32"}
    with serving(folder, "--port", port, **local) as running:
        assert running.wait(PATIENCE_S) == 2
    assert any("webhook_secret is empty" in line for line in said(folder))
    grpc_port = free_port()
    secret = {"SLUICE_WEBHOOK_SECRET": "whsec_" + "A" * 32, "SLUICE_GRPC_PORT": str(grpc_port)}
    with serving(folder, "--port", port, **local, **secret) as running, serve({"/": body(b"")}) as receiver:
        wait_until(lambda: is_ready(folder, port), "the service is ready")
        headers = {"Prefer": "respond-async", "Webhook-URL": f"{receiver.url}/"}
        image = encoded(scene(), "JPEG")
        sent = httpx.post(f"http://127.0.0.1:{port}/predict", content=image, headers=headers, timeout=30)
        assert sent.is_success
        wait_until(lambda: len(receiver.posts) == 1, "the outcome is delivered")
        assert {f"gRPC      port {grpc_port}", "webhooks  on"} <= set(said(folder))
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE_S) == 0


def test_each_consumer_has_its_metrics_on_the_next_port(folder: Path) -> None:
    """And a misspelt variable is reported once, not by each process."""
    port = free_port()
    first = next(one for one in iter(free_port, None) if is_free(one + 1))
    local = {"SLUICE_METRICS_PORT": str(first), "SLUICE_MAXIMAGES": "3"}
    with serving(folder, "--port", port, "--consumers", 2, **local) as running:
        wait_until(lambda: is_ready(folder, port), "the service is ready")
        for metrics_port in (first, first + 1):
            url = f"http://127.0.0.1:{metrics_port}/metrics"
            wait_until(lambda url=url: answers(url), "the consumer shows its metrics")  # type: ignore[misc]
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE_S) == 0
    warnings = [line for line in said(folder) if "SLUICE_MAXIMAGES" in line]
    assert warnings == [
        "sluice serve: SLUICE_MAXIMAGES is no setting and has no effect: did you mean SLUICE_MAX_IMAGES?"
    ]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def test_watch_serves_a_version_that_comes_later(folder: Path) -> None:
    """Without a restart; the page of models and the responses name the new version."""
    port = free_port()
    with serving(folder, "--port", port, "--watch") as running:
        wait_until(lambda: is_ready(folder, port), "the service is ready")
        made = tiny_model.build(folder / "made", name="resnet50", version="2", classes=12)
        made.parent.rename(folder / "models" / "resnet50" / "2")
        url = f"http://127.0.0.1:{port}"

        def served() -> list[tuple[str, int]]:
            return [(one["version"], one["labels"]) for one in httpx.get(f"{url}/models").json()["models"]]

        wait_until(lambda: served() == [("2", 12)], "version 2 is served")
        response = httpx.post(f"{url}/predict?top=12", files={"image": encoded(scene(), "JPEG")}, timeout=30).json()
        assert response["version"] == "2"
        assert {one["label"] for one in response["predictions"]} == {f"class_{number}" for number in range(12)}
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE_S) == 0


def test_watch_refuses_a_model_that_is_not_the_newest(folder: Path) -> None:
    """Consumers would serve another file than the one that was named. Without it, a line names the other versions."""
    (folder / "flowers.keras").write_bytes(b"kept")
    for version in "12":
        tiny_model.build(folder / "models", name="flowers", version=version)
    tiny_model.build(folder / "models", name="flowers", version="3", precision="fp16")
    artefact = folder / "models" / "flowers" / "1" / "model.onnx"
    record = {"fingerprint": _fingerprint(_digest(folder / "flowers.keras"), ()), "artefact": digest(artefact)}
    artefact.with_name("export.json").write_text(json.dumps(record))
    port = free_port()
    with serving(folder, "flowers.keras", "--port", port, "--watch") as running:
        assert running.wait(PATIENCE_S) == 2
    newest = f"sluice serve flowers --port {port}"
    assert said(folder)[-3:] == [
        (
            "sluice serve: models/flowers holds version 2, 3 (fp16), but flowers.keras is version 1, and with --watch "
            "consumers serve the newest."
        ),
        f"To serve the newest:  {newest} --watch",
        "To serve version 1:  leave --watch out, or remove models/flowers/2, models/flowers/3",
    ]
    with serving(folder, "flowers.keras", "--port", port, SLUICE_HOST="0.0.0.0") as running:
        assert running.wait(PATIENCE_S) == 2
    line = f"models/flowers also holds version 2, 3 (fp16), not served here. To serve the newest: {newest}"
    assert said(folder)[1] == line
    with serving(folder, "flowers", "--port", port, SLUICE_HOST="0.0.0.0") as running:
        assert running.wait(PATIENCE_S) == 2
    about = "flowers version 3, unless a release names another (fp16, already exported; a CPU serves version 2)"
    assert said(folder)[0].startswith(f"model     {about}")


def test_a_taken_port_names_the_earlier_run(folder: Path) -> None:
    """With its process id and the two ways on, also if it runs in another folder; another program is no run."""
    port = free_port()
    with serving(folder, "--port", port) as first:
        wait_until(lambda: is_ready(folder, port), "the service is ready")
        with serving(folder, "--port", port, log="second") as second:
            assert second.wait(PATIENCE_S) == 2
        assert said(folder, "second") == [
            f"port {port} is in use by an earlier run, which serves resnet50 (process {first.pid}).",
            f"stop it with: kill {first.pid}",
            f"or choose another port: make run PORT={port + 1}, or sluice serve --port {port + 1}",
        ]
        with serving(folder.parent, "--port", port, log="third") as third:
            assert third.wait(PATIENCE_S) == 2
        data = f" with its data in {folder / '.sluice' / str(port)}"
        assert said(folder.parent, "third")[0] == said(folder, "second")[0].replace(",", f"{data},", 1)


def test_status_finds_the_server_of_the_run(folder: Path) -> None:
    """Without any option, in the folder where the service runs. With two of them, it names both."""
    first, second = free_port(), free_port()
    with serving(folder, "--port", first):
        wait_until(lambda: is_ready(folder, first), "the service is ready")
        status = sluice(folder, "status")
        assert status.returncode == 0, status.stdout
        assert status.stdout.startswith("resnet50: 1 of 1 consumers alive, 1 partition\n")
        assert sluice(folder, "results", "dead-letters", "list").stdout == "No dead letters.\n"
        with serving(folder, "--port", second, log="second"):
            wait_until(lambda: is_ready(folder, second, "second"), "the other service is ready")
            status = sluice(folder, "status")
            assert status.returncode == 2
            assert all(f".sluice/{port} (resnet50)" in status.stderr for port in (first, second))
            assert sluice(folder, "status", "--data-dir", f".sluice/{second}").returncode == 0
            classify = sluice(folder, "classify", "image.jpg")
            assert classify.returncode == 2
            assert all(f"http://127.0.0.1:{port} (resnet50)" in classify.stderr for port in (first, second))


def sluice(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of `sluice` in a folder, without a setting that says where Redis is."""
    variables = {
        name: value for name, value in os.environ.items() if name not in {"SLUICE_REDIS_URL", "SLUICE_DATA_DIR"}
    }
    command = [sys.executable, "-m", "sluice", *arguments]
    return subprocess.run(
        command, cwd=folder, env={**variables, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )


def test_settings_that_can_never_work_end_the_run(folder: Path) -> None:
    """The process says what is wrong once; nothing is tried again for ever."""
    port = free_port()
    with serving(folder, "--port", port, SLUICE_HOST="0.0.0.0") as running:
        assert running.wait(PATIENCE_S) == 2
    refusals = [line for line in said(folder) if line.startswith("python -m ")]
    assert refusals
    assert len(refusals) == len(set(refusals))


@pytest.mark.parametrize("package", ["multipart", "onnxruntime"])
def test_a_package_that_cannot_be_imported_ends_the_run(folder: Path, package: str) -> None:
    """Of a worker of ingest, and of a consumer; a second start would not help."""
    (folder / f"{package}.py").write_text("raise ImportError('needs another libstdc++')\n")
    path = os.pathsep.join((str(folder), str(ROOT)))
    with serving(folder, "--port", free_port(), SLUICE_WORKERS="2", PYTHONPATH=path) as running:
        assert running.wait(PATIENCE_S) == 2
    # The folder of the run is not that of the environment, so the program has its path.
    install = f"Install what is needed with: {sys.executable} -m pip"
    assert any(f"cannot start: needs another libstdc++. {install}" in line for line in said(folder))


def test_a_public_address_is_served_with_keys(folder: Path) -> None:
    """The key that `python -m ingest.keys` prints opens it, and the readiness of the run needs none."""
    add = [sys.executable, "-m", "ingest.keys", "add", "alice", "--file", "keys/keys"]
    key = subprocess.check_output(add, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True).strip()
    port = free_port()
    with serving(folder, "--port", port, SLUICE_API_KEYS_FILE="keys/keys", SLUICE_HOST="0.0.0.0") as running:
        wait_until(lambda: is_ready(folder, port), "the service is ready")
        url, image = f"http://127.0.0.1:{port}/predict", encoded(scene(), "JPEG")
        headers: tuple[dict[str, str], ...] = ({}, {"Authorization": f"Bearer {key}"}, {"X-API-Key": key})
        assert [httpx.post(url, content=image, headers=one).status_code for one in headers] == [401, 200, 200]
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE_S) == 0


def test_no_consumers_are_refused_in_a_sentence(folder: Path) -> None:
    """No traceback for `--consumers 0`."""
    with serving(folder, "--consumers", 0) as running:
        assert running.wait(PATIENCE_S) == 2
    assert said(folder)[-1].endswith("0 consumers cannot serve anything; give 1 or more")
