"""Every shell command of README and the documents is run, or listed with the reason why not or the test that runs it.

All run against one service, in a folder like a clone of the repository. Responses have the shape that is printed.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import httpx
import pytest

from tests.docs.commands_not_run import NOT_RUN_HERE
from tests.support.documents import (
    DOCUMENTS,
    ROOT,
    ShownCommand,
    commands_outside_of_console_blocks,
    shown_commands,
    text,
)
from tests.support.images import encoded, scene
from tests.support.models import tiny_model
from tests.support.recorded_server import body, serve
from tests.support.redis.servers import free_port
from tests.support.waiting import PATIENCE_S, wait_until

PATHS = (*DOCUMENTS, ROOT / "examples/README.md")
COMMANDS = [shown for path in PATHS for shown in shown_commands(path)]

#: Names of folders with images in the documents.
IMAGE_FOLDERS = ("photos", "holidays")


@dataclass(frozen=True, slots=True)
class Service:
    """A service of a folder, and a server that has an image and receives webhooks. `request_id` has a result."""

    folder: Path
    port: int
    grpc_port: int
    other_url: str
    request_id: str

    def here(self, command: str) -> str:
        """The command or program with the addresses and ids of this service."""
        replaced = {
            "http://127.0.0.1:5000": f"http://127.0.0.1:{self.port}",
            "127.0.0.1:5000": f"127.0.0.1:{self.port}",
            "127.0.0.1:5001": f"127.0.0.1:{self.grpc_port}",
            ".sluice/5000": f".sluice/{self.port}",
            "-m ingest.client": f"-m ingest.client --url http://127.0.0.1:{self.port}",
            "https://example.com": self.other_url,
        }
        for shown, real in replaced.items():
            command = command.replace(shown, real)
        return re.sub(r"\bID\b|\b[0-9a-f]{32}\b", self.request_id, command)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`sluice serve` with a model of the name that the documents show, images by URL, webhooks and gRPC."""
    folder = tmp_path_factory.mktemp("clone")
    tiny_model.build(folder / "models", name="efficientnet-lite0")
    image = encoded(scene(), "JPEG")
    port, grpc_port = free_port(), free_port()
    settings = {
        "PYTHONPATH": str(ROOT), "SLUICE_WORKERS": "1", "SLUICE_GRPC_PORT": str(grpc_port),
        "SLUICE_FETCH_URLS": "true", "SLUICE_WEBHOOKS": "true", "SLUICE_WEBHOOK_SECRET": "whsec_" + "A" * 32,
        "SLUICE_OUTBOUND_HTTP": "true", "SLUICE_OUTBOUND_NETWORKS": "127.0.0.1/32",
    }  # fmt: skip
    command = [sys.executable, "-m", "sluice", "serve", "--port", str(port), "--consumers", "2"]
    with serve({"/hook": body(b""), "/cat.jpg": body(image, "image/jpeg")}) as other, (folder / "log").open("w") as log:
        running = subprocess.Popen(command, cwd=folder, env={**os.environ, **settings}, stdout=log, stderr=log)
        try:
            wait_until(lambda: _ready(running, folder / "log"), "the service is ready")
            queued = httpx.post(f"http://127.0.0.1:{port}/predict", content=image, headers={"Prefer": "respond-async"})
            yield Service(folder, port, grpc_port, other.url, queued.json()["id"])
        finally:
            running.terminate()
            assert running.wait(PATIENCE_S) == 0


def _ready(running: subprocess.Popen[bytes], log: Path) -> bool:
    assert running.poll() is None, log.read_text()
    return "ready: http" in log.read_text()


