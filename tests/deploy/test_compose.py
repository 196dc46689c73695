"""The container files, as far as they can be proved without a container engine.

They are valid, they name only what exists, and what they start, started here as processes, serves a prediction.
"""

import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
import redis
import yaml
from compose_spec import PyCompose
from redis.backoff import NoBackoff
from redis.retry import Retry

from export import arguments
from sluice import models, serve
from stream.keys import PRIORITIES
from stream.settings import ConsumerSettings, IngestSettings, QueueSettings
from stream.settings.variables import all_fields
from tests.deploy.running import MODEL, Containers, made_users
from tests.support.containers import ROOT, composed, extras, parsed, seconds, stages, variables
from tests.support.images import encoded, scene
from tests.support.processes import Process
from tests.support.redis.servers import binary, free_port
from tests.support.waiting import wait_until

BOTH = ("compose.yaml", "compose.gpu.yaml")
OURS = ("export", "ingest", "consumer")


@pytest.mark.parametrize("names", [("compose.yaml",), BOTH, ("compose.gpu.yaml",)])
def test_compose_accepts_the_files(names: tuple[str, ...]) -> None:
    """By the compose specification: no unknown key, no volume or network that is not declared."""
    PyCompose.from_yaml(yaml.safe_dump(parsed(*names))).validate()


