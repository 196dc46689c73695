"""`make run`: everything on one machine. Finds or makes the model, then hands over to supervisord, which restarts
what dies, as compose does.

Knows no Redis and no HTTP: it only says which processes run, and with which settings.
"""

import argparse
import os
import socket
import subprocess
import sys
from pathlib import Path

from stream.host.cpu import usable_cores
from stream.settings import Settings

#: What is served where the wanted network's weights cannot be downloaded; its own come in a package.
FALLBACK = "efficientnet-lite0"

CONFIGURATION = Path(__file__).with_name("supervisord.conf")


def main() -> int:
    """Ends only where something is wrong: on success this process becomes supervisord."""
    arguments = _arguments()
    if not _port_is_free(arguments.port):
        print(f"port {arguments.port} is in use, perhaps by another run: make run PORT={arguments.port + 1}")
        return 2
    models_dir = Settings().models_dir
    if status := _make_model(models_dir, arguments.model):
        return status
    environment = _environment(arguments, models_dir)
    Path(environment["SLUICE_DATA_DIR"]).mkdir(parents=True, exist_ok=True)
    supervisord = str(Path(sys.executable).with_name("supervisord"))
    return os.execve(supervisord, [supervisord, "--nodaemon", "--configuration", str(CONFIGURATION)], environment)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--consumers", type=int, default=1)
    parser.add_argument("--model", default="resnet50")
    return parser.parse_args()


def _port_is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _make_model(models_dir: Path, model: str) -> int:
    """Export the model, or the fallback, unless the repository holds it; returns an exit status."""
    if _exists(models_dir, model):
        return 0
    command = [sys.executable, "-m", "export", model, "--output", str(models_dir), "--if-missing"]
    return subprocess.run([*command, "--fallback", FALLBACK], check=False).returncode


def _exists(models_dir: Path, model: str) -> bool:
    return any((models_dir / model).glob("*/model.onnx"))


def _environment(arguments: argparse.Namespace, models_dir: Path) -> dict[str, str]:
    """Settings for all processes; the consumers share the cores between them, and the GPUs where there are any."""
    served = arguments.model if _exists(models_dir, arguments.model) else FALLBACK
    threads = max(1, usable_cores() // arguments.consumers)
    return {
        "SLUICE_DATA_DIR": f".sluice/{arguments.port}",
        "SLUICE_THREADS": str(threads),
        # They spread over the GPUs all the same: one at each before a second at any.
        "SLUICE_CONSUMERS_PER_GPU": str(arguments.consumers),
        **os.environ,
        "SLUICE_PORT": str(arguments.port),
        "SLUICE_MODEL": served,
        "RUN_PYTHON": sys.executable,
        "RUN_CONSUMERS": str(arguments.consumers),
    }


if __name__ == "__main__":
    sys.exit(main())
