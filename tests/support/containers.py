"""compose.yaml and the Dockerfile, read as their engines read them, as far as these files need it. Starts nothing."""

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent

Mapping = dict[str, Any]


def parsed(*names: str) -> Mapping:
    """One or several compose files as one, the later over the earlier, mappings merged key by key.

    Each `${NAME:-default}` is its default, as in an empty environment.
    """
    whole: Mapping = {}
    for name in names or ("compose.yaml",):
        whole = _merged(whole, _interpolated(yaml.safe_load((ROOT / name).read_text())))
    return {name: part for name, part in whole.items() if not name.startswith("x-")}


def composed(*names: str) -> Mapping:
    """The services of these compose files that start without a profile."""
    services: Mapping = parsed(*names)["services"]
    return {name: service for name, service in services.items() if "profiles" not in service}


def _interpolated(node: Any) -> Any:
    match node:
        case str():
            inner = re.sub(r"\$\{\w+:-([^${}]*)\}", r"\1", node)
            return inner if inner == node else _interpolated(inner)  # A default may be another variable.
        case list():
            return [_interpolated(one) for one in node]
        case dict():
            whole = {name: _interpolated(one) for name, one in node.items()}
            return {**whole, "scale": int(whole["scale"])} if "scale" in whole else whole  # Compose makes it a number.
        case _:
            return node


def _merged(base: Mapping, over: Mapping) -> Mapping:
    both = {name: _merged(base[name], over[name]) for name in base.keys() & over.keys() if isinstance(over[name], dict)}
    return {**base, **over, **both}


def seconds(duration: str) -> int:
    """A compose duration of whole seconds."""
    assert duration.endswith("s"), duration
    return int(duration.removesuffix("s"))


@dataclass(slots=True)
class Stage:
    """One stage of the Dockerfile: what it is made from, and its instructions as (word, rest) in order."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [rest for found, rest in self.instructions if found == word]

    def last(self, word: str) -> str:
        return self.all(word)[-1]


def stages() -> dict[str, Stage]:
    """The stages of the Dockerfile by name."""
    found: dict[str, Stage] = {}
    stage = Stage("")
    for word, rest in _instructions((ROOT / "Dockerfile").read_text()):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stage = found[name] = Stage(base)
        else:
            stage.instructions.append((word, rest))
    return found


def _instructions(text: str) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    # A here-document belongs to the line that opens it; a backslash at the end of a line continues it.
    whole = re.finditer(r"^([A-Z]+) (.*<<'(\w+)'\n(?:.*\n)*?\3|(?:.*\\\n)*.*)$", text, re.MULTILINE)
    return [(match[1], match[2].strip()) for match in whole]


def variables(target: str) -> dict[str, str]:
    """The environment that a target's image has: its own and that of the stages below."""
    stage = stages()[target]
    below = variables(stage.base) if stage.base in stages() else {}
    return below | dict(re.findall(r"(\w+)=(\S+)", " ".join(stage.all("ENV"))))


def extras() -> dict[str, list[str]]:
    """The packages of each extra of pyproject.toml, those of every process first."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return {name: extras["base"] + packages for name, packages in extras.items()}
