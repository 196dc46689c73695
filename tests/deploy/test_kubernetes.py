"""The manifests for Kubernetes, as far as they can be proved without a cluster: valid, and true to the code."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
from starlette.routing import Route

from consumers.health import Health, health_app
from export import arguments
from ingest.app import create_app
from stream import acl
from stream.settings import IngestSettings
from stream.settings.variables import all_fields
from tests.deploy.cluster import OURS, OVERLAYS, VERSION, consumer_settings, container, environment, ingest_settings
from tests.support.containers import ROOT, composed, parsed, stages
from tests.support.manifests import K8S, Manifest, built, documents, kustomization, pod_of


def test_the_manifests_are_valid(manifests: dict[tuple[str, str], Manifest]) -> None:
    """By Kubernetes's own schemas, strictly: a misspelt field would be dropped without a word."""
    for (kind, _), manifest in manifests.items():
        if not manifest["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(manifest, VERSION, strict=True)
        assert kind == "Namespace" or manifest["metadata"].get("namespace", "sluice") == "sluice"


def test_every_file_is_used_and_every_patch_has_its_target() -> None:
    """A file that no kustomization names would be a manifest that nobody applies."""
    for folder in (K8S / "base", K8S / "components/webhooks", *(K8S / "overlays" / name for name in OVERLAYS)):
        said = kustomization(folder)
        named = {name for name in said["resources"] if (folder / name).is_file()}
        named |= {patch["path"] for patch in said.get("patches", ())}
        named |= {env for one in said.get("configMapGenerator", ()) for env in one["envs"]}
        assert {path.name for path in folder.iterdir()} == named | {"kustomization.yaml"}
        base = built(K8S / "base")
        for patch in said.get("patches", ()):
            for one in documents(folder / patch["path"]):
                assert (one["kind"], one["metadata"]["name"]) in base
                assert {each["name"] for each in pod_of(one)["containers"]} == {one["metadata"]["name"]}  # type: ignore[index]


def test_every_variable_is_a_setting_and_they_fit_each_other(manifests: dict[tuple[str, str], Manifest]) -> None:
    """In the shared ones, in the containers' own and in the comments; a process would start with them."""
    for path in K8S.rglob("*.*"):
        named = {one.removeprefix("SLUICE_").lower() for one in re.findall(r"\bSLUICE_[A-Z0-9_]+", path.read_text())}
        assert named <= all_fields().keys(), path
    ingest, consumer = ingest_settings(manifests), consumer_settings(manifests)
    assert ingest.model == consumer.model
    assert ingest.accept_without_consumers, "from zero consumers nothing would ever be queued"
    assert consumer_settings(built(K8S / "overlays/gpu")).provider == "cuda"
    assert consumer_settings(built(K8S / "overlays/cpu")).provider == "cpu"


def test_a_stopped_process_has_the_time_it_takes(manifests: dict[tuple[str, str], Manifest]) -> None:
    """The wait before SIGTERM counts into the grace of the pod."""
    for name, its in (("ingest", ingest_settings(manifests)), ("consumer", consumer_settings(manifests))):
        found = container(manifests, name)
        wait = found.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
        assert wait[0] == "sleep"
        least_s = int(wait[1]) + its.shutdown_grace_s + 5
        assert found["terminationGracePeriodSeconds"] >= least_s, name


def test_probes_ask_where_somebody_listens(manifests: dict[tuple[str, str], Manifest]) -> None:
    """The ports are those of the settings, the paths those of the code; live is asked for apart from ready."""
    ingest, consumer = ingest_settings(manifests), consumer_settings(manifests)
    ports = {
        "ingest": {"http": ingest.port, "grpc": ingest.grpc_port},
        "consumer": {"metrics": consumer.metrics_port},
    }
    routes = {route.path for route in create_app(IngestSettings()).routes if isinstance(route, Route)}
    for name, expected in ports.items():
        assert {ingest.host, consumer.host} == {"0.0.0.0"}
        found = container(manifests, name)
        opened = {one["name"]: one["containerPort"] for one in found["ports"]}
        assert opened == expected
        asked = {kind: found[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
        assert {probe["port"] for probe in asked.values()} == {next(iter(opened))}, "HTTP, not gRPC"
        assert asked["liveness"]["path"] == asked["startup"]["path"] == "/healthz"
        assert asked["readiness"]["path"] == "/readyz"
        assert all(
            probe["path"] in routes if name == "ingest" else _answered(probe["path"]) for probe in asked.values()
        )
        waited_s = found["livenessProbe"]["periodSeconds"] * found["livenessProbe"]["failureThreshold"]
        assert waited_s >= 3 * found["livenessProbe"]["timeoutSeconds"], "one slow answer ends nobody"


def _answered(path: str) -> bool:
    """Whether a consumer's health answers there itself, rather than its metrics."""
    others: list[Any] = []
    health_app(Health(1), lambda *_: others)({"PATH_INFO": path}, lambda *_: lambda _: None)
    return not others


def test_services_lead_to_the_pods(manifests: dict[tuple[str, str], Manifest]) -> None:
    """By the labels and the port's name; Redis has the name and port that the URLs have."""
    for (kind, name), manifest in manifests.items():
        if kind == "Service":
            pods = [one for one in manifests.values() if pod_of(one) and _matches(manifest["spec"]["selector"], one)]
            assert [one["metadata"]["name"] for one in pods] == [name]
            assert {port["targetPort"] for port in manifest["spec"]["ports"]} <= {
                port["name"] for port in container(manifests, name)["ports"]
            }
    (port,) = manifests["Service", "redis"]["spec"]["ports"]
    for user in ("ingest", "consumer"):
        assert environment(manifests, user)["SLUICE_REDIS_URL"] == f"redis://{user}@redis:{port['port']}/0"
    assert container(manifests, "redis")["ports"] == [{"name": "redis", "containerPort": 6379}]


def test_grpc_is_reached_from_outside_as_http_is(manifests: dict[tuple[str, str], Manifest]) -> None:
    """Through the Service, whose port says that it is HTTP/2 without TLS."""
    ports = {one["name"]: one for one in manifests["Service", "ingest"]["spec"]["ports"]}
    assert ports["grpc"]["port"] == ingest_settings(manifests).grpc_port
    assert ports["grpc"]["appProtocol"] == "kubernetes.io/h2c"


def _matches(labels: dict[str, str], workload: Manifest) -> bool:
    return bool(labels.items() <= workload["spec"]["template"]["metadata"]["labels"].items())


def test_disruptions_and_spread_mean_the_pods(manifests: dict[tuple[str, str], Manifest]) -> None:
    """What serves has a budget and is spread over nodes; each selector finds its own pods."""
    for name in ("ingest", "consumer"):
        workload = manifests["Deployment", name]
        assert _matches(manifests["PodDisruptionBudget", name]["spec"]["selector"]["matchLabels"], workload)
        assert _matches(workload["spec"]["selector"]["matchLabels"], workload)
        for spread in container(manifests, name)["topologySpreadConstraints"]:
            assert _matches(spread["labelSelector"]["matchLabels"], workload)


def test_pods_can_do_little(manifests: dict[tuple[str, str], Manifest]) -> None:
    """No root, no capability, nothing to write but volumes, no token of the cluster's; bounded memory."""
    for name in (*OURS, "redis"):
        assert_confined(manifests, name)
    labels = manifests["Namespace", "sluice"]["metadata"]["labels"]
    assert labels == {"pod-security.kubernetes.io/enforce": "restricted"}


def assert_confined(manifests: dict[tuple[str, str], Manifest], name: str) -> None:
    """The pods of that name can do as little as all others."""
    uid = int(re.findall(r"useradd .*--uid (\d+)", stages()["base"].all("RUN")[0])[0])
    found = container(manifests, name)
    pod, own = pod_security(manifests, name), found["securityContext"]
    assert pod["runAsNonRoot"]
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert name == "redis" or pod["runAsUser"] == uid
    assert own == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert found["automountServiceAccountToken"] is found["enableServiceLinks"] is False
    assert {"cpu", "memory"} <= found["resources"]["requests"].keys()
    assert "memory" in found["resources"]["limits"]


def pod_security(manifests: dict[tuple[str, str], Manifest], name: str) -> Manifest:
    (found,) = [pod for (_, one), manifest in manifests.items() if one == name and (pod := pod_of(manifest))]
    context: Manifest = found["securityContext"]
    return context


def test_only_ingest_consumers_and_the_scaler_reach_redis(manifests: dict[tuple[str, str], Manifest]) -> None:
    """All else is denied first; ports are named as the pods name them."""
    policies = {name: one["spec"] for (kind, name), one in manifests.items() if kind == "NetworkPolicy"}
    assert policies.pop("default-deny") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    (rule,) = policies["redis"]["ingress"]
    ours, scaler = rule["from"]
    assert ours["podSelector"]["matchExpressions"][0]["values"] == ["ingest", "consumer"]
    assert scaler["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "keda"}
    (expression,) = policies["to-redis"]["podSelector"]["matchExpressions"]
    assert expression["values"] == ["ingest", "consumer"]
    for name in ("redis", "ingest", "consumer"):
        assert policies[name]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": name}
        opened = [port["port"] for port in policies[name]["ingress"][0]["ports"]]
        assert opened == [port["name"] for port in container(manifests, name)["ports"]]
    inward = [name for name, one in policies.items() if "Ingress" in one["policyTypes"]]
    assert sorted(inward) == ["consumer", "ingest", "redis"]


def test_redis_runs_as_in_compose_within_its_memory(manifests: dict[tuple[str, str], Manifest]) -> None:
    """The same command but for where its users are; a rewrite of its file may take as much memory again."""
    args = container(manifests, "redis")["args"]
    expected = [word.replace("/users/redis/", "/users/") for word in parsed()["services"]["redis"]["command"]]
    assert args == expected
    limit = container(manifests, "redis")["resources"]["limits"]["memory"]
    assert int(limit.removesuffix("Mi")) >= 2 * int(args[args.index("--maxmemory") + 1].removesuffix("mb"))
    mounts = {one["mountPath"] for one in container(manifests, "redis")["volumeMounts"]}
    assert mounts == {"/data", str(Path(args[args.index("--aclfile") + 1]).parent)}


def test_secrets_are_named_and_not_here(manifests: dict[tuple[str, str], Manifest], tmp_path: Path) -> None:
    """Each pod sees its own password; each key is one that the documented commands make."""
    assert not [kind for kind, _ in manifests if kind == "Secret"]
    acl.main([str(tmp_path), "--scaler"])
    made = {path.parent.name for path in tmp_path.rglob("password")} | {"users.acl"}
    for name in ("redis", "ingest", "consumer"):
        mounted = [one["secret"] for one in container(manifests, name)["volumes"] if "secret" in one]
        keys = {item["key"] for one in mounted if one["secretName"] == "sluice-redis" for item in one["items"]}
        assert keys == ({"users.acl"} if name == "redis" else {name})
        assert keys <= made
    (secret,) = manifests["TriggerAuthentication", "scaler"]["spec"]["secretTargetRef"]
    assert secret == {"parameter": "password", "name": "sluice-redis", "key": "scaler"}
    documented = (ROOT / "docs" / "scaling.md").read_text()
    assert all(f"--from-file={key}=" in documented for key in made - {"admin"})
    for name in ("ingest", "consumer"):
        volumes = {one["name"]: one["mountPath"] for one in container(manifests, name)["volumeMounts"]}
        assert environment(manifests, name)["SLUICE_REDIS_PASSWORD_FILE"] == f"{volumes['password']}/password"
    assert environment(manifests, "ingest")["SLUICE_API_KEYS_FILE"] == f"{volumes.get('keys', '/keys')}/keys"


def test_images_are_the_dockerfile_s_targets_in_this_version(manifests: dict[tuple[str, str], Manifest]) -> None:
    """And start what the image starts: no command is replaced."""
    version = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]
    for name in OURS:
        target, _, tag = container(manifests, name)["image"].partition(":")
        assert target.removeprefix("sluice-") in stages()
        assert tag.removesuffix("-gpu") == version
        assert "command" not in container(manifests, name)
    asks = container(manifests, "consumer")["resources"]["limits"]
    assert ("nvidia.com/gpu" in asks) == container(manifests, "consumer")["image"].endswith("-gpu")


def test_export_makes_the_model_where_consumers_look(manifests: dict[tuple[str, str], Manifest]) -> None:
    """The model that they must serve; without a fallback, which would have another name."""
    model = manifests["ConfigMap", "sluice-settings"]["data"]["SLUICE_MODEL"]
    words = [word.replace("$(SLUICE_MODEL)", model) for word in container(manifests, "export")["args"]]
    given = arguments.parse(words)
    assert given.job
    assert (given.job.model_name, given.if_missing) == (model, True)
    assert str(given.job.output) == environment(manifests, "consumer")["SLUICE_MODELS_DIR"]
    for name in ("export", "consumer"):
        (mount,) = [one for one in container(manifests, name)["volumeMounts"] if one["name"] == "models"]
        assert mount["mountPath"] == str(given.job.output)
        assert mount.get("readOnly", False) == (name == "consumer")
    assert composed()["export"]["command"][:3] == [model, "--output", str(given.job.output)]
