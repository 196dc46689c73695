"""`python -m tests.versions lowest|highest`: a fresh environment, an export, a running service, and one answer.

The lowest versions are the floors in pyproject.toml, the highest are what pip finds. Both take minutes, so they are no
part of the suite. The status is 0 if the image was classified.
"""

import importlib.util
import json
import re
import socket
import subprocess
import sys
import tempfile
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

from tests.support.waiting import wait_until

ROOT: Final = Path(__file__).parents[2]

MODEL: Final = "efficientnet-lite0"

START_S: Final = 180


def floors() -> Iterator[str]:
    """`name==floor` for every runtime dependency with a lower bound, for pip's --constraint."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    extras = optional["run"][0].partition("[")[2].rstrip("]").split(",")
    wanted = [name for extra in extras for name in optional[extra]]
    for requirement in wanted:
        found = re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*>=\s*([0-9.]+)", requirement)
        if found is not None:
            marker = requirement.partition(";")[2]
            yield f"{found[1]}=={found[2]}" + (f" ;{marker}" if marker else "")


def install(environment: Path, which: str) -> None:
    """A virtual environment with Sluice of this working tree; raises CalledProcessError with pip's own message."""
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    constraints = environment / "constraints.txt"
    constraints.write_text("\n".join(floors() if which == "lowest" else ()) + "\n")
    pip = [str(environment / "bin/pip"), "install", "--quiet", "--constraint", str(constraints)]
    subprocess.run([*pip, str(ROOT)], check=True)


def installed(environment: Path) -> str:
    """The versions that were chosen, on one line."""
    folders = [str(path) for path in environment.glob("lib/python*/site-packages")]
    names = {requirement.partition("==")[0].lower() for requirement in floors()}
    found = {made.name.lower(): made.version for made in distributions(path=folders) if made.name.lower() in names}
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items()))


@contextmanager
def service(environment: Path, folder: Path) -> Iterator[str]:
    """`sluice serve` of the environment; gives its address, and stops it."""
    port = _free_port()
    command = [str(environment / "bin/sluice"), "serve", MODEL, "--port", str(port)]
    with subprocess.Popen(command, cwd=folder) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def classified(address: str, image: bytes) -> dict[str, object]:
    """The answer to an image, once the service is there."""
    request = urllib.request.Request(f"{address}/predict", image, {"Content-Type": "image/png"})  # noqa: S310
    answers: list[dict[str, object]] = []

    def answered() -> bool:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
                answers.append(json.load(response))
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    wait_until(answered, "an answer", timeout_s=START_S)
    return answers[0]


def main(which: str) -> int:
    found = importlib.util.find_spec("skimage")
    assert found is not None
    assert found.origin is not None
    image = (Path(found.origin).parent / "data" / "chelsea.png").read_bytes()
    with tempfile.TemporaryDirectory(prefix="sluice-versions-") as folder:
        environment, home = Path(folder) / "environment", Path(folder) / "home"
        home.mkdir()
        install(environment, which)
        print(f"{which}: {installed(environment)}")
        with service(environment, home) as address:
            answer = classified(address, image)
    print(json.dumps(answer))
    return 0 if "cat" in json.dumps(answer) or "tabby" in json.dumps(answer) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
