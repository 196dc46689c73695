"""The compose files for a model of one's own and for API keys."""

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import httpx
import yaml
from compose_spec import PyCompose

from export import arguments
from stream.settings import WebhookSettings
from tests.deploy.running import Containers
from tests.support.containers import ROOT, composed, parsed, variables
from tests.support.redis.servers import free_port
from tests.support.waiting import wait_until


def with_values(name: str, **values: str) -> str:
    """The text of a compose file with these variables; a variable without a value keeps its default."""
    text = (ROOT / name).read_text()
    for variable, value in values.items():
        text = re.sub(rf"\$\{{{variable}[^}}]*\}}", value, text)
    return text


def test_a_model_of_ones_own_is_exported_where_consumers_look(tmp_path: Path) -> None:
    """compose.model.yaml: from the folder that is mounted, under the name that ingest and consumers ask for."""
    (tmp_path / "flowers.keras").touch()
    (tmp_path / "labels.txt").write_text("daisy\nrose\n")
    recipe = yaml.safe_load(with_values("compose.model.yaml", MODEL_DIR="./flowers", MODEL_FILE="flowers.keras",
                                        SLUICE_MODEL="flower", MODEL_VERSION="2",
                                        EXPORT_OPTIONS="--preprocess unit --like load_img"))  # fmt: skip
    assert "${" not in str(recipe)
    (export,) = recipe["services"].values()
    assert export["volumes"] == ["./flowers:/source:ro"]
    given = arguments.parse([word.replace("/source", str(tmp_path)) for word in shlex.split(export["command"])])
    assert given.job is not None
    assert (given.job.preprocess, given.job.resize.loader) == ("unit", "load_img")
    assert given.if_missing
    assert (given.job.model_name, str(given.job.output)) == ("flower", variables("consumer")["SLUICE_MODELS_DIR"])
    PyCompose.from_yaml(yaml.safe_dump(parsed() | {"services": {**parsed()["services"], "export": {
        **composed()["export"], **export}}})).validate()  # fmt: skip


def test_keys_are_asked_for_with_their_file(containers: Containers, tmp_path: Path) -> None:
    """compose.keys.yaml: ingest reads the keys that `python -m ingest.keys` made in the mounted folder."""
    ingest = composed("compose.yaml", "compose.keys.yaml")["ingest"]
    (volume,) = [one for one in ingest["volumes"] if "keys" in one]
    host, inside, mode = volume.split(":")
    assert (host, mode) == ("./keys", "ro")
    assert ingest["environment"]["SLUICE_API_KEYS_FILE"] == f"{inside}/keys"
    assert f"keys add alice --file {host.removeprefix('./')}/keys" in (ROOT / "compose.keys.yaml").read_text()
    (tmp_path / "keys").mkdir()
    command = [sys.executable, "-m", "ingest.keys", "add", "alice", "--file", str(tmp_path / "keys" / "keys")]
    key = subprocess.check_output(command, cwd=ROOT, text=True).split()[-1]
    port = free_port()
    containers.start("ingest", port=port, api_keys_file=tmp_path / "keys" / "keys")
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: _status(f"{url}/healthz") == 200, "ingest is alive")
    assert _status(f"{url}/") == 401
    assert _status(f"{url}/", key) == 200


def test_the_sender_of_webhooks_is_confined_like_the_others() -> None:
    """compose.webhooks.yaml: it has its own Redis user, nothing to write, and a way out; ingest accepts webhooks."""
    names = ("compose.yaml", "compose.webhooks.yaml")
    whole = yaml.safe_load(with_values("compose.webhooks.yaml", WEBHOOK_SECRET=f"whsec_{'A' * 32}"))
    PyCompose.from_yaml(
        yaml.safe_dump(parsed() | {"services": {**parsed()["services"], **whole["services"]}})
    ).validate()
    services = composed(*names)
    sender, consumer = services["webhooks"], services["consumer"]
    assert sender.keys() - {"entrypoint", "healthcheck"} == consumer.keys() - {"scale"}
    assert {name: sender[name] for name in ("init", "read_only", "cap_drop", "security_opt", "restart")} == {
        name: consumer[name] for name in ("init", "read_only", "cap_drop", "security_opt", "restart")
    }
    assert sender["entrypoint"] == ["python", "-m", "ingest.webhooks"]
    assert sender["volumes"] == ["webhooks-password:/users:ro"]
    assert sender["networks"] == ["queue", "default"]
    assert services["ingest"]["environment"]["SLUICE_WEBHOOKS"] == "true"
    assert services["ingest"]["networks"] == ["queue", "front"]
    given = {name.removeprefix("SLUICE_").lower(): value for name, value in sender["environment"].items()}
    assert given.keys() <= WebhookSettings.model_fields.keys()
    secret = whole["services"]["webhooks"]["environment"]["SLUICE_WEBHOOK_SECRET"]
    WebhookSettings(webhooks=True, webhook_secret=secret)


def test_ingest_gets_a_way_out_for_images_by_url() -> None:
    """compose.urls.yaml."""
    ingest = composed("compose.yaml", "compose.urls.yaml")["ingest"]
    assert ingest["networks"] == ["queue", "front", "default"]
    assert ingest["environment"]["SLUICE_FETCH_URLS"] == "true"
    PyCompose.from_yaml(yaml.safe_dump(parsed("compose.yaml", "compose.urls.yaml"))).validate()


def _status(url: str, key: str = "") -> int:
    try:
        return httpx.get(url, headers={"X-API-Key": key} if key else {}, timeout=30).status_code
    except httpx.TransportError:
        return 0


def test_the_guide_names_what_exists() -> None:
    """Files, services, profiles and modules in the commands of docs/deploy.md."""
    guide = (ROOT / "docs/deploy.md").read_text()
    commands = re.findall(r"^\$ (.+)$", guide, re.MULTILINE)
    assert len(commands) > 15
    files = {name for command in commands for name in re.findall(r"-f (\S+)", command)}
    assert all((ROOT / name).is_file() for name in files)
    assert files == {path.name for path in ROOT.glob("compose*.yaml")}
    services = {name for command in commands for name in re.findall(r"--scale (\w+)=", command)}
    assert services <= composed().keys()
    assert all(find_spec(module) for module in re.findall(r"python -m (\S+)", guide))
    profiles = {name for command in commands for name in re.findall(r"--profile (\w+)", command)}
    run = {name for command in commands for name in re.findall(r"run --rm (\w+)", command)}
    assert run <= parsed()["services"].keys()
    profiles |= {name for one in run for name in parsed()["services"][one].get("profiles", ())}
    assert profiles == {name for one in parsed()["services"].values() for name in one.get("profiles", ())}
