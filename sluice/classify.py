"""`sluice classify`: sends images to the service of this folder, or to one that runs only as long as they take."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ingest.client.__main__ import main as classify
from ingest.client.command import options
from ingest.health import not_ready
from stream.cli import FAILED, complain, sluice
from stream.embedded.run_file import running_folders

#: Seconds between two looks whether the service is ready.
_INTERVAL_S: Final = 0.1

#: The client has its answers when the service ends, so nothing is left to drain. In seconds.
_STOP_S: Final = 30.0


def main(arguments: Sequence[str]) -> int:
    """The exit status: that of the client, or of a service that could not start."""
    given = options(arguments, api_key="")  # A wrong option ends the command before a service starts.
    if any(argument.split("=")[0] == "--url" for argument in arguments):
        return classify(arguments)
    running = list(running_folders().values())
    if len(running) == 1:
        return classify(["--url", f"http://127.0.0.1:{running[0].port}", *arguments])
    port = int(os.environ.get("SLUICE_PORT", "5000"))
    if len(running) > 1 and port not in {run.port for run in running}:
        urls = ", ".join(f"http://127.0.0.1:{run.port} ({run.model})" for run in running)
        return complain("sluice classify", f"several services run here: {urls}. Choose one with --url.", FAILED)
    if running or _listens(port):
        return classify(["--url", f"http://127.0.0.1:{port}", *arguments])
    with _own_service(given.model or _only_model()) as url:
        return classify(["--url", url, *arguments])


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _only_model() -> str:
    """The model of this folder, empty if it has none; exits with status 2 if it has several."""
    folder = Path(os.environ.get("SLUICE_MODELS_DIR", "models"))
    names = sorted({path.parent.parent.name for path in folder.glob("*/*/model.onnx")})
    if len(names) > 1:
        print(f"sluice classify: {folder} holds {', '.join(names)}; choose one with --model", file=sys.stderr)
        raise SystemExit(2)
    return names[0] if names else ""


@contextmanager
def _own_service(model: str) -> Iterator[str]:
    """The URL of a service on a free port, which ends with this block. Exits with its status if it does not start."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    print(
        f"No service runs here, so one starts for these images. `{sluice()} serve` keeps one running.", file=sys.stderr
    )
    with tempfile.TemporaryDirectory(prefix="sluice-classify-") as folder:
        command = [sys.executable, "-m", "sluice", "serve", *([model] if model else []), "--port", str(port)]
        environment = {**os.environ, "SLUICE_DATA_DIR": folder}
        service = subprocess.Popen(command, env=environment, stdout=sys.stderr)
        try:
            url = f"http://127.0.0.1:{port}"
            while not_ready(url):
                if (status := service.poll()) is not None:
                    raise SystemExit(status)
                time.sleep(_INTERVAL_S)
            yield url
        finally:
            service.terminate()
            service.wait(_STOP_S)
