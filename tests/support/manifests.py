"""deploy/k8s as `kubectl kustomize` builds it, as far as these files need it. Talks to no cluster.

What is understood: resources, components, configMapGenerator from files (without the hash in its name), images, and
strategic merge patches, in which a list of named things is merged by name and any other is replaced. A component
changes the resources before the patches and images of what names it.
"""

from pathlib import Path
from typing import Any

import yaml

from tests.support.containers import ROOT

K8S = ROOT / "deploy" / "k8s"

Manifest = dict[str, Any]


def kustomization(folder: Path) -> Manifest:
    found: Manifest = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return found


def built(
    folder: Path, *, components: tuple[Path, ...] = (), before: dict[tuple[str, str], Manifest] | None = None
) -> dict[tuple[str, str], Manifest]:
    """All manifests of a kustomization with these components, by kind and name; a component adds them to `before`."""
    said = kustomization(folder)
    found = dict(before or {})
    for name in said["resources"]:
        path = folder / name
        found |= built(path) if path.is_dir() else {_id(one): one for one in documents(path)}
    for component in components:
        found = built(component, before=found)
    for one in said.get("configMapGenerator", ()):
        found["ConfigMap", one["name"]] = _config_map(one["name"], [folder / name for name in one["envs"]])
    for patch in said.get("patches", ()):
        for one in documents(folder / patch["path"]):
            found[_id(one)] = _merged(found[_id(one)], one)
    tags = {one["name"]: one["newTag"] for one in said.get("images", ())}
    for pod in filter(None, map(pod_of, found.values())):
        for container in pod["containers"]:
            name = container["image"].partition(":")[0]
            container["image"] = f"{name}:{tags[name]}" if name in tags else container["image"]
    return found


def documents(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text()))


def pod_of(manifest: Manifest) -> Manifest | None:
    """The pod that a manifest has made, None where it makes none."""
    pod: Manifest | None = manifest.get("spec", {}).get("template", {}).get("spec")
    return pod


def _id(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def _config_map(name: str, files: list[Path]) -> Manifest:
    lines = [line for file in files for line in file.read_text().splitlines() if line and not line.startswith("#")]
    data = dict(line.split("=", 1) for line in lines)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def _merged(base: Any, over: Any) -> Any:
    match base, over:
        case dict(), dict():
            return base | {key: _merged(base.get(key), value) for key, value in over.items()}
        case [{"name": _}, *_], [{"name": _}, *_]:
            patches = {one["name"]: one for one in over}
            kept = [_merged(one, patches.pop(one["name"], {})) for one in base]
            return kept + list(patches.values())
        case _:
            return over