def test_the_gpu_file_changes_only_what_the_other_has() -> None:
    """Consumers get the devices, the CUDA libraries and a provider by name; nothing is left to chance."""
    over = composed("compose.gpu.yaml")
    assert over.keys() <= composed().keys()
    consumer = composed(*BOTH)["consumer"]
    (device,) = consumer["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], consumer["environment"]["SLUICE_PROVIDER"]) == ("nvidia", "cuda")
    assert set(consumer["build"]["args"]["EXTRAS"].split()) == {"consumers", "gpu"}
    assert over["consumer"]["volumes"] == [f"engines:{consumer['environment']['SLUICE_DATA_DIR']}"], "engines are kept"
    assert consumer["build"]["args"].keys() <= {arg.split("=")[0] for arg in stages()["consumer"].all("ARG")}


def test_every_variable_is_a_setting() -> None:
    """A misspelt SLUICE_ variable would be passed on and ignored."""
    for name in (*BOTH, "Dockerfile"):
        named = set(re.findall(r"\bSLUICE_[A-Z0-9_]+", (ROOT / name).read_text()))
        assert named, name
        assert {one.removeprefix("SLUICE_").lower() for one in named} <= all_fields().keys(), name


def test_the_grace_fits_the_settings() -> None:
    """The engine waits longer for a process to stop than the process takes to finish what it holds."""
    shutdown_grace_s = QueueSettings.model_fields["shutdown_grace_s"].default
    for service in ("ingest", "consumer"):
        assert seconds(composed()[service]["stop_grace_period"]) >= shutdown_grace_s + 5, service
    assert shutdown_grace_s + 5 <= serve.STOP_S


def test_containers_can_do_little() -> None:
    """No capability, no privilege, nothing to write but volumes and /tmp; Redis is reached from inside alone."""
    for name, service in composed().items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert name in OURS or service["user"] != "root", name
        assert ("ports" in service) == (name == "nginx"), name
    assert composed()["nginx"]["ports"] == ["127.0.0.1:5000:5000", "127.0.0.1:5001:5001"]
    assert composed()["consumer"]["volumes"] == ["models:/models:ro", "consumer-password:/users:ro"]
    assert composed()["ingest"]["volumes"] == ["ingest-password:/users:ro"]
    assert composed()["redis"]["volumes"] == ["queue:/data", "redis-users:/users/redis:ro"]
    assert composed()["users"]["network_mode"] == "none"
    assert composed()["redis"]["networks"] == composed()["consumer"]["networks"] == ["queue"]
    assert composed()["ingest"]["networks"] == ["queue", "front"]
    assert composed()["nginx"]["networks"] == ["front", "default"]
    assert parsed()["networks"]["queue"] == parsed()["networks"]["front"] == {"internal": True}


def test_what_serves_can_be_scaled_and_restarts() -> None:
    """A container's name or a published port would allow only one. The number is kept in `.env`."""
    named = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for name in ("ingest", "consumer"):
        assert (named[name]["scale"], composed()[name]["scale"]) == (f"${{{name.upper()}S:-1}}", 1)
        assert not {"container_name", "ports"} & composed()[name].keys()
    restarted = {name for name, service in composed().items() if service.get("restart") == "unless-stopped"}
    assert restarted == {"redis", "ingest", "consumer", "nginx"}


def test_what_serves_waits_for_the_model_and_for_redis() -> None:
    """And what is waited for as healthy has a health check."""
    for name in ("ingest", "consumer"):
        conditions = {other: wait["condition"] for other, wait in composed()[name]["depends_on"].items()}
        assert conditions == {"redis": "service_healthy", "export": "service_completed_successfully"}
    assert composed()["redis"]["healthcheck"]["test"][0] == "CMD"


def test_export_makes_what_make_run_makes() -> None:
    """ResNet50, or the network whose weights need no download; into the folder where consumers look."""
    given = arguments.parse(composed()["export"]["command"])
    assert given.job is not None
    assert given.job.model_name == MODEL
    assert given.if_missing
    assert given.fallback is not None
    assert (given.job.model_name, given.fallback.name) == (models.DEFAULT, models.FALLBACK)
    (volume,) = composed()["export"]["volumes"]
    assert volume == f"models:{given.job.output}"
    assert str(given.job.output) == variables("consumer")["SLUICE_MODELS_DIR"]


def test_redis_keeps_what_it_is_given(tmp_path: Path) -> None:
    """Started with the command of the file: it flushes to disk, evicts nothing, and holds a full queue."""
    program, *options = composed()["redis"]["command"]
    assert program == "redis-server"
    users = made_users(tmp_path)
    options = [word.replace("/users", str(users), 1) for word in options]
    password = (users / "admin" / "password").read_text()
    port = free_port()
    own = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    server = Process(
        [str(binary(os.environ.get("SLUICE_TEST_SERVER", "valkey"))), *options, *own],
        dict(os.environ),
        tmp_path / "log",
    )
    try:
        with redis.Redis(
            port=port,
            username="admin",
            password=password,
            decode_responses=True,
            socket_timeout=1,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            wait_until(lambda: server.status is not None or _pings(client), "the server answers")
            found = {name: client.config_get(name)[name] for name in ("appendonly", "save", "maxmemory-policy")}
            assert found == {"appendonly": "yes", "save": "", "maxmemory-policy": "noeviction"}
            ingest, consumer = IngestSettings(), ConsumerSettings()
            # Both classes of both versions of a release.
            queues = len(PRIORITIES) * 2 * ingest.max_backlog
            full = (queues + consumer.max_dead_letters) * 224 * 224 * 3
            assert int(client.config_get("maxmemory")["maxmemory"]) > 1.1 * full
    finally:
        server.kill()


def _pings(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def test_the_services_serve_a_prediction(containers: Containers) -> None:
    """Export finds its model, two consumers join, ingest is healthy by the image's own check and answers."""
    export = containers.start("export")
    assert export.wait() == 0
    assert "is there already" in export.text
    consumers = [containers.start("consumer", metrics_port=0) for _ in range(2)]
    wait_until(lambda: all(one.says("ready consumer=") for one in consumers), "both consumers are ready")
    port = free_port()
    containers.start("ingest", port=port)
    check = json.loads(stages()["ingest"].last("HEALTHCHECK").partition("CMD ")[2])
    healthy = subprocess.run(
        [*containers.here(check), "--wait", "20"], env=containers.environment("ingest", port=port), check=False
    )
    assert healthy.returncode == 0
    answer = httpx.post(f"http://127.0.0.1:{port}/predict", files={"image": encoded(scene(), "PNG")}).json()
    assert (answer["model"], len(answer["predictions"])) == (MODEL, 5)
    assert [one.stop() for one in consumers] == [0, 0]


def test_the_dockerfile_s_targets_are_there_and_start_a_module() -> None:
    """Each service of ours is built from a target whose entry point exists, and none runs as root."""
    for service in OURS:
        stage = stages()[composed()[service]["build"]["target"]]
        python, option, module = json.loads(stage.last("ENTRYPOINT"))
        assert (python, option) == ("python", "-m")
        assert find_spec(f"{module}.__main__"), module
        assert stage.last("USER") == "sluice"
        assert stage.instructions.index(("USER", "sluice")) > max(
            index for index, (word, _) in enumerate(stage.instructions) if word in {"RUN", "COPY"}
        )


@pytest.mark.parametrize(
    ("target", "build_args", "wanted"),
    [
        ("export", {}, ["export", "heif"]),
        ("ingest", {}, ["ingest", "grpc", "heif", "webhooks", "traces"]),
        ("consumer", {}, ["consumers", "traces"]),
        ("consumer", {"EXTRAS": "consumers gpu"}, ["consumers", "gpu", "traces"]),
    ],
)
def test_an_image_installs_its_extras_and_no_other(
    target: str, build_args: dict[str, str], wanted: list[str], tmp_path: Path
) -> None:
    """The build's own lines are run, with a pip that only says what it is asked for."""
    script = _without_mounts(stages()[target].all("RUN")[0])
    defaults = dict(arg.split("=") for arg in stages()[target].all("ARG"))
    pip = subprocess.run(
        ["sh", "-euc", f'pip() {{ echo "$@"; }}\n{script}'],
        env={**os.environ, **defaults, **build_args}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert re.findall(r"--requirement /requirements/(\w+)\.txt", pip.stdout) == wanted
    files = _requirements(tmp_path)
    installed = [package for extra in wanted for package in files[extra]]
    assert any("tensorflow" in package for package in installed) == (target == "export")
    libraries = ("nvidia-cublas", "nvidia-cuda-runtime", "nvidia-cudnn-cu13", "nvidia-curand")
    for library in libraries:
        assert any(package.startswith(library) for package in installed) == ("gpu" in wanted)


def _without_mounts(script: str) -> str:
    return re.sub(r"--mount=\S+(\s*\\\n)?\s*", "", script)


def _requirements(folder: Path) -> dict[str, list[str]]:
    """What the stage `requirements` writes, which is what pyproject.toml says."""
    (folder / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (script,) = stages()["requirements"].all("RUN")
    python = f'python() {{ "{sys.executable}" "$@"; }}\n'
    subprocess.run(["sh", "-euc", python + script], cwd=folder, check=True)
    written = {path.stem: path.read_text().splitlines() for path in folder.glob("*.txt")}
    assert written == extras()
    return written


def test_the_build_sees_what_it_copies() -> None:
    """Each source of a COPY exists and is not left out by .dockerignore, and all our packages are among them."""
    ignored, *kept = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert ignored == "*"
    allowed = [line.removeprefix("!") for line in kept if line.startswith("!")]
    copied = {source for copy in stages()["wheel"].all("COPY") for source in copy.split()[:-1]}
    assert all((ROOT / source).exists() and any(fnmatch(source, one) for one in allowed) for source in copied)
    assert copied >= {path.parent.name for path in ROOT.glob("*/__main__.py") if path.parent.name != "tests"}
