"""`sluice classify`: sends images to the service of this folder, or to one that runs only as long as they take."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ingest.client.__main__ import main as classify
from ingest.client.command import options
from ingest.health import is_sluice, not_ready, served_models
from sluice.models import DEFAULT
from stream.cli import FAILED, complain, print_unknown_variables, sluice
from stream.embedded.run_file import Running, running_anywhere, running_folders
from stream.settings.variables import unknown_variables

#: Seconds between two looks whether the service is ready.
_INTERVAL_S: Final = 0.1

#: The client has its answers when the service ends, so nothing is left to drain. In seconds.
_STOP_S: Final = 30.0


def main(arguments: Sequence[str]) -> int:
    """The exit status: that of the client, of a service that could not start, or 2 if it is unclear which one to use.

    A service is used if it is the only one in this folder, or the only one of this user and on the default port. If a
    model is named, only services with this model count, and the only one is used wherever it is. None is guessed.
    """
    # A wrong option ends the command before a service starts.
    given = options(arguments, api_key=os.environ.get("SLUICE_API_KEY", ""))
    print_unknown_variables("sluice classify")
    if any(argument.split("=")[0] == "--url" for argument in arguments):
        return classify(arguments)
    here = running_folders()
    running = here or _elsewhere()
    runs = {
        folder: run
        for folder, run in running.items()
        if not given.model or _has(run, given.model, given.api_key, if_unknown=bool(here))
    }
    chosen = _chosen(runs, given.model)
    if chosen is not None:
        model = given.model or runs[chosen].model
        print(f"The images go to {_url(runs[chosen])}{f', to the model {model}' if model else ''}.", file=sys.stderr)
        return classify(["--url", _url(runs[chosen]), *(["--model", model] if model else []), *arguments])
    if runs:
        return _ask(runs)
    why = f"No service here has the model {given.model}" if running else "No service runs here"
    with _own_service(given.model or _only_model(), why) as url:
        return classify(["--url", url, *arguments])


def _has(run: Running, model: str, api_key: str, *, if_unknown: bool) -> bool:
    """Whether a service has this model. If it does not list its models, it may have others than that of its start."""
    models = served_models(_url(run), api_key)
    return model in models or run.model == model or (not models and (if_unknown or not run.model))


def _port() -> int:
    port = os.environ.get("SLUICE_PORT", "5000")
    if not port.isdecimal():
        raise SystemExit(complain("sluice classify", f"SLUICE_PORT is {port!r}, which is no port", FAILED))
    return int(port)


def _url(run: Running) -> str:
    return f"http://127.0.0.1:{run.port}"


def _elsewhere() -> dict[Path, Running]:
    """The services of this user, and one on the default port that is not known, such as that of a container."""
    runs = running_anywhere()
    on_port = Running(pid=0, model="", port=_port())
    if on_port.port not in {run.port for run in runs.values()} and is_sluice(_url(on_port)):
        runs[Path()] = on_port
    return runs


def _chosen(runs: Mapping[Path, Running], model: str) -> Path | None:
    """The folder of the service to use, of those with the named model; None if that is unclear."""
    on_port = [folder for folder, run in runs.items() if run.port == _port()]
    if on_port and (len(runs) == 1 or "SLUICE_PORT" in os.environ):
        return on_port[0]
    return next(iter(runs)) if len(runs) == 1 and (model or running_folders()) else None


def _ask(runs: Mapping[Path, Running]) -> int:
    lines = []
    for folder, run in runs.items():
        about = f" ({run.model})   data in {folder}" if run.model else "   in a container, or of another user"
        lines.append(f"  --url {_url(run)}{about}")
    where = " in this folder" if running_folders() else ", but not in this folder"
    several = f"{len(runs)} services run" if len(runs) > 1 else "a service runs"
    return complain("sluice classify", "\n".join([f"{several}{where}. Name the one to use:", *lines]), FAILED)


def _only_model() -> str:
    """The model of this folder, empty if it has none; exits with status 2 if it has several."""
    folder = Path(os.environ.get("SLUICE_MODELS_DIR", "models"))
    names = sorted({path.parent.parent.name for path in folder.glob("*/*/model.onnx")})
    if len(names) > 1:
        print(f"sluice classify: {folder} holds {', '.join(names)}; choose one with --model", file=sys.stderr)
        raise SystemExit(2)
    return names[0] if names else ""


@contextmanager
def _own_service(model: str, why: str) -> Iterator[str]:
    """The URL of a service on a free port, which ends with this block. Exits with its status if it does not start."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    print(
        f"{why}, so one starts for these images, with {model or f'the default model, {DEFAULT}'}. "
        f"`{sluice()} serve` keeps one running.",
        file=sys.stderr,
    )
    with tempfile.TemporaryDirectory(prefix="sluice-classify-") as folder:
        command = [sys.executable, "-m", "sluice", "serve", *([model] if model else []), "--port", str(port)]
        # Other commands must not find this service, which ends with its images. Nor does it repeat the warnings.
        unknown = unknown_variables(os.environ)
        known = {name: value for name, value in os.environ.items() if name not in unknown}
        environment = {**known, "SLUICE_DATA_DIR": folder, "XDG_STATE_HOME": folder}
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
