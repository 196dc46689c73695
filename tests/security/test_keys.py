"""API keys: how they are kept and looked after, and who gets in with which, over HTTP."""

import base64
import contextlib
import hashlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from starlette.routing import Route

from ingest import keys
from ingest.app import create_app
from ingest.auth.api_keys import BadKey, Keyring, ReloadingKeyring, StoredKey, from_lines, from_variable, new_key
from ingest.start_checks import refuse_open_bind
from stream.settings import IngestSettings
from tests.ingest.test_app import png, ranked
from tests.support.processes import ROOT, Processes
from tests.support.redis.requests_direct import random_images
from tests.support.waiting import wait_until

(IMAGE,) = random_images(1)
CHALLENGE = 'Basic realm="sluice", charset="UTF-8", Bearer realm="sluice"'
ALICE, BOB = "a" * 16 + new_key(), "b" * 16 + new_key()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def basic(key: str) -> dict[str, str]:
    """As a browser sends what its user typed."""
    return {"Authorization": f"Basic {base64.b64encode(f'anybody:{key}'.encode()).decode()}"}


def manage(*arguments: str, file: Path) -> tuple[int, str]:
    """The status of `python -m ingest.keys`, and what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = keys.main([*arguments, "--file", str(file)])
    return status, printed.getvalue().strip()


def owner_of(key: str, keyring: Keyring | ReloadingKeyring) -> str | None:
    """Whose key it is; None if it is not accepted."""
    found = keyring.find(key)
    return found.name if found else None


def test_a_key_opens_in_its_owner_s_name_and_no_other_does() -> None:
    """The first time, when all are compared, and again, when it is known."""
    keyring = Keyring(from_variable(f"alice:{ALICE}, bob:{BOB}"))
    for _ in range(2):
        assert (owner_of(ALICE, keyring), owner_of(BOB, keyring)) == ("alice", "bob")
        assert [owner_of(key, keyring) for key in ("", "x", ALICE[:-1], ALICE + "x", "\udcff\u20ac")] == [None] * 5


def test_a_key_can_follow_an_option() -> None:
    """One in 64 random keys begins with a hyphen, which no command takes for a value."""
    assert not [key for key in (new_key() for _ in range(2000)) if key.startswith("-")]


def test_the_stored_form_holds_no_key() -> None:
    """A salt of its own for each, and a hash that can be computed by hand."""
    one, other = StoredKey.of("alice", ALICE), StoredKey.of("alice", ALICE)
    assert one.encode() != other.encode()
    name, kind, salt, digest = one.encode().split(":")
    assert (name, kind, len(salt)) == ("alice", "sha256", 32)
    assert digest == hashlib.sha256(bytes.fromhex(salt) + ALICE.encode()).hexdigest()
    assert StoredKey.decode(one.encode()) == one


@pytest.mark.parametrize(
    "variable",
    ["alice:short", ALICE, f"al.ice:{ALICE}", f":{ALICE}", f"{'n' * 64}:{ALICE}", f"alice:{ALICE},bob:x"],
    ids=["a short key", "no name", "a dot in the name", "an empty name", "a long name", "a second one that is short"],
)
def test_a_key_that_can_be_guessed_or_has_no_name_is_refused(variable: str) -> None:
    """The message says what to do, and never holds a key."""
    with pytest.raises(BadKey) as refused:
        from_variable(variable)
    assert ALICE not in str(refused.value)


@pytest.mark.parametrize(
    "line", ["alice", "alice:md5:00:00", "alice:sha256:zz:00", f"alice:sha256:00:{'0' * 63}", "::::"]
)
def test_a_line_of_another_kind_is_refused(line: str) -> None:
    """Comments and empty lines are none."""
    assert from_lines("# a comment\n\n") == []
    with pytest.raises(BadKey):
        from_lines(line)


def test_keys_are_looked_after_from_the_command_line(tmp_path: Path) -> None:
    """Added, listed, removed; the key is printed once, and the file is for its owner alone."""
    file = tmp_path / "keys"
    command = [sys.executable, "-m", "ingest.keys", "add", "alice", "--file", str(file)]
    key = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()
    assert owner_of(key, ReloadingKeyring(file)) == "alice"
    assert re.fullmatch(r"[\w-]{43}", key)
    assert (file.stat().st_mode & 0o777, key in file.read_text()) == (0o600, False)
    manage("add", "bob", file=file)
    manage("add", "alice", file=file)
    assert manage("list", file=file) == (0, "alice (key 1 of 2)\nbob\nalice (key 2 of 2, the newest)")
    assert [manage("remove", "alice", file=file)[0] for _ in range(2)] == [0, 1]
    assert manage("list", file=file) == (0, "bob")
    assert [manage(*words, file=file)[0] for words in (("add", "a b"), ("remove", "bob"))] == [2, 0]
    assert manage("list", file=tmp_path / "nowhere")[0] == 2


def test_a_rotation_ends_with_the_newest_key(tmp_path: Path) -> None:
    """The old key of the name goes; others and the order of the file stay. With one key there is nothing to remove."""
    file = tmp_path / "keys"
    old, _, new = (manage("add", name, file=file)[1] for name in ("alice", "bob", "alice"))
    assert [manage("remove", "alice", "--but-newest", file=file)[0] for _ in range(2)] == [0, 1]
    keyring = ReloadingKeyring(file)
    assert (owner_of(old, keyring), owner_of(new, keyring)) == (None, "alice")
    assert manage("list", file=file) == (0, "bob\nalice")


def test_a_key_file_that_is_missing_can_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message has the command."""
    file = tmp_path / "keys"
    assert keys.main(["list", "--file", str(file)]) == 2
    make = f"python -m ingest.keys add NAME --file {file}"
    assert capsys.readouterr().err == f"python -m ingest.keys: there is no file {file}; make it with: {make}\n"


