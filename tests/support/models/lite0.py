"""EfficientNet-Lite0 with its real ImageNet weights, as `make run` exports it on a machine without a network."""

import fcntl
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

#: A proxy that refuses every connection stands for a machine without a network, also on one that has it.
NO_NETWORK = dict.fromkeys(("https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9")


@dataclass(frozen=True, slots=True)
class Exported:
    """The repository with the model, and the process that has written it."""

    models_dir: Path
    ended: subprocess.CompletedProcess[str]


def export(folder: Path) -> Exported:
    """`python -m export` of a network whose weights can't be downloaded, with Lite0 to fall back on."""
    models_dir = folder / "models"
    command = ["-m", "export", "mobilenet", "--output", str(models_dir), "--fallback", "efficientnet-lite0"]
    ended = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **NO_NETWORK, "KERAS_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Exported(models_dir, ended)


def exported_once(folder: Path) -> Exported:
    """What the first process that asks for it in this folder has exported, for all others, too."""
    kept = folder / "lite0.json"
    with (folder / "lite0.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            ended = export(folder / "lite0").ended
            kept.write_text(json.dumps([ended.args, ended.returncode, ended.stdout, ended.stderr]))
    return Exported(folder / "lite0" / "models", subprocess.CompletedProcess(*json.loads(kept.read_text())))