@pytest.fixture
def clone(service: Service, tmp_path: Path) -> Path:
    """A folder of its own for each document, with what a clone has after `make run`, and images of one's own."""
    for name in (".sluice", "models"):
        (tmp_path / name).symlink_to(service.folder / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    for name in ("README.md", "docs", "examples", "tests", "ingest"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in IMAGE_FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "cat.jpg").write_bytes(encoded(scene(), "JPEG"))
    return tmp_path


def run(command: str, service: Service, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command in bash, in an activated environment."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "SLUICE_REDIS_URL"},
        "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SLUICE_PORT": str(service.port),
        "SLUICE_API_KEY": "no-key-is-asked-for",
        "SLUICE_WEBHOOKS": "true",
        "SLUICE_WEBHOOK_SECRET": "whsec_" + "A" * 32,
    }
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", service.here(command)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def why_not(shown: ShownCommand) -> str | None:
    """The pattern of the table that this command matches."""
    words = " ".join(shown.command.replace("\\\n", " ").split())
    return next((pattern for pattern in NOT_RUN_HERE if fnmatchcase(words, pattern)), None)


@pytest.mark.parametrize("document", [str(path.relative_to(ROOT)) for path in PATHS])
def test_every_command_runs_as_printed(document: str, service: Service, clone: Path) -> None:
    """With exit status 0; a response in JSON has the fields that are printed below it."""
    run_before: set[ShownCommand] = set()
    for shown in COMMANDS:
        if shown.document != document or shown in run_before or why_not(shown):
            continue
        run_before.add(shown)
        done = run(shown.command, service, clone)
        assert done.returncode == 0, f"{shown.command}\n{done.stdout}{done.stderr}"
        if shown.command.startswith("curl"):
            assert json.loads(done.stdout).get("success", True), done.stdout
            assert done.stdout.endswith("\n")
        if shown.output.startswith("{"):
            response, printed = json.loads(done.stdout), json.loads(shown.output)
            # This model may have finished before the response that says that it has not.
            is_early = printed.get("status") == "queued" and "predictions" in response
            assert is_early or shape(response) == shape(printed), shown.command
        elif shown.output:
            assert words_of(done.stderr + done.stdout) == words_of(shown.output), shown.command


def shape(node: object) -> object:
    """JSON without its values, so that two responses can be compared."""
    match node:
        case dict():
            return {name: shape(one) for name, one in node.items()}
        case list():
            return [shape(one) for one in node]
        case _:
            return type(node).__name__


def words_of(output: str) -> str:
    """Without keys, which differ in each run."""
    return re.sub(r"(?<![\w-])[\w-]{43}(?![\w-])", "KEY", output).strip()


def test_every_command_is_run_or_listed() -> None:
    """None of the table is in no document, and the tests that it names are there."""
    matched = {why_not(shown) for shown in COMMANDS}
    assert [pattern for pattern in NOT_RUN_HERE if pattern not in matched] == []
    for reason in NOT_RUN_HERE.values():
        file, _, test = reason.partition("::")
        assert not test or f"def {test}(" in text(file), reason
    assert len({shown.command for shown in COMMANDS if not why_not(shown)}) > 30


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_commands_stand_in_console_blocks(path: Path) -> None:
    """With a `$`; and what a block shows works without an activated environment."""
    assert commands_outside_of_console_blocks(path) == []
    blocks = "".join(re.findall(r"^```console\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL))
    assert re.findall(r"^\$ (?:python|pip|sluice) .*", blocks, re.MULTILINE) == []


@pytest.mark.parametrize(
    ("document", "number", "printed"),
    [
        ("README.md", 0, r"(0\.\d{4} class_\d\n){5}"),
        ("docs/api.md", 2, r"\[\[b'0\.\d+:\d:class_\d' b'0\.\d+:\d:class_\d'\]\]\n"),
        ("docs/api.md", 3, r"\[\[b'0\.\d+:\d:class_\d' b'0\.\d+:\d:class_\d'\]\]\n"),
    ],
)
def test_every_python_program_prints_what_it_says(
    document: str, number: int, printed: str, service: Service, clone: Path
) -> None:
    """The others are run by tests/ingest/client/test_client.py and tests/ingest/api/test_generated_clients.py, and by
    examples/receive_webhook.py.
    """
    program = re.findall(r"^```python\n(.*?)^```", text(document), re.MULTILINE | re.DOTALL)[number]
    done = subprocess.run(
        [sys.executable, "-c", service.here(program)],
        cwd=clone, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert re.fullmatch(printed, done.stdout), done
