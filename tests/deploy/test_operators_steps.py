"""The steps of an operator that the documents print for containers and clusters, as far as they need neither."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from sluice.command import _COMMANDS
from stream.keys import PRIORITIES, Partition
from tests.deploy.cluster import OURS, OVERLAYS, VERSION, container
from tests.deploy.test_kubernetes import assert_confined
from tests.support.containers import ROOT, composed, parsed
from tests.support.documents import shown_commands, text
from tests.support.manifests import K8S, Manifest, built, documents, kustomization

needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")


def commands(document: str) -> list[str]:
    """Each shell command of a document, on one line."""
    return [" ".join(one.command.replace("\\\n", " ").split()) for one in shown_commands(ROOT / document)]


def test_every_variable_of_compose_is_listed() -> None:
    """Those that its files take from the shell or from `.env`; the ports that nginx looks for are not among them."""
    named = {name for path in ROOT.glob("compose*.yaml") for name in re.findall(r"\$\{(\w+)", path.read_text())}
    table = text("docs/settings.md").partition("In compose, these variables")[2].partition("Write any other")[0]
    assert {"BIND", "SLUICE_PUBLIC_ADDRESS", "REDIS_MAXMEMORY"} <= named
    assert named - set(re.findall(r"`([A-Z_]+)`", table)) == set()
    ports = [re.findall(r":(\d+)", (ROOT / f"deploy/nginx/{name}.conf").read_text())[-1]
             for name in ("ingests", "grpc_ingests")]  # fmt: skip
    given = composed()["ingest"]["environment"]
    assert [given["SLUICE_PORT"], given["SLUICE_GRPC_PORT"]] == ports


def test_an_operator_has_all_commands_and_all_rights() -> None:
    """The service of compose.yaml, and the containers of ingest on Kubernetes."""
    operator = parsed()["services"]["operator"]
    assert operator["entrypoint"] == ["sluice"]
    assert operator["volumes"] == ["admin-password:/users:ro"]
    given = operator["environment"]
    assert (given["SLUICE_REDIS_URL"], given["SLUICE_REDIS_PASSWORD_FILE"]) == (
        "redis://admin@redis:6379/0", "/users/password",
    )  # fmt: skip
    assert (operator["cap_drop"], operator["read_only"], operator["networks"]) == (["ALL"], True, ["queue"])
    words = " ".join(commands("docs/deploy.md"))
    for starts in (r"run --rm operator", r"deployment/ingest -- (?:sh -c ')?sluice"):
        shown = set(re.findall(rf"{starts} (\w+)", words))
        assert {"status", "results", "release"} <= shown <= _COMMANDS.keys()


def test_a_redis_of_ones_own_keeps_what_that_of_compose_keeps() -> None:
    """The lines for redis.conf; how much memory it may take is the owner's business."""
    _, *words = composed()["redis"]["command"]
    options = dict(zip((word.removeprefix("--") for word in words[::2]), words[1::2], strict=True))
    (block,) = re.findall(r"^```\n(aclfile .+?)^```", text("docs/security.md"), re.MULTILINE | re.DOTALL)
    lines = dict(shlex.split(line) for line in block.splitlines())
    assert lines.keys() == options.keys() - {"maxmemory"}
    assert {name: value for name, value in lines.items() if name != "aclfile"}.items() <= options.items()


def test_an_overlay_names_all_images_once() -> None:
    """A name that the base had replaced already would be found neither there nor by a component."""
    for name in OVERLAYS:
        images = [one["name"] for one in kustomization(K8S / "overlays" / name)["images"]]
        assert sorted(images) == sorted(f"sluice-{one}" for one in OURS)
    for folder in (K8S / "base", *(K8S / "components").iterdir()):
        assert "images" not in kustomization(folder)


def test_a_model_can_be_copied_where_consumers_look(manifests: dict[tuple[str, str], Manifest]) -> None:
    """By a pod that mounts their volume, which is there without the export."""
    (pod,) = documents(K8S / "models-pod.yaml")
    kubernetes_validate.validate(pod, VERSION, strict=True)
    wrapped = {"kind": "Pod", "metadata": pod["metadata"], "spec": {"template": {"spec": pod["spec"]}}}
    assert_confined({("Pod", "models"): wrapped}, "models")
    assert pod["metadata"]["namespace"] == manifests["Namespace", "sluice"]["metadata"]["name"]
    (mount,) = pod["spec"]["containers"][0]["volumeMounts"]
    consumer = container(manifests, "consumer")
    assert mount["mountPath"] == next(one["mountPath"] for one in consumer["volumeMounts"] if one["name"] == "models")
    claims = [one["persistentVolumeClaim"]["claimName"] for found in (pod["spec"], consumer)
              for one in found["volumes"] if "persistentVolumeClaim" in one]  # fmt: skip
    assert claims == ["models", "models"]
    assert [one["kind"] for one in documents(K8S / "base/export.yaml")] == ["Job"]
    assert f"kubectl apply --filename {(K8S / 'models-pod.yaml').relative_to(ROOT)}" in commands("docs/deploy.md")
    (copy,) = [one for one in commands("docs/deploy.md") if " --entrypoint cp export " in one]
    assert copy.split()[-1] == composed()["export"]["volumes"][0].partition(":")[2]