def test_a_key_file_keeps_its_owner_and_its_rights(tmp_path: Path) -> None:
    """Ingest must still be able to read it. Root may give files away, others to a group of theirs."""
    file = tmp_path / "keys"
    manage("add", "alice", file=file)
    user, group = (10001, 10001) if os.getuid() == 0 else (os.getuid(), [os.getgid(), *os.getgroups()][-1])
    os.chown(file, user, group)
    file.chmod(0o640)
    manage("add", "bob", file=file)
    found = file.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (user, group, 0o640)


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({}, False),
        ({"host": "::1"}, False),
        ({"host": "localhost"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": ""}, True),
        ({"host": "192.168.1.5"}, True),
        ({"host": "photos.example.org"}, True),
        ({"host": "0.0.0.0", "insecure_no_keys": True}, False),
        ({"host": "0.0.0.0", "api_keys": f"alice:{ALICE}"}, False),
        ({"host": "0.0.0.0", "api_keys_file": "keys"}, False),
        ({"host": "0.0.0.0", "public_address": "127.0.0.1"}, False),
        ({"host": "0.0.0.0", "public_address": "0.0.0.0"}, True),
        ({"host": "127.0.0.1", "public_address": "10.0.0.1"}, True),
    ],
)
def test_only_loopback_is_open_to_all(given: dict[str, object], refused: bool) -> None:
    """Unless somebody says so by name; a container says where its host publishes it."""
    assert bool(refuse_open_bind(IngestSettings.model_validate(given))) == refused


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"host": "0.0.0.0"}, "SLUICE_API_KEYS_FILE"),
        ({"api_keys": "alice:secret"}, "openssl rand"),
        ({"api_keys_file": "/nowhere/keys"}, "/nowhere/keys"),
    ],
)
def test_ingest_says_why_it_does_not_listen(processes: Processes, given: dict[str, str], said: str) -> None:
    """Status 2 and one line with what to do, before the port is bound; never the key."""
    process = processes.start("ingest", port=0, **given)
    assert process.wait() == 2
    assert process.text.count("\n") == 1
    assert said in process.text
    assert "secret" not in process.text


