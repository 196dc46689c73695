"""The services of compose.yaml, started as processes of this host."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.containers import ROOT, composed, stages, variables
from tests.support.processes import Process
from tests.support.redis.servers import free_port

MODEL = "resnet50"


class Containers:
    """The services of compose.yaml as processes, with their images' commands and environments."""

    def __init__(self, folder: Path, *, users: Path, redis_port: int) -> None:
        self._folder = folder
        self._users = users
        self._redis_port = redis_port
        self._started: list[Process] = []

    def start(self, service: str, **settings: object) -> Process:
        """The service; where the host has other paths, ports and addresses than a container, the host's hold."""
        target = composed()[service]["build"]["target"]
        words = json.loads(stages()[target].last("ENTRYPOINT")) + composed()[service].get("command", [])
        process = Process(self.here(words), self.environment(service, **settings), self._log())
        self._started.append(process)
        return process

    def here(self, words: list[str]) -> list[str]:
        assert words[0] == "python"
        return [sys.executable, *(word.replace("/models", str(self._folder / "models")) for word in words[1:])]

    def environment(self, service: str, **settings: object) -> dict[str, str]:
        target = composed()[service]["build"]["target"]
        given: dict[str, str] = variables(target) | composed()[service].get("environment", {})
        assert all(isinstance(value, str) for value in given.values()), "compose would take it from the host"
        if "SLUICE_REDIS_URL" in given:
            assert given["SLUICE_REDIS_URL"] == f"redis://{service}@redis:6379/0"
            given["SLUICE_REDIS_URL"] = f"redis://{service}@127.0.0.1:{self._redis_port}/0"
            (mounted,) = [one for one in composed()[service]["volumes"] if one.startswith(f"{service}-password:")]
            assert given["SLUICE_REDIS_PASSWORD_FILE"] == f"{mounted.split(':')[1]}/password"
            given["SLUICE_REDIS_PASSWORD_FILE"] = str(self._users / service / "password")
        if "SLUICE_GRPC_PORT" in given:
            given["SLUICE_GRPC_PORT"] = str(free_port())
        given["SLUICE_MODELS_DIR"] = given["SLUICE_MODELS_DIR"].replace("/models", str(self._folder / "models"))
        own = {f"SLUICE_{name.upper()}": str(value) for name, value in settings.items()}
        return {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")} | given | own

    def _log(self) -> Path:
        return self._folder / f"{len(self._started)}.log"

    def kill(self) -> None:
        for process in self._started:
            process.kill()


def made_users(folder: Path) -> Path:
    """What the service `users` makes, in a folder of the host: a subfolder for each of its volumes."""
    service = composed()["users"]
    python, *words = service["entrypoint"] + service["command"]
    assert python == "python"
    words = [word.replace("/users", str(folder / "users")) for word in words]
    subprocess.run([sys.executable, *words], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    made = {str(path.parent.relative_to(folder)) for path in (folder / "users").rglob("*") if path.is_file()}
    assert {volume.split(":")[1].removeprefix("/") for volume in service["volumes"]} == made
    return folder / "users"