def test_the_streams_of_a_release_are_those_that_the_scaler_misses() -> None:
    """Both classes of both versions; no trigger counts one of them."""
    streams = [Partition("resnet50").stream(one, version).key for version in ("1", "2") for one in PRIORITIES]
    triggers = built(K8S / "base")["ScaledObject", "consumer"]["spec"]["triggers"]
    assert not set(streams) & {one["metadata"].get("stream") for one in triggers}
    section = text("docs/scaling.md").partition("### Release a version")[2].partition("###")[0]
    assert set(re.findall(r"`(entries:[\w:]+)`", section)) == {one.partition(":{resnet50/0}:")[2] for one in streams}


@needs_jq
def test_consumers_of_a_candidate_are_a_deployment_of_their_own(
    manifests: dict[tuple[str, str], Manifest], tmp_path: Path
) -> None:
    """The printed filter, on the Deployment as a cluster returns it; neither selector finds the other's pods."""
    (line,) = [one for one in commands("docs/scaling.md") if "get deployment consumer" in one]
    cluster = tmp_path / "kubectl"
    cluster.write_text('#!/bin/sh\ncase "$*" in *get*) cat deployment.json ;; *) cat ;; esac\n')
    cluster.chmod(0o755)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    before = manifests["Deployment", "consumer"]
    (tmp_path / "deployment.json").write_text(json.dumps({**before, "status": {"replicas": 3}}))
    made = subprocess.run(["bash", "-euo", "pipefail", "-c", f'PATH="{tmp_path}:$PATH"; {line}'], cwd=tmp_path,
                          capture_output=True, text=True, check=True)  # fmt: skip
    after = json.loads(made.stdout)
    kubernetes_validate.validate(after, VERSION, strict=True)
    assert "status" not in after
    for one, other in ((before, after), (after, before)):
        selected = one["spec"]["selector"]["matchLabels"].items()
        assert selected <= one["spec"]["template"]["metadata"]["labels"].items()
        assert not selected <= other["spec"]["template"]["metadata"]["labels"].items()
    policies = [one["spec"]["podSelector"] for (kind, _), one in manifests.items() if kind == "NetworkPolicy"]
    assert {"matchLabels": {"app.kubernetes.io/name": "consumer"}} in policies
    variables = {one["name"]: one["value"] for one in after["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert variables["SLUICE_VERSION"] == "2"


@needs_jq
def test_the_journal_s_own_lines_do_not_end_the_search_for_those_who_wait(tmp_path: Path) -> None:
    """systemd writes lines that are not JSON."""
    (line,) = [one for one in commands("docs/runbook.md") if one.startswith("journalctl ")]
    answered = '{"seconds": 2.5, "status": 200, "request": "alice.1f"}'
    (tmp_path / "log").write_text(f'Started Sluice.\n{answered}\n{{"seconds": 0.1}}\n"text"\nStopped.\n')
    search = f"cat log | {line.partition('|')[2]}"
    found = subprocess.run(["bash", "-c", search], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.stdout == "2.5 200 alice.1f\n"


def test_an_ingress_waits_for_as_long_as_ingest_does(manifests: dict[tuple[str, str], Manifest]) -> None:
    """The printed annotations, for the settings of the base."""
    (block,) = re.findall(r"^```yaml\n(nginx\.ingress.+?)^```", text("docs/deploy.md"), re.MULTILINE | re.DOTALL)
    annotations = {name.rpartition("/")[2]: value for name, value in yaml.safe_load(block).items()}
    assert all(isinstance(value, str) for value in annotations.values()), "Kubernetes refuses numbers"
    waits_s = int(manifests["ConfigMap", "sluice-settings"]["data"]["SLUICE_REQUEST_TIMEOUT_S"])
    assert int(annotations["proxy-read-timeout"]) > waits_s
    assert annotations["proxy-body-size"] == "20m"