def test_without_a_key_nothing_but_health_answers(processes: Processes) -> None:
    """401 before the body is read, on paths that exist and others; with a key all is as ever."""
    processes.consumer(version=1)
    _, url = processes.ingest(api_keys=f"alice:{ALICE},bob:{BOB}")
    with httpx.Client(base_url=url) as client:
        for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
            assert client.get(path).status_code == 200
        requests = [("POST", "/predict"), ("POST", "/predict/tiny"), ("GET", f"/results/{'0' * 32}"),
                    ("GET", "/models"), ("GET", "/live"), ("POST", "/dead-letters/tiny/1-1/replay"),
                    ("DELETE", f"/results/{'0' * 32}"), ("GET", "/nowhere"), ("GET", "/openapi.json"), ("GET", "/docs"),
                    ("GET", "/healthz/"), ("OPTIONS", "/predict"), ("GET", "/metrics"), ("GET", "/"),
                    ("GET", "/page/page.js"), ("GET", "/v20")]  # fmt: skip
        wrong = [{}, bearer("x" * 43), {"X-API-Key": ALICE[:-1]}, {"Authorization": f"Basic {ALICE}"},
                 {"Authorization": "Bearer"}, {"Authorization": "Bearer", "X-API-Key": ALICE},
                 {"Authorization": "Basic !"}, basic(BOB[:-1]), basic("")]  # fmt: skip
        for method, path in requests:
            for headers in wrong:
                answer = client.request(method, path, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), (method, path, headers)
                assert answer.headers["www-authenticate"] == CHALLENGE
                assert answer.headers["content-type"] == "application/problem+json"
        for headers in (
            bearer(ALICE),
            {"Authorization": f"bearer {BOB}"},
            {"X-API-Key": BOB},
            basic(ALICE),
            {**basic("the proxy's"), "X-API-Key": ALICE},
        ):
            answer = client.post("/predict", content=png(IMAGE), headers=headers)
            assert (answer.status_code, answer.json()["predictions"]) == (200, ranked(IMAGE))
        assert client.post("/predict", content=bytes(30 << 20), headers=bearer("x")).status_code == 401


def test_every_route_but_health_asks_for_a_key(processes: Processes) -> None:
    """Whatever the application routes now or later, in the form that the client of the path reads."""
    _, url = processes.ingest(ready=False, api_keys=f"alice:{ALICE}")
    routes = [route for route in create_app(IngestSettings()).routes if isinstance(route, Route)]
    refused = set()
    with httpx.Client(base_url=url) as client:
        for method, path in sorted((method, route.path) for route in routes for method in route.methods or {"GET"}):
            answer = client.request(method, re.sub("{.*?}", "x", path))
            if answer.status_code == 401:
                assert answer.headers["www-authenticate"] == CHALLENGE
                wanted = {"error"} if path.startswith(("/v1", "/v2")) else {"code"}
                assert method == "HEAD" or answer.json().keys() >= wanted
                refused.add(path)
    assert {route.path for route in routes} - refused == {"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}


def test_a_key_counts_and_is_withdrawn_without_a_restart(processes: Processes, tmp_path: Path) -> None:
    """Within about a second; a file that cannot be read shuts nobody out."""
    file = tmp_path / "keys"
    _, first = manage("add", "alice", file=file)
    ingest, url = processes.ingest(ready=False, api_keys_file=file)

    def status(key: str) -> int:
        return httpx.get(f"{url}/nowhere", headers={"X-API-Key": key}).status_code

    assert status(first) == 404
    _, second = manage("add", "alice", file=file)
    wait_until(lambda: status(second) == 404, "the new key counts")
    assert status(first) == 404
    good = file.read_text()
    file.write_text("something else")
    wait_until(lambda: (status(second), ingest.says("cannot read the key file"))[1], "the fault is noticed")
    assert status(second) == 404
    file.write_text(good.splitlines()[1] + "\n")
    wait_until(lambda: status(first) == 401, "the old key is withdrawn")
    assert status(second) == 404
