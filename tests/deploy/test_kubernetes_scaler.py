"""The autoscaler of consumers on Kubernetes: it uses documented fields, and counts the work outstanding."""

import functools
import re
from math import ceil

import kubernetes_validate
import yaml

from consumers.worker import BUFFERS
from stream.keys import PRIORITIES, Partition
from tests.deploy.cluster import VERSION, consumer_settings, ingest_settings
from tests.support.documents import text
from tests.support.manifests import Manifest

#: What KEDA's documentation (2.17, "ScaledObject specification", "Redis" and "Redis Streams") names.
_SCALED_OBJECT = {"scaleTargetRef", "pollingInterval", "cooldownPeriod", "initialCooldownPeriod", "idleReplicaCount",
                  "minReplicaCount", "maxReplicaCount", "fallback", "advanced", "triggers"}  # fmt: skip
_ADVANCED = {"restoreToOriginalReplicaCount", "horizontalPodAutoscalerConfig", "scalingModifiers"}
_MODIFIERS = {"formula", "target", "activationTarget", "metricType"}
_TRIGGER = {"type", "name", "useCachedMetrics", "metadata", "authenticationRef", "metricType"}
_METADATA = {
    "redis-streams": {"address", "username", "stream", "streamLength"},
    "redis": {"address", "username", "listName", "listLength"},
}


def test_the_scaler_counts_the_work_outstanding(manifests: dict[tuple[str, str], Manifest]) -> None:
    """By documented fields alone, on the keys of the model that is served, up to as many as the queue can feed."""
    spec = manifests["ScaledObject", "consumer"]["spec"]
    assert spec.keys() <= _SCALED_OBJECT
    assert spec["advanced"].keys() <= _ADVANCED
    modifiers = spec["advanced"]["scalingModifiers"]
    assert modifiers.keys() == _MODIFIERS
    served = consumer_settings(manifests)
    triggers = _triggers(spec, served.model, partitions=1)
    assert spec["scaleTargetRef"] == {"kind": "Deployment", "name": "consumer"}
    assert "replicas" not in manifests["Deployment", "consumer"]["spec"]
    target = int(modifiers["target"])
    assert target == int(triggers["outstanding"]["metadata"]["streamLength"]) == BUFFERS * served.max_batch
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (
        0,
        ceil(len(PRIORITIES) * ingest_settings(manifests).max_backlog / target),
    )
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "made-by-keda"},
    }
    behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    made = {**autoscaler, "spec": {"maxReplicas": 1, "scaleTargetRef": spec["scaleTargetRef"], "behavior": behaviour}}
    kubernetes_validate.validate(made, VERSION, strict=True)


def _triggers(spec: Manifest, model: str, *, partitions: int) -> dict[str, Manifest]:
    """By name: each reads a key of this model, and the formula adds up all classes of all of its partitions."""
    triggers = {one["name"]: one for one in spec["triggers"]}
    assert len(triggers) == len(spec["triggers"]) == len(PRIORITIES) * partitions + 1
    for one in triggers.values():
        assert one.keys() <= _TRIGGER
        assert one["metadata"].keys() == _METADATA[one["type"]]
        assert one["authenticationRef"] == {"name": "scaler"}
        assert one["metadata"]["address"] == "redis.sluice.svc.cluster.local:6379"
    assert triggers["announced"]["metadata"]["listName"] == Partition(model).versions
    formula = re.fullmatch(r"announced < 1 \? 1 : (\w+(?: \+ \w+)*)", spec["advanced"]["scalingModifiers"]["formula"])
    assert formula
    summed = formula[1].split(" + ")
    assert sorted(["announced", *summed]) == sorted(triggers)
    streams = [triggers[name]["metadata"] for name in summed]
    parts = [Partition(model, number) for number in range(partitions)]
    assert [one["stream"] for one in streams] == [part.stream(one).key for part in parts for one in PRIORITIES]
    assert {one["streamLength"] for one in streams} == {spec["advanced"]["scalingModifiers"]["target"]}
    return triggers


def test_more_partitions_are_counted_as_the_documents_say(manifests: dict[tuple[str, str], Manifest]) -> None:
    """The patch for three, applied as kustomize does: two more triggers for each, and all of them in the formula."""
    (patched,) = re.findall(r"^```yaml\n(- target: .+?)^```$", text("docs/scaling.md"), re.MULTILINE | re.DOTALL)
    (patch,) = yaml.safe_load(patched)
    spec = manifests[patch["target"]["kind"], patch["target"]["name"]]["spec"]
    for change in yaml.safe_load(patch["patch"]):
        *path, last = change["path"].removeprefix("/spec/").split("/")
        target = functools.reduce(lambda found, name: found[name], path, spec)
        if change["op"] == "add":
            assert last == "-"
            target.append(change["value"])
        else:
            assert change["op"] == "replace"
            assert last in target
            target[last] = change["value"]
    _triggers(spec, consumer_settings(manifests).model, partitions=3)
