"""The component that delivers webhooks on Kubernetes: valid, true to the code, and confined."""

from ipaddress import ip_address, ip_network

import kubernetes_validate
import yaml

from ingest.outbound import addresses
from stream.settings import IngestSettings, WebhookSettings
from tests.deploy.cluster import OVERLAYS, VERSION, container, ingest_settings
from tests.deploy.test_kubernetes import assert_confined
from tests.support.containers import ROOT, composed, stages
from tests.support.manifests import K8S, Manifest, built

Manifests = dict[tuple[str, str], Manifest]
COMPONENT = K8S / "components/webhooks"


def with_webhooks(overlay: str = "cpu") -> Manifests:
    return built(K8S / "overlays" / overlay, components=(COMPONENT,))


def sender_variables(manifests: Manifests) -> dict[str, str]:
    """The sender's own and shared variables; the secret has some value."""
    own = {one["name"]: one.get("value", f"whsec_{'A' * 32}") for one in container(manifests, "webhooks")["env"]}
    shared: dict[str, str] = manifests["ConfigMap", "sluice-settings"]["data"]
    return shared | own


def test_the_manifests_are_valid_with_each_overlay() -> None:
    """By Kubernetes's own schemas; the component adds to an overlay, and replaces nothing but ingest's variables."""
    for overlay in OVERLAYS:
        before, after = built(K8S / "overlays" / overlay), with_webhooks(overlay)
        assert {kind for kind, _ in after.keys() - before.keys()} == {
            "Deployment", "PodDisruptionBudget", "NetworkPolicy",
        }  # fmt: skip
        assert [name for name, one in before.items() if after[name] != one] == [("Deployment", "ingest")]
        for kind_and_name in after.keys() - before.keys():
            kubernetes_validate.validate(after[kind_and_name], VERSION, strict=True)


def test_a_sender_starts_with_its_settings_and_ingest_accepts_webhooks() -> None:
    """Each variable is a setting; the command, the Redis user and the image are those of compose."""
    manifests = with_webhooks()
    given = {name.removeprefix("SLUICE_").lower(): value for name, value in sender_variables(manifests).items()}
    known = given.keys() & WebhookSettings.model_fields.keys()
    assert given.keys() - known <= IngestSettings.model_fields.keys()
    settings = WebhookSettings.model_validate({name: given[name] for name in known - {"redis_password_file"}})
    assert settings.webhooks
    assert ingest_settings(manifests).webhooks
    found = container(manifests, "webhooks")
    assert found["command"] == ["python", "-m", "ingest.webhooks"]
    assert found["image"] == container(manifests, "ingest")["image"]
    assert "ingest" in stages()
    (port,) = manifests["Service", "redis"]["spec"]["ports"]
    assert settings.redis_url == f"redis://webhooks@redis:{port['port']}/0"
    assert found["terminationGracePeriodSeconds"] >= settings.webhook_timeout_s + 5


def test_a_sender_is_confined_and_sees_its_own_password_alone() -> None:
    """Without a root, a token or another's secret; the secrets are made by documented commands."""
    manifests = with_webhooks()
    assert_confined(manifests, "webhooks")
    (mounted,) = [one["secret"] for one in container(manifests, "webhooks")["volumes"] if "secret" in one]
    assert (mounted["secretName"], mounted["items"]) == ("sluice-redis", [{"key": "webhooks", "path": "password"}])
    (secret,) = [one["valueFrom"]["secretKeyRef"] for one in container(manifests, "webhooks")["env"]
                 if "valueFrom" in one]  # fmt: skip
    assert secret == {"name": "sluice-webhooks", "key": "secret"}
    documented = (ROOT / "docs/scaling.md").read_text()
    assert "create secret generic sluice-webhooks --from-literal=secret=" in documented
    assert "components: [../../components/webhooks]" in documented
    assert "webhooks" not in composed()


def test_a_sender_reaches_redis_and_public_addresses_alone() -> None:
    """The addresses that the sender refuses are closed to its pods, too; Redis lets it in."""
    manifests = with_webhooks()
    to_redis, outside = manifests["NetworkPolicy", "webhooks"]["spec"]["egress"]
    assert to_redis["to"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "redis"}}}]
    (rule,) = manifests["NetworkPolicy", "webhooks-to-redis"]["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "webhooks"}}}]
    assert to_redis["ports"] == rule["ports"] == [{"protocol": "TCP", "port": "redis"}]
    assert outside["ports"] == [{"protocol": "TCP", "port": 443}]
    blocks = [one["ipBlock"] for one in outside["to"]]

    def reached(address: str) -> bool:
        found = ip_address(address)
        return any(
            found in ip_network(one["cidr"]) and not any(found in ip_network(no) for no in one.get("except", ()))
            for one in blocks
        )

    public = ("93.184.215.14", "2606:2800:21f:cb07::1")
    refused = ("10.0.0.1", "169.254.169.254", "168.63.129.16", "192.168.1.1", "fd00::1", "::ffff:10.0.0.1", "fe80::1")
    assert [reached(one) for one in public + refused] == [True] * len(public) + [False] * len(refused)
    assert [str(one) for one in addresses._SPECIAL_V4] == blocks[0]["except"]


def test_the_component_says_how_it_is_used() -> None:
    """As kustomize's components are."""
    said = yaml.safe_load((COMPONENT / "kustomization.yaml").read_text())
    assert (said["kind"], said["apiVersion"]) == ("Component", "kustomize.config.k8s.io/v1alpha1")
    head = (COMPONENT / "kustomization.yaml").read_text()
    assert "components: [../../components/webhooks]" in head
