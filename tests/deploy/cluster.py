"""Reads the manifests for Kubernetes: containers, their environments, and the settings that these give."""

from stream.settings import ConsumerSettings, IngestSettings, QueueSettings
from tests.support.containers import variables
from tests.support.manifests import Manifest, pod_of

OVERLAYS = ("cpu", "gpu")
OURS = ("export", "ingest", "consumer")

#: Of the Kubernetes whose schemas are asked; what is used is older by far.
VERSION = "1.30"


def container(manifests: dict[tuple[str, str], Manifest], name: str) -> Manifest:
    """The one container of the pods of that name."""
    (found,) = [pod for (_, one), manifest in manifests.items() if one == name and (pod := pod_of(manifest))]
    (only,) = found["containers"]
    return {**found, **only}


def environment(manifests: dict[tuple[str, str], Manifest], name: str) -> dict[str, str]:
    """The variables of a container: what it shares, what is its own, and what its image has."""
    found = container(manifests, name)
    shared: dict[str, str] = {}
    for source in found.get("envFrom", ()):
        shared |= manifests["ConfigMap", source["configMapRef"]["name"]]["data"]
    own = {one["name"]: one["value"] for one in found.get("env", ()) if "value" in one}
    assert all(isinstance(value, str) for value in own.values())
    return variables(name) | shared | own


def ingest_settings(manifests: dict[tuple[str, str], Manifest]) -> IngestSettings:
    """The settings of ingest from its variables, except for the files that only a cluster has."""
    return IngestSettings.model_validate(_given(manifests, "ingest", IngestSettings))


def consumer_settings(manifests: dict[tuple[str, str], Manifest]) -> ConsumerSettings:
    """The same for a consumer."""
    return ConsumerSettings.model_validate(_given(manifests, "consumer", ConsumerSettings))


def _given(manifests: dict[tuple[str, str], Manifest], name: str, kind: type[QueueSettings]) -> dict[str, str]:
    given = {
        variable.removeprefix("SLUICE_").lower(): value
        for variable, value in environment(manifests, name).items()
        if variable.startswith("SLUICE_") and not variable.endswith("_FILE")
    }
    return {setting: value for setting, value in given.items() if setting in kind.model_fields}
